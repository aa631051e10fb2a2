# SPDX-License-Identifier: Apache-2.0
"""R1: where in the feed the outcome of a recent mutation stands, so that a repeat gets the first answer.

Kept per mutation: 7 bytes of its identity and the 5-byte sequence of its commit, in pages by a keyed hash; the outcome
is read from the feed on the rare hit, where the whole identity is compared.

Invariants
  W1  A mutation that had an effect is remembered from its commit for `window` seconds of monotonic time (a wall clock
      that leaps forgets nothing), or until `limit` younger ones are remembered. What was loaded at a take-over is
      remembered for `window` seconds from then.
  W2  Matching is by the identity in the write id (its last 16 bytes): a client's own retry carries a new issue time.
  W3  A refusal, and a mutation without effect, is remembered only by the process that decided it, the last
      `idle_limit` of them: deciding again is right too, because nothing happened the first time.
  W4  `oldest` is at most the sequence of anything remembered: the feed is kept from there on.
  W5  Nothing here is proportional to what is remembered, except `sweep`, which does a bounded piece a call.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import WriteId
from drystone_core.mutations import Outcome

_PAGES = 0xFFFF
_TAG = 7
_ENTRY = 12
"""7 bytes of identity, 5 of sequence."""
_MARK_EVERY = 1.0
"""Seconds of mutations that age together."""


class _Mark(NamedTuple):
    at: float
    """Monotonic seconds when `sequence` was learned."""
    sequence: int
    total: int
    """Mutations ever learned before it."""


class WriteMemory:
    """Identity → sequences of commits that may hold its outcome. `sweep` gives memory back: call it every second."""

    def __init__(self, *, window: float, limit: int, idle_limit: int = 4096) -> None:
        self._window = window
        self._limit = limit
        self._idle_limit = idle_limit
        self._pages: dict[int, bytearray] = {}
        self._marks: deque[_Mark] = deque()
        self._total = 0
        self._latest = 0.0
        self._loaded: dict[int, bytearray] = {}
        """From the feed at the take-over, in any order; dropped as a whole."""
        self._loaded_oldest = 0
        self._loaded_until = 0.0
        self._idle: dict[bytes, Outcome | tuple[ErrorCode, str, dict[str, str]]] = {}
        self._round: list[int] = []

    def __len__(self) -> int:
        """Mutations in memory, those not yet swept included."""
        return sum(len(page) for pages in (self._pages, self._loaded) for page in pages.values()) // _ENTRY

    @property
    def oldest(self) -> int:
        """Feed records of this sequence and later ones may be asked for; 0 = nothing is remembered."""
        return self._loaded_oldest or (self._marks[0].sequence if self._marks else 0)

    def sequences(self, identity: bytes) -> Sequence[int]:
        """Commits whose feed record may hold this mutation, youngest first; empty when it is new."""
        at = hash(identity) & _PAGES
        page = self._pages.get(at)
        found: Sequence[int] = ()
        if page is not None and (spot := page.find(tag := identity[:_TAG])) >= 0:
            forgotten = self._marks[0].sequence if self._marks else 0
            found = [one for one in reversed(_found(page, tag, spot)) if one >= forgotten]
        if self._loaded and (page := self._loaded.get(at)) is not None:
            found = [*found, *_found(page, identity[:_TAG], page.find(identity[:_TAG]))]
        return found

    def without_effect(self, identity: bytes) -> Outcome | Refused | None:
        """The first answer to a mutation that changed nothing."""
        known = self._idle.get(identity)
        if known is None or isinstance(known, Outcome):
            return known
        code, message, details = known
        return Refused(code, message, **details)

    def learn(self, at: float, sequence: int, identities: Sequence[bytes]) -> None:
        """The mutations of the commit `sequence`, at `at` (monotonic seconds)."""
        marks = self._marks
        if not marks or at - marks[-1].at >= _MARK_EVERY:
            marks.append(_Mark(at, sequence, self._total))
        self._total += len(identities)
        self._latest = at
        _enter(self._pages, sequence, identities)
        while len(marks) > 1 and (marks[1].at <= at - self._window or self._total - marks[0].total > self._limit):
            marks.popleft()

    def learn_idle(self, answers: Iterable[tuple[WriteId, Outcome | Refused]]) -> None:
        """Mutations decided without effect."""
        idle = self._idle
        for write_id, answer in answers:
            identity = write_id[8:]
            known = answer if isinstance(answer, Outcome) else (answer.code, answer.message, dict(answer.details))
            idle.pop(identity, None)
            idle[identity] = known
        while len(idle) > self._idle_limit:
            del idle[next(iter(idle))]

    def load(self, at: float, sequence: int, identities: Sequence[bytes]) -> None:
        """A commit read from the feed at a take-over."""
        self._loaded_oldest = min(sequence, self._loaded_oldest or sequence)
        self._loaded_until = at + self._window
        _enter(self._loaded, sequence, identities)

    def forget_all(self) -> None:
        """Before the feed is read again."""
        self._pages, self._loaded, self._idle = {}, {}, {}
        self._marks.clear()
        self._round = []
        self._loaded_oldest = 0

    def sweep(self, at: float, pages: int = 512) -> None:
        """Give back the memory of what is forgotten, in at most `pages` pages."""
        if self._loaded_oldest and at >= self._loaded_until:
            self._loaded, self._loaded_oldest = {}, 0
        marks = self._marks
        while len(marks) > 1 and marks[1].at <= at - self._window:
            marks.popleft()
        if not marks or self._latest < at - self._window:
            marks.clear()
            self._pages, self._idle, self._round = {}, {}, []
            return
        if not self._round:
            self._round = list(self._pages)
        oldest = marks[0].sequence.to_bytes(5, "big")
        for number in self._round[-pages:]:
            page = self._pages.get(number)
            if page is not None and page[_TAG:_ENTRY] < oldest:
                kept = page[_first_from(page, oldest) :]
                if kept:
                    self._pages[number] = kept
                else:
                    del self._pages[number]
        del self._round[-pages:]


def _enter(pages: dict[int, bytearray], sequence: int, identities: Sequence[bytes]) -> None:
    tail = sequence.to_bytes(5, "big")
    for identity in identities:
        number = hash(identity) & _PAGES
        page = pages.get(number)
        if page is None:
            pages[number] = bytearray(identity[:_TAG] + tail)
        else:
            page += identity[:_TAG] + tail


def _found(page: bytearray, tag: bytes, spot: int) -> list[int]:
    """Sequences of the entries with this tag, from the first occurrence on."""
    found = []
    while spot >= 0:
        if spot % _ENTRY == 0:
            found.append(int.from_bytes(page[spot + _TAG : spot + _ENTRY], "big"))
        spot = page.find(tag, spot + 1)
    return found


def _first_from(page: bytearray, oldest: bytes) -> int:
    """Where the entries of `oldest` and later begin (entries of a page stand in order of sequence)."""
    low, high = 0, len(page) // _ENTRY
    while low < high:
        middle = (low + high) // 2
        if page[middle * _ENTRY + _TAG : (middle + 1) * _ENTRY] < oldest:
            low = middle + 1
        else:
            high = middle
    return low * _ENTRY
