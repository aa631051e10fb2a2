# SPDX-License-Identifier: Apache-2.0
"""R1: what the owner remembers of recent mutations, so that a repeat gets the first answer.

Invariants
  W1  A mutation that had an effect is remembered from its commit (or, after a take-over, from the feed) for
      `window` seconds, or until `limit` younger ones are remembered, whichever comes first.
  W2  Matching is by the identity in the write id (its last 16 bytes): a client's own retry carries a new issue time.
  W3  A refusal, and a mutation without effect, is remembered only by the process that decided it: deciding
      again is right too, because nothing happened the first time.
"""

from collections import deque
from collections.abc import Sequence

from drystone_core.errors import ErrorCode, Refused
from drystone_core.formats.feed import FeedEntry, decode_outcome
from drystone_core.ids import WriteId
from drystone_core.mutations import Outcome


class WriteMemory:
    """Identity → outcome (encoded) or refusal."""

    def __init__(self, *, window_us: int, limit: int) -> None:
        self._window = window_us
        self._limit = limit
        self._known: dict[bytes, bytes | Outcome | tuple[ErrorCode, str, dict[str, str]]] = {}
        self._ages: deque[tuple[int, Sequence[bytes]]] = deque()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def window_us(self) -> int:
        """How long a mutation is remembered, microseconds."""
        return self._window

    def find(self, write_id: WriteId) -> Outcome | Refused | None:
        """The first answer to this mutation, None when it is new."""
        known = self._known.get(write_id[8:])
        if known is None:
            return None
        if isinstance(known, bytes):
            return decode_outcome(known)
        if isinstance(known, Outcome):
            return known
        code, message, details = known
        return Refused(code, message, **details)

    def learn(self, at_us: int, entries: Sequence[FeedEntry]) -> None:
        """A commit's entries."""
        identities = [entry.write_id[8:] for entry in entries]
        for identity, entry in zip(identities, entries, strict=True):
            self._known[identity] = entry.outcome
        self._age(at_us, identities)

    def learn_idle(self, at_us: int, answers: Sequence[tuple[WriteId, Outcome | Refused]]) -> None:
        """Mutations decided without effect."""
        for write_id, answer in answers:
            if isinstance(answer, Refused):
                self._known[write_id[8:]] = (answer.code, answer.message, dict(answer.details))
            else:
                self._known[write_id[8:]] = answer
        self._age(at_us, [write_id[8:] for write_id, _ in answers])

    def forget_all(self) -> None:
        """Before the feed is read again."""
        self._known.clear()
        self._ages.clear()

    def _age(self, at_us: int, identities: Sequence[bytes]) -> None:
        if identities:
            self._ages.append((at_us, identities))
        oldest = at_us - self._window
        ages = self._ages
        while ages and (ages[0][0] < oldest or (len(self._known) > self._limit and len(ages) > 1)):
            for identity in ages.popleft()[1]:
                self._known.pop(identity, None)
