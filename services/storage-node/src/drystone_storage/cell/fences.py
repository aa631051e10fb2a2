# SPDX-License-Identifier: Apache-2.0
"""Whose orders this node carries out: those of the present leader of the election they belong to.

Invariants
  F1  An order with a token below the greatest seen of its election is refused (Stale, FENCED), also after a restart.
  F2  The greatest token is durable on a disk of this node before the first order that carries it begins.
  F3  Before it begins, orders of earlier leaders that are under way are cancelled and have ended.
What the coordinator last said of the leader counts as seen: so a superseded leader is refused even by a node that its
successor has not called yet, or whose only disk with the document is away.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from drystone_core.errors import ErrorCode, Refused, Stale, Unavailable
from drystone_core.formats.fences import NAME, decode_fences, encode_fences
from drystone_core.ids import ClusterId
from drystone_core.ports import Disk
from drystone_datapath.volume import DiskUnit
from drystone_runtime.documents import read_document, write_document
from drystone_storage.world import World

T = TypeVar("T")
log = logging.getLogger(__name__)
_SECONDS = 5.0
"""For a disk to take the document in, and for a cancelled order to end."""


class Fences:
    """The tokens of one node."""

    def __init__(
        self,
        *,
        world: World,
        cell: ClusterId,
        units: Callable[[], Sequence[DiskUnit]],
        leads: Callable[[str], int],
    ) -> None:
        """`units`: the node's own disks at hand; `leads`: the token the coordinator knows of an election, 0 = none."""
        self._world, self._cell, self._units, self._leads = world, cell, units, leads
        self._seen: dict[str, int] = {}
        self._durable: dict[str, int] = {}
        self._running: dict[str, set[tuple[int, asyncio.Future[Any]]]] = {}
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """What the disks remember; before any order is taken."""
        units = self._units()
        calls = [(unit.lane, partial(_read, unit.disk, self._cell)) for unit in units]
        results = await self._world.lanes.scatter(calls, deadline=self._world.clock.monotonic() + _SECONDS)
        for unit, result in zip(units, results, strict=True):
            if isinstance(result, BaseException):
                log.warning("fences.unreadable", extra={"disk": unit.label, "reason": str(result)})
                continue
            for election, token in result.items():
                self._durable[election] = max(self._durable.get(election, 0), token)
        self._seen = dict(self._durable)

    async def carry_out(self, election: str, token: int, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives. Stale (FENCED): superseded, before or while it ran; Unavailable: F2 or F3 cannot be had."""
        if token <= 0:
            raise Refused(ErrorCode.INVALID_REQUEST, f"nodes of a cell take orders of the leader of {election!r} only")
        self._check(election, token)
        self._seen[election] = token
        await self._remember(election, token)
        await self._end_earlier(election, token)
        self._check(election, token)
        doing = asyncio.ensure_future(work())
        entry = (token, doing)
        running = self._running.setdefault(election, set())
        running.add(entry)
        doing.add_done_callback(lambda _: running.discard(entry))
        try:
            await asyncio.wait((doing,))
        finally:
            doing.cancel()
        if doing.cancelled():
            raise _fenced(election, token, self._seen[election])
        return doing.result()

    def _check(self, election: str, token: int) -> None:
        greatest = max(self._seen.get(election, 0), self._leads(election))
        if token < greatest:
            log.warning("fences.refused", extra={"election": election, "term": token, "greatest": greatest})
            raise _fenced(election, token, greatest)

    async def _remember(self, election: str, token: int) -> None:
        async with self._writing:
            if self._durable.get(election, 0) >= token:
                return
            tokens = {**self._durable, election: token}
            data = encode_fences(self._cell, tokens)
            calls = [(unit.lane, partial(write_document, unit.disk, NAME, data)) for unit in self._units()]
            results = await self._world.lanes.scatter(calls, deadline=self._world.clock.monotonic() + _SECONDS)
            if all(isinstance(result, BaseException) for result in results):
                raise Unavailable("no disk of this node takes the order's token in")
            self._durable = tokens

    async def _end_earlier(self, election: str, token: int) -> None:
        earlier = [doing for held, doing in self._running.get(election, ()) if held < token]
        for doing in earlier:
            doing.cancel()
        if earlier:
            _, late = await asyncio.wait(earlier, timeout=_SECONDS)
            if late:
                raise Unavailable("an order of an earlier leader has not ended yet")


def _fenced(election: str, token: int, greatest: int) -> Stale:
    return Stale(
        f"the leader of {election!r} with token {token} was superseded by {greatest}",
        ErrorCode.FENCED,
        election=election,
        token=str(greatest),
    )


def _read(disk: Disk, cell: ClusterId) -> dict[str, int]:
    try:
        return decode_fences(read_document(disk, NAME), cell)
    except FileNotFoundError:
        return {}
