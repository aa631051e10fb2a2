// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// The register of one key, as porcupine is told of it.
//
// A call of unknown outcome may take effect at any later moment or never. "Never" is the same as "after everything else",
// so it is a call that returns at the end of time, and a condition that does not hold then is no contradiction.
//
// Two things keep the search small; neither changes a verdict, since values are unique in a history:
//   - An unknown write whose value was seen did take effect, before the first call that saw it returned.
//   - Unknown writes of which nothing was ever seen, of the same kind, are alike: they take effect in the order of
//     their calls. (A valid order in which a later one goes first stays valid when the two change places.)

// Values in a register; those of a history follow.
const (
	nothing  = iota // there is no object
	unseen          // whatever an unknown write left that no call saw or named
	anything        // nothing is known of what was before
)

// Kinds of unknown writes that are alike when nothing was seen of them.
const (
	unseenPut = iota
	unseenCreate
	unseenDelete
	unseenKinds
	distinct = -1
)

// state is a value of the register, and how many of each kind of unseen writes were let in.
type state struct {
	value int
	let   [unseenKinds]int
}

// input is a call as the register sees it.
type input struct {
	kind            string
	value, expected int
	refused         bool
	unknown         bool
	alike, turn     int // which of the unknown writes that are alike, and the how manieth
	told            *call
}

func step(before, told, _ interface{}) (bool, interface{}) {
	now, in := before.(state), told.(*input)
	if in.alike != distinct {
		if now.let[in.alike] != in.turn {
			return false, now
		}
		now.let[in.alike]++
	}
	holds := true
	switch {
	case in.kind == "read":
		possible := now.value == in.value || now.value == anything
		now.value = in.value
		return possible, now
	case now.value == anything:
		holds = !in.refused
	case in.kind == "create":
		holds = now.value == nothing
	case in.kind == "replace":
		holds = now.value != nothing && now.value == in.expected
	}
	if !in.unknown && holds == in.refused {
		return false, now
	}
	if holds {
		now.value = in.value
	}
	return true, now
}

// register is the model, with its first value; names are the values' for people.
func register(first int, names []string) porcupine.Model {
	return porcupine.Model{
		Init:              func() interface{} { return state{value: first} },
		Step:              step,
		Equal:             func(one, other interface{}) bool { return one.(state) == other.(state) },
		DescribeOperation: func(told, _ interface{}) string { return describe(told.(*input).told) },
		DescribeState:     func(now interface{}) string { return names[now.(state).value] },
	}
}

// describe says a call in a line.
func describe(c *call) string {
	text := c.Kind
	switch {
	case c.Kind == "read" && c.Value == nil:
		text = "read: nothing"
	case c.Kind == "read":
		text = "read: " + short(c.Value)
	case c.Kind == "replace":
		text = fmt.Sprintf("replace %s by %s", short(c.Expected), short(c.Value))
	case c.Kind != "delete":
		text = c.Kind + " " + short(c.Value)
	}
	if c.unknown() {
		text += ": unknown"
	} else if c.Refused {
		text += ": refused"
	}
	if c.By != "" {
		text += " (" + c.By + ")"
	}
	return text
}

func short(value *string) string {
	if value == nil {
		return "nothing"
	}
	if len(*value) > 8 {
		return (*value)[:8]
	}
	return *value
}

// operations are the calls of one key (in order of their beginning) for porcupine, and the model that judges them. The
// first value is `nothing`, or `anything` for the end of a history.
func operations(first int, calls []*call) (porcupine.Model, []porcupine.Operation) {
	numbers, names := map[string]int{}, []string{"nothing", "something nobody saw", "anything"}
	number := func(value *string) int {
		if value == nil {
			return nothing
		}
		if _, known := numbers[*value]; !known {
			numbers[*value] = len(names)
			names = append(names, short(value))
		}
		return numbers[*value]
	}
	seenBy, named := seen(calls)
	var turns [unseenKinds]int
	var made []porcupine.Operation
	rows := clientRows{}
	for _, one := range calls {
		in := &input{
			kind: one.Kind, value: number(one.Value), expected: number(one.Expected), refused: one.Refused,
			unknown: one.unknown(), alike: distinct, told: one,
		}
		returned := never
		if !one.unknown() {
			returned = *one.Returned
		} else if one.Kind == "delete" {
			in.alike = unseenDelete
		} else if until, was := seenBy[*one.Value]; was && until >= one.Called {
			in.unknown, returned = false, until
		} else if !was && !named[*one.Value] && one.Kind != "replace" {
			in.value, in.alike = unseen, unseenPut
			if one.Kind == "create" {
				in.alike = unseenCreate
			}
		}
		if in.alike != distinct {
			in.turn = turns[in.alike]
			turns[in.alike]++
		}
		row := rows.place(one.Called, returned)
		made = append(made, porcupine.Operation{ClientId: row, Input: in, Call: one.Called, Return: returned})
	}
	return register(first, names), made
}

// seen tells when each value was first certainly there (the earliest return of a call that met it), and which are named.
func seen(calls []*call) (map[string]int64, map[string]bool) {
	first, named := map[string]int64{}, map[string]bool{}
	for _, one := range calls {
		met := one.Value
		if one.Kind == "replace" {
			met = one.Expected
			named[*met] = true
		}
		if met == nil || one.unknown() || one.Refused || (one.Kind != "read" && one.Kind != "replace") {
			continue
		}
		if at, known := first[*met]; !known || *one.Returned < at {
			first[*met] = *one.Returned
		}
	}
	return first, named
}

// clientRows gives calls that overlap different rows of the picture: for each row, when it is free again.
type clientRows []int64

func (rows *clientRows) place(called, returned int64) int {
	for row, free := range *rows {
		if free < called {
			(*rows)[row] = returned
			return row
		}
	}
	*rows = append(*rows, returned)
	return len(*rows) - 1
}
