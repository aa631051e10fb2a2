# SPDX-License-Identifier: Apache-2.0
"""R11: digests of key ranges compared between members' files at equal sequence."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from hashlib import blake2b

import apsw

from drystone_core.errors import Unavailable
from drystone_core.formats.rowseal import intact
from drystone_core.ports import Lanes
from drystone_metadata.store.embedded.member import Member
from drystone_metadata.store.embedded.overlay import after
from drystone_metadata.store.ports import RowKey

_RANGE = 1000
_TRIES = 50
_END = RowKey(256, b"", b"")


class _Digest:
    """Of a range in one file."""

    __slots__ = ("last", "sound", "value")

    def __init__(self, value: bytes, last: RowKey | None, *, sound: bool) -> None:
        self.value = value
        self.last = last
        """Of a full range: its last row."""
        self.sound = sound
        """Every row fits its seal."""


async def compare(
    members: Sequence[Member], *, apply: Callable[[Member], Awaitable[None]], lanes: Lanes
) -> tuple[list[str], list[Member]]:
    """(differences in words, members whose file is wrong: unsound rows, or alone against a majority)."""
    differences: list[str] = []
    wrong: list[Member] = []
    start = RowKey(0, b"", b"")
    tries = 0
    while start < _END:
        if tries > _TRIES:
            raise Unavailable("the members' files do not come to the same sequence: they are not compared")
        async with AsyncExitStack() as still:
            for member in members:
                await apply(member)
            for member in members:
                await still.enter_async_context(member.gate)
            if len({member.applied.index for member in members if member.applied is not None}) != 1:
                tries += 1
                continue
            tries = 0
            first, *others = members
            lead = await _digest(first, start, _END, _RANGE, lanes)
            end = after(lead.last) if lead.last is not None else _END
            digests = [lead, *[await _digest(member, start, end, 10 * _RANGE, lanes) for member in others]]
        if len({digest.value for digest in digests}) > 1:
            differences.append(f"rows from {start} to {end} differ between members at equal sequence")
            wrong += [member for member in _judge(members, digests) if member not in wrong]
        start = end
    return differences, wrong


async def _digest(member: Member, start: RowKey, end: RowKey, limit: int, lanes: Lanes) -> _Digest:
    try:
        return await lanes.run(member.unit.reading, partial(_read, member, start, end, limit))
    except apsw.Error as error:
        return _Digest(repr(error).encode() + member.disk_id.encode(), None, sound=False)


def _read(member: Member, start: RowKey, end: RowKey, limit: int) -> _Digest:
    if member.db is None:
        return _Digest(b"no file", None, sound=False)
    digest = blake2b(digest_size=16)
    _, rows = member.db.rows(start, end, limit, inline=False)
    sound = True
    for key, value in rows:
        digest.update(b"%d %d %d %d " % (key.kind, len(key.key), len(key.seq), len(value)))
        digest.update(key.key + key.seq + value)
        sound = sound and intact(*key, value)
    return _Digest(digest.digest(), rows[-1][0] if len(rows) == limit else None, sound=sound)


def _judge(members: Sequence[Member], digests: Sequence[_Digest]) -> list[Member]:
    unsound = [member for member, digest in zip(members, digests, strict=True) if not digest.sound]
    if unsound:
        return unsound if len(unsound) < len(members) else []
    (value, votes), *_ = Counter(digest.value for digest in digests).most_common(1)
    if votes * 2 <= len(members):
        return []
    return [member for member, digest in zip(members, digests, strict=True) if digest.value != value]
