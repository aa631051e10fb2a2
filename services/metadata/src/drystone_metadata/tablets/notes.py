# SPDX-License-Identifier: Apache-2.0
"""What a tablet's `note` says: which move of a range is under way, in the one place where it is decided.

A tablet gives the upper part of its range away to a new one (a split):
    open, no note  --begin-->  MAKING(child)  --decide: high = middle-->  SPLIT(child, …)  and then the child FILLING --> OPEN
or takes over all that its right neighbour has (a merge): the neighbour is
    open  --close-->  CLOSED, INTO(taker, its epoch)  --decide, in the taker: high = the neighbour's-->  JOINED(neighbour) there,
    until that one is dropped

Invariants
  N1  A move is decided in one tablet by one conditional update; everything before can be undone, everything after be done by
      whoever finds it: SPLIT holds all that the child's statics become.
  N2  A child is opened before its parent's note changes again, and a tablet with such a child is neither split nor closed.
  N3  INTO names the taker's epoch: only an update of that epoch can decide the merge, so a taker whose epoch is higher and
      whose range is not has not decided it and never will.
Format  docs/formats/cassandra.md (v1). Integers are big endian.
"""

from dataclasses import replace
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from drystone_core.errors import Damaged
from drystone_metadata.store.ports import TabletId, TabletPhase, TabletState

_NOTE: Final = Struct(">BBB16sQQQQ")
"""format, kind, id length, batch id, epoch, head, floor, generation; then the id."""
FORMAT: Final = 1


class Move(IntEnum):
    """Kinds of notes."""

    MAKING = 1
    SPLIT = 2
    INTO = 3
    JOINED = 4


class Note(NamedTuple):
    """What `TabletState.note` holds."""

    move: Move
    tablet: TabletId
    """The child, the taker, or the neighbour taken over."""
    epoch: int = 0
    """The taker's."""
    head: int = 0
    """Of the split tablet when that was decided, as the two below: the child goes on from there."""
    batch_id: bytes = bytes(16)
    floor_us: int = 0
    generation: int = 0

    def encode(self) -> bytes:
        """For the statics."""
        body = _NOTE.pack(
            FORMAT, self.move, len(self.tablet), self.batch_id, self.epoch, self.head, self.floor_us, self.generation
        )
        return body + self.tablet


def note_of(state: TabletState) -> Note | None:
    """The note; None when there is none."""
    if not state.note:
        return None
    if len(state.note) < _NOTE.size or state.note[0] != FORMAT:
        raise Damaged("note of a tablet of a newer format")
    _, move, size, batch_id, epoch, head, floor_us, generation = _NOTE.unpack_from(state.note)
    tablet = TabletId(state.note[_NOTE.size : _NOTE.size + size])
    return Note(Move(move), tablet, epoch, head, batch_id, floor_us, generation)


def opened(parent: TabletState, child: TabletState) -> TabletState | None:
    """What a filled child's statics become once its parent's say that the split is decided (N1); None: it is not."""
    note = note_of(parent)
    if note is None or note.move is not Move.SPLIT or note.tablet != parent.child or child.low != parent.high:
        return None
    if child.phase is not TabletPhase.FILLING:
        return None
    return replace(
        child,
        epoch=child.epoch + 1,
        head=note.head,
        batch_id=note.batch_id,
        floor_us=note.floor_us,
        generation=note.generation,
        phase=TabletPhase.OPEN,
        note=b"",
    )
