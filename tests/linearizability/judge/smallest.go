// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// smallest is a part of the calls that has no explanation either, and what was there before it. Only what makes it easier
// to explain is left out, so that the part is no contradiction of our own making:
//   - what began after the return that cannot be explained; what was under way then is unknown;
//   - what had returned before some moment, when nothing is known of what was there at that moment;
//   - harmless calls.
func smallest(calls []*call, until time.Time) (int, []*call) {
	ends := returns(calls)
	at := sort.Search(len(ends)-1, func(i int) bool {
		return check(nothing, upTo(calls, ends[i]), until) == porcupine.Illegal
	})
	first, least := nothing, upTo(calls, ends[at])
	ends = returns(least)
	from := sort.Search(len(ends), func(i int) bool {
		return check(anything, since(least, ends[i]), until) != porcupine.Illegal
	})
	if from > 0 {
		first, least = anything, since(least, ends[from-1])
	}
	for step := (len(least) + 1) / 2; step > 0; step /= 2 {
		for begin := 0; begin < len(least); {
			fewer := without(least, begin, step)
			if len(fewer) < len(least) && check(first, fewer, until) == porcupine.Illegal {
				least = fewer
			} else {
				begin += step
			}
		}
	}
	return first, least
}

// returns are the moments at which calls returned, in order.
func returns(calls []*call) []int64 {
	var ends []int64
	for _, one := range calls {
		if !one.unknown() {
			ends = append(ends, *one.Returned)
		}
	}
	slices.Sort(ends)
	return ends
}

// upTo is what had happened when the clock showed `at`.
func upTo(calls []*call, at int64) []*call {
	var kept []*call
	for _, one := range calls {
		if one.Called > at {
			continue
		}
		if one.unknown() || *one.Returned <= at {
			kept = append(kept, one)
		} else if !one.harmless() {
			pending := *one
			pending.Returned = nil
			kept = append(kept, &pending)
		}
	}
	return kept
}

// since is what had not returned yet when the clock showed `at`.
func since(calls []*call, at int64) []*call {
	return keep(calls, func(_ int, one *call) bool { return one.unknown() || *one.Returned >= at })
}

// without leaves out the harmless ones among `count` calls.
func without(calls []*call, begin, count int) []*call {
	return keep(calls, func(number int, one *call) bool {
		return number < begin || number >= begin+count || !one.harmless()
	})
}

func keep(calls []*call, wanted func(int, *call) bool) []*call {
	var kept []*call
	for number, one := range calls {
		if wanted(number, one) {
			kept = append(kept, one)
		}
	}
	return kept
}
