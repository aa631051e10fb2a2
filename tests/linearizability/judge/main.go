// SPDX-License-Identifier: Apache-2.0

// Command judge says whether a history of S3 calls is linearizable, key by key, by porcupine.
//
//	judge [-timeout 60s] [-picture FILE.html] < HISTORY
//
// HISTORY holds one call a line (history.go). On stdout comes one JSON object: the verdict `ok`, `violation` (with the key,
// and the calls of the smallest part of its history that was found to have no explanation; FILE shows it), or `undecided`
// (with the keys the time was not enough for). The exit code is 0, 1 or 2; 3 for a history that cannot be read.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

type verdict struct {
	Verdict string   `json:"verdict"`
	Calls   int      `json:"calls"`
	Keys    []string `json:"keys,omitempty"`    // which broke the rule, or were not decided
	Because []*call  `json:"because,omitempty"` // what has no explanation, of the first of Keys
	After   string   `json:"after,omitempty"`   // what was there before these calls: nothing or anything
}

func main() {
	timeout := flag.Duration("timeout", time.Minute, "for all keys together")
	picture := flag.String("picture", "", "where a violation is drawn")
	flag.Parse()
	found, err := judge(*timeout, *picture)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(map[string]int{"ok": 0, "violation": 1, "undecided": 2}[found.Verdict])
}

func judge(timeout time.Duration, picture string) (verdict, error) {
	byKey, err := readHistory(os.Stdin)
	if err != nil {
		return verdict{}, err
	}
	until := time.Now().Add(timeout)
	found := verdict{Verdict: "ok"}
	var broken, undecided []string
	for _, key := range sorted(byKey) {
		found.Calls += len(byKey[key])
		switch check(nothing, byKey[key], until) {
		case porcupine.Illegal:
			broken = append(broken, key)
		case porcupine.Unknown:
			undecided = append(undecided, key)
		}
	}
	if len(broken) > 0 {
		found.Verdict, found.Keys = "violation", broken
		var first int
		first, found.Because = smallest(byKey[broken[0]], time.Now().Add(timeout/4))
		found.After = map[int]string{nothing: "nothing", anything: "anything"}[first]
		if picture != "" {
			model, made := operations(first, found.Because)
			_, info := porcupine.CheckOperationsVerbose(model, within(made), timeout)
			err = porcupine.VisualizePath(model, info, picture)
		}
	} else if len(undecided) > 0 {
		found.Verdict, found.Keys = "undecided", undecided
	}
	return found, err
}

// check judges the calls of one key; a deadline that has passed leaves it undecided.
func check(first int, calls []*call, until time.Time) porcupine.CheckResult {
	left := time.Until(until)
	if left <= 0 {
		return porcupine.Unknown
	}
	model, made := operations(first, calls)
	return porcupine.CheckOperationsTimeout(model, made, left)
}

// within begins the clock at the first call and lets those that never returned end a little after the others, for the
// picture's sake.
func within(made []porcupine.Operation) []porcupine.Operation {
	first, last := never, int64(0)
	for _, one := range made {
		first, last = min(first, one.Call), max(last, one.Call)
		if one.Return != never {
			last = max(last, one.Return)
		}
	}
	for number := range made {
		one := &made[number]
		if one.Return == never {
			one.Return = last + (last-first)/20 + 1
		}
		one.Call, one.Return = one.Call-first, one.Return-first
	}
	return made
}

func sorted(byKey map[string][]*call) []string {
	var keys []string
	for key := range byKey {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
