// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
)

// never is when a call of unknown outcome returned.
const never = int64(math.MaxInt64 / 4)

// call is one line of a history: one call by one client on one key.
type call struct {
	Key  string `json:"key"`
	Kind string `json:"kind"` // read, put, create, replace or delete
	// Called and Returned are nanoseconds of one clock; Returned is null when the outcome is unknown.
	Called   int64  `json:"called"`
	Returned *int64 `json:"returned"`
	// Value is what was written or read; null: there is no object.
	Value *string `json:"value"`
	// Expected is what a replace asked for.
	Expected *string `json:"expected"`
	// Refused: the condition of a create or replace did not hold.
	Refused bool `json:"refused"`
	// By says for people who called, through which gateway.
	By string `json:"by"`
}

func (c *call) unknown() bool { return c.Returned == nil }

// harmless calls leave a value as it is: without one of them, a history explains no less.
func (c *call) harmless() bool { return c.Kind == "read" || c.Refused }

func (c *call) writes() bool { return c.Kind == "put" || c.Kind == "create" || c.Kind == "replace" }

// wrong says why the call cannot be judged; empty when it can.
func (c *call) wrong() string {
	switch {
	case c.Kind != "read" && c.Kind != "delete" && !c.writes():
		return fmt.Sprintf("kind %q", c.Kind)
	case c.writes() && c.Value == nil:
		return c.Kind + " without a value"
	case c.Kind == "replace" && c.Expected == nil:
		return "replace without an expected value"
	case c.Refused && c.Kind != "create" && c.Kind != "replace":
		return c.Kind + " cannot be refused"
	case c.Returned != nil && *c.Returned < c.Called:
		return "returned before it was called"
	}
	return ""
}

// readHistory returns the calls by key, in order of their beginning.
func readHistory(lines io.Reader) (map[string][]*call, error) {
	byKey, written := map[string][]*call{}, map[string]bool{}
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(make([]byte, 1<<20), 1<<24)
	for number := 1; scanner.Scan(); number++ {
		one := &call{}
		if err := json.Unmarshal(scanner.Bytes(), one); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if wrong := one.wrong(); wrong != "" {
			return nil, fmt.Errorf("line %d: %s", number, wrong)
		}
		if one.writes() {
			if written[one.Key+"\x00"+*one.Value] {
				return nil, fmt.Errorf("line %d: %q is written a second time: a read could not say which write it saw", number, *one.Value)
			}
			written[one.Key+"\x00"+*one.Value] = true
		}
		if one.Kind == "read" && one.unknown() {
			continue // it says nothing
		}
		byKey[one.Key] = append(byKey[one.Key], one)
	}
	for _, calls := range byKey {
		sort.SliceStable(calls, func(i, j int) bool { return calls[i].Called < calls[j].Called })
	}
	return byKey, scanner.Err()
}
