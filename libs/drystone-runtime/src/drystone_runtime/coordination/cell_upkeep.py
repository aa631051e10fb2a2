# SPDX-License-Identifier: Apache-2.0
"""All storage nodes of a cell as one UpkeepNode: what each knows put together, each order given to one of them.

Every node knows every volume it has heard of, so most is said many times; a node that was away may know less, or what is not
so any more. Nodes look at the disks before they obey, so an order to one that is wrong does nothing.
Invariants
  U1  A volume, and a slot of it, counts once however many nodes tell of it.
  U2  What could not be asked is said (`unasked`), or the whole question fails; it is never left out in silence.
  U3  All slots of one volume that are healed at a time are healed by one node, which keeps them on disks apart.
  U4  What is freed of a volume is freed by the node that walked it.
  U5  `check` is called right before every order: who leads no more orders nothing (and nodes refuse it: fencing tokens).
  U6  Nodes an order changed nothing for are told to look, as far as they answer; they would find out by themselves.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from drystone_core.errors import DrystoneError, Stale, Unavailable, Unreachable
from drystone_core.ids import VolumeId, volume_text
from drystone_core.ring import Ring
from drystone_core.upkeep import ScrubReport, UpkeepNode, VolumeNames, Wound, Wounds

T = TypeVar("T")
log = logging.getLogger(__name__)
_TELL_SECONDS = 10.0
_Place = tuple[VolumeId, int]


class CellUpkeep:
    """UpkeepNode over the nodes that serve now."""

    def __init__(self, *, nodes: Callable[[], Mapping[str, UpkeepNode]], check: Callable[[], None]) -> None:
        """`nodes`: the registered storage nodes by name; `check` raises when nothing may be ordered any more."""
        self._nodes, self._check = nodes, check
        self._wounded: dict[_Place, list[str]] = {}
        """Who told of the wound."""
        self._known: dict[VolumeId, list[str]] = {}
        """Who listed the volume last."""
        self._walked: dict[VolumeId, str] = {}
        self._healing: dict[VolumeId, tuple[str, int]] = {}
        """Who rebuilds slots of the volume now, and how many."""
        self._healed = asyncio.Event()
        self._silent: tuple[str, ...] = ()

    async def wounds(self) -> Wounds:
        """Each once, as the node that sees most slots tells it: that others see fewer says nothing. Unreachable when no node
        answers."""
        answers, unasked = await self._ask(lambda node: node.wounds())
        found: dict[_Place, Wound] = {}
        wounded: dict[_Place, list[str]] = {}
        for name, wounds in answers.items():
            for wound in wounds:
                place = (wound.volume, wound.slot)
                wounded.setdefault(place, []).append(name)
                known = found.get(place)
                if known is None or (wound.spare, wound.size) > (known.spare, known.size):
                    found[place] = wound
        self._wounded = wounded
        waiting = max((wounds.waiting for wounds in answers.values()), default=0)
        return Wounds(found=tuple(found.values()), waiting=waiting, unasked=unasked)

    async def heal(self, wound: Wound, *, bytes_per_second: int) -> int:
        """By a node that told of it, the next one when that cannot; the last one's error when none can."""
        place = (wound.volume, wound.slot)
        candidates = self._by_turn(wound.volume, self._wounded.get(place, ()))
        error: DrystoneError = Unavailable("no node that told of the wound serves")
        for name in candidates:
            await self._take_turn(wound.volume, name)
            try:
                self._check()
                written = await self._node(name).heal(wound, bytes_per_second=bytes_per_second)
            except Stale:
                raise
            except DrystoneError as failed:
                log.info("upkeep.heal_elsewhere", extra={**_fields(wound.volume, name), "reason": str(failed)})
                error = failed
                continue
            finally:
                self._end_turn(wound.volume)
            await self._tell(wound.volume, [wound.slot], but=name)
            return written
        raise error

    async def closed_volumes_to_scrub(self) -> Sequence[VolumeId]:
        """Each once, those every node has verified least first. Unreachable when a node cannot be asked (U2)."""
        return await self._closed(lambda node: node.closed_volumes_to_scrub())

    async def scrub(self, volume: VolumeId, *, bytes_per_second: int) -> ScrubReport:
        """By one node that knows the volume, the next one when that cannot."""
        return await self._one(volume, lambda node: node.scrub(volume, bytes_per_second=bytes_per_second))

    async def closed_volumes(self) -> Sequence[VolumeId]:
        """Each once. Unreachable when a node cannot be asked (U2)."""
        found = await self._closed(lambda node: node.closed_volumes())
        kept = set(found)
        self._walked = {volume: name for volume, name in self._walked.items() if volume in kept}
        return found

    async def volume_names(self, volume: VolumeId) -> VolumeNames:
        """Walked by one node that knows the volume, the next one when that cannot."""

        async def walk(node: UpkeepNode) -> VolumeNames:
            return await node.volume_names(volume)

        names, walker = await self._one_named(volume, walk)
        self._walked[volume] = walker
        return names

    async def free_stripes(self, volume: VolumeId, records: Sequence[int]) -> int:
        """By the node that walked the volume, in all slots; Unavailable while one is away that is not lost."""
        name = self._walker(volume)
        self._check()
        freed = await self._node(name).free_stripes(volume, records)
        await self._tell(volume, (), but=name)
        return freed

    async def retire(self, volume: VolumeId) -> int:
        """By the node that walked the volume; the others forget it."""
        name = self._walker(volume)
        self._check()
        freed = await self._node(name).retire(volume)
        self._walked.pop(volume, None)
        await self._tell(volume, (), but=name)
        return freed

    async def look_again(self, volume: VolumeId, healed: Sequence[int]) -> None:
        """All nodes, as far as they answer."""
        await self._tell(volume, healed, but="")

    async def _closed(self, question: Callable[[UpkeepNode], Awaitable[Sequence[VolumeId]]]) -> list[VolumeId]:
        answers, unasked = await self._ask(question)
        if unasked:
            raise Unreachable(f"storage nodes {', '.join(unasked)} cannot be asked for their volumes")
        known: dict[VolumeId, list[str]] = {}
        rank: dict[VolumeId, int] = {}
        for name, volumes in answers.items():
            for position, volume in enumerate(volumes):
                known.setdefault(volume, []).append(name)
                rank[volume] = max(rank.get(volume, 0), position)
        self._known = known
        return sorted(known, key=lambda volume: (rank[volume], volume))

    async def _one(self, volume: VolumeId, order: Callable[[UpkeepNode], Awaitable[T]]) -> T:
        return (await self._one_named(volume, order))[0]

    async def _one_named(self, volume: VolumeId, order: Callable[[UpkeepNode], Awaitable[T]]) -> tuple[T, str]:
        error: DrystoneError = Unavailable(f"no storage node that serves knows volume {volume_text(volume)}")
        for name in self._by_turn(volume, self._known.get(volume, ())):
            self._check()
            try:
                return await order(self._node(name)), name
            except Stale:
                raise
            except DrystoneError as failed:
                log.info("upkeep.elsewhere", extra={**_fields(volume, name), "reason": str(failed)})
                error = failed
        if isinstance(error, Unreachable):  # one of several is away: no reason to stop with everything
            error = Unavailable(error.message)
        raise error

    async def _ask(
        self, question: Callable[[UpkeepNode], Awaitable[T]], *, within: float = 60.0
    ) -> tuple[dict[str, T], tuple[str, ...]]:
        """Every node's answer, and the names of those without one; Unreachable when there is none at all."""
        nodes = dict(self._nodes())
        results = await asyncio.gather(*(_bounded(question(node), within) for node in nodes.values()))
        answers = {name: result[0] for name, result in zip(nodes, results, strict=True) if result is not None}
        unasked = tuple(sorted(name for name in nodes if name not in answers))
        if not answers:
            raise Unreachable("no storage node answers")
        if unasked != self._silent:
            if unasked:
                log.warning("upkeep.nodes_unasked", extra={"nodes": ", ".join(unasked)})
            else:
                log.info("upkeep.all_nodes_answer")
            self._silent = unasked
        return answers, unasked

    async def _tell(self, volume: VolumeId, healed: Sequence[int], *, but: str) -> None:
        others = [node for name, node in self._nodes().items() if name != but]
        await asyncio.gather(*(_bounded(node.look_again(volume, healed), _TELL_SECONDS) for node in others))

    async def _take_turn(self, volume: VolumeId, name: str) -> None:
        while (turn := self._healing.get(volume)) is not None and turn[0] != name:
            await self._healed.wait()
        self._healing[volume] = name, (turn[1] if turn is not None else 0) + 1

    def _end_turn(self, volume: VolumeId) -> None:
        name, count = self._healing.pop(volume)
        if count > 1:
            self._healing[volume] = name, count - 1
        else:
            self._healed.set()
            self._healed = asyncio.Event()

    def _walker(self, volume: VolumeId) -> str:
        name = self._walked.get(volume)
        if name is None:
            raise Unavailable(f"volume {volume_text(volume)} was not walked")
        return name

    def _node(self, name: str) -> UpkeepNode:
        node = self._nodes().get(name)
        if node is None:
            raise Unavailable(f"storage node {name} does not serve any more")
        return node

    def _by_turn(self, volume: VolumeId, names: Sequence[str]) -> list[str]:
        """The names, beginning with the one whose turn the volume is, so that work spreads evenly."""
        left = set(names) & set(self._nodes())
        order = []
        while left:
            chosen = Ring(left, points=8).owner(volume_text(volume).encode())
            assert chosen is not None
            order.append(chosen)
            left.discard(chosen)
        return order


async def _bounded(call: Awaitable[T], seconds: float) -> tuple[T] | None:
    """None for no answer; what a node that is superseded or broken says is no answer either."""
    try:
        async with asyncio.timeout(seconds):
            return (await call,)
    except (DrystoneError, TimeoutError):
        return None


def _fields(volume: VolumeId, name: str) -> dict[str, str]:
    return {"volume": volume_text(volume), "node": name}
