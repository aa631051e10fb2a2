# SPDX-License-Identifier: Apache-2.0
"""A node in the registry: itself and its disks under one session, for as long as it runs.

Invariants
  G1  A node's documents all carry one incarnation, and it changes with every session: whoever owned something under an
      earlier one has lost it.
  G2  An id is never in use twice: a live registration of somebody else's is waited for (it may be dying), then refused.
      Only a later start of the same node (the same claim) takes its place at once, and the earlier one is told.
  G3  After a lost session the node is registered again by itself; in between `check` raises.
  G4  A process whose clock is wrong (clocks.py) is not started; one whose clock goes wrong later says so, in its log and to
      the others, and goes on: write ids, floors and cell time refuse what such a clock would spoil.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from drystone_core.check import check
from drystone_core.coordination import (
    ABSENT,
    Coordinator,
    Delete,
    Deleted,
    Document,
    Put,
    Resync,
    Revision,
    Session,
    Written,
)
from drystone_core.errors import Busy, ErrorCode, Refused, Stale, Unavailable
from drystone_core.formats.coordination import DiskDocument, NodeDocument, decode, disk_key, encode, node_key
from drystone_core.ports import Clock, Entropy
from drystone_runtime.background import Background
from drystone_runtime.coordination import clocks
from drystone_runtime.coordination.session import RETRY, unless_over

log = logging.getLogger(__name__)
COMPARE_FIRST = 5.0
COMPARE_EVERY = 30.0
"""Seconds between comparisons of clocks, the first one sooner (nodes that start together cannot ask each other before);
one that was set is compared at once."""
LOOK_EVERY = 1.0


class Registration:
    """Keeps a node registered. `node` and `disks` are as they are to be told; their incarnation is filled in here."""

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        node: NodeDocument,
        disks: Sequence[DiskDocument] = (),
        ttl: float,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._coordinator = coordinator
        self._node, self._disks = node, tuple(disks)
        self._ttl, self._clock, self._entropy = ttl, clock, entropy
        self._session: Session | None = None
        self._revisions: dict[str, Revision] = {}
        self._tried: set[str] = set()
        """Keys that a telling without an answer may have written."""
        self._over: Refused | None = None
        self._background = Background(clock=clock)
        self._answerer = clocks.Answerer(
            coordinator=coordinator, role=node.role, node=node.node, session=lambda: self.session, clock=clock
        )
        self.incarnation = ""
        """Of the present registration."""
        self.clock_fault = ""
        """How this host's clock is wrong, as found last; empty: nothing speaks against it."""

    @property
    def revision(self) -> Revision:
        """Of its documents as written last."""
        return max(self._revisions.values(), default=Revision(0))

    async def start(self) -> None:
        """Register; Refused when the id is another's or the clock is wrong, Unavailable when the coordinator does not
        answer."""
        await self._check_clock()
        await self._register()
        self._background.keep("coordination.registration", self._stay)
        since = self.revision
        self._background.keep("coordination.answers", lambda: self._answerer.run(since))
        self._background.keep("coordination.clock", self._watch_clock)

    @property
    def session(self) -> Session:
        """The present one, to campaign under."""
        check(self._session is not None, "registered")
        assert self._session is not None
        return self._session

    def check(self) -> None:
        """Raise Stale (FENCED) while not registered, Refused for good when another start took the node's place."""
        if self._over is not None:
            raise self._over
        self.session.check()

    async def tell(self, *, node: NodeDocument | None = None, disks: Sequence[DiskDocument] | None = None) -> None:
        """Change what is registered (a disk's free space, draining; what is not among `disks` any more is told no longer);
        Stale when the registration is over just now."""
        self._node = node if node is not None else self._node
        self._disks = tuple(disks) if disks is not None else self._disks
        self.check()
        session = self.session
        puts = self._puts(session, self._revisions)
        self._tried.update(put.key for put in puts)
        try:
            revision = await self._coordinator.commit(*puts, *_left_out(puts, self._revisions))
        except Stale as error:
            if error.code is ErrorCode.FENCED:
                raise
            # An earlier tell whose answer was lost went in after all, or a document is not ours any more.
            own = await self._own(session)
            puts = self._puts(session, own)
            revision = await self._coordinator.commit(*puts, *_left_out(puts, own))
        self._remember(puts, revision, session)

    async def _own(self, session: Session) -> dict[str, Revision]:
        """The revisions of what stands under our session now."""
        found = {}
        for key in {*self._revisions, *self._tried}:
            document = await self._coordinator.get(key)
            if document is not None and document.session == session.id:
                found[key] = document.revision
        return found

    async def stop(self) -> None:
        """Leave: the documents vanish now."""
        await self._background.stop()
        if self._session is not None:
            await self._session.close()

    async def _check_clock(self) -> None:
        """G4, before anything is registered."""
        session = await self._coordinator.open_session(ttl=self._ttl)
        try:
            found = await self._compare(session, self._entropy.token(8).hex())
        finally:
            await session.close()
        if found.fault:
            raise Refused(ErrorCode.INVALID_REQUEST, found.fault)
        if found.asked and not found.differences:
            log.warning("registration.clock_not_compared", extra={"node": self._node.node, "asked": found.asked})

    async def _compare(self, session: Session, incarnation: str) -> clocks.Comparison:
        return await clocks.compare(
            coordinator=self._coordinator,
            session=session,
            node=f"{self._node.role}/{self._node.node}",
            incarnation=incarnation,
            clock=self._clock,
            entropy=self._entropy,
        )

    async def _watch_clock(self) -> None:
        """Compare now and then, and whenever the clock was set; say what is wrong, once."""
        base, due = self._ahead(), self._clock.monotonic() + COMPARE_FIRST
        while True:
            await self._clock.sleep(LOOK_EVERY)
            moved = self._ahead() - base
            if abs(moved) <= clocks.LIMIT and self._clock.monotonic() < due:
                continue
            if abs(moved) > clocks.LIMIT:
                log.warning("registration.clock_was_set", extra={"node": self._node.node, "by_s": round(moved, 1)})
            base, due = self._ahead(), self._clock.monotonic() + COMPARE_EVERY
            try:
                was = self.clock_fault
                self._judge(await self._compare(self.session, self.incarnation))
                if was or self.clock_fault:
                    await self._answerer.tell(self.clock_fault)
            except (Stale, Unavailable, Busy) as error:
                due = 0.0
                log.info("registration.clock_not_compared", extra={"node": self._node.node, "reason": error.message})

    def _judge(self, found: clocks.Comparison) -> None:
        if not found.differences:
            return
        if found.fault and not self.clock_fault:
            log.error("registration.clock_wrong", extra={"node": self._node.node, "reason": found.fault})
        elif self.clock_fault and not found.fault:
            log.info("registration.clock_right_again", extra={"node": self._node.node})
        self.clock_fault = found.fault

    def _ahead(self) -> float:
        """Changes only when the clock is set."""
        return self._clock.wall_us() / 1e6 - self._clock.monotonic()

    async def _register(self) -> None:
        session = await self._coordinator.open_session(ttl=self._ttl)
        self.incarnation = self._entropy.token(8).hex()
        waited_until = self._clock.monotonic() + self._ttl * 1.5 + 2
        try:
            while True:
                found = await self._predecessors(waited_until)
                puts = self._puts(session, found)
                try:
                    self._remember(puts, await self._coordinator.commit(*puts), session)
                    return
                except Stale as error:
                    if error.code is ErrorCode.FENCED:
                        raise Unavailable(error.message) from error
                await self._clock.sleep(RETRY)
        except BaseException:
            await session.close()
            raise

    def _remember(self, puts: Sequence[Put], revision: Revision, session: Session) -> None:
        self._session = session
        self._tried.clear()
        self._revisions = {put.key: revision for put in puts}

    def _puts(self, session: Session, found: dict[str, Revision]) -> list[Put]:
        node = replace(self._node, incarnation=self.incarnation, wall_us=self._clock.wall_us())
        values = {node_key(node.role, node.node): encode(node)}
        for disk in self._disks:
            values[disk_key(disk.disk)] = encode(replace(disk, node=node.node, incarnation=self.incarnation))
        return [
            Put(key=key, value=value, expected=found.get(key, ABSENT), session=session.id)
            for key, value in values.items()
        ]

    async def _predecessors(self, until: float) -> dict[str, Revision]:
        """What an earlier start of this node left; waits for others to vanish, until then."""
        while True:
            found: dict[str, Revision] = {}
            foreign = None
            for key in (node_key(self._node.role, self._node.node), *(disk_key(disk.disk) for disk in self._disks)):
                document = await self._coordinator.get(key)
                if document is not None:
                    found[key] = document.revision
                    foreign = foreign or self._foreign(document)
            if foreign is None:
                return found
            if self._clock.monotonic() >= until:
                raise Refused(ErrorCode.INVALID_REQUEST, foreign)
            await self._clock.sleep(RETRY)

    def _foreign(self, document: Document) -> str | None:
        """Why the document stands in the way; None: an earlier start of this node left it."""
        ours = self._node
        if document.key != node_key(ours.role, ours.node):
            disk = decode(DiskDocument, document.value, key=document.key)
            if disk.node == ours.node:
                return None
            return (
                f"disk {disk.disk} is served by node {disk.node!r}: unmount it there before it is served here, "
                "or take away the copy"
            )
        there = decode(NodeDocument, document.value, key=document.key)
        if there.claim == ours.claim:
            return None
        return (
            f"node id {ours.node!r} is in use by the {ours.role} at {there.endpoint}: give this one an id of its own, "
            "or stop the other"
        )

    async def _stay(self) -> None:
        """Watch over the present registration and make the next one; returns when this node's place is taken for good."""
        while self._over is None:
            session = self.session
            try:
                reason = await unless_over(session, self._displaced())
            except Stale as error:
                reason = error.message
            log.error("registration.lost", extra={"node": self._node.node, "reason": reason})
            await session.close()
            while self._over is None and self.session is session:
                try:
                    await self._register()
                    log.info("registration.renewed", extra={"node": self._node.node, "incarnation": self.incarnation})
                except Refused as error:
                    self._over = error
                except (Unavailable, Busy):
                    await self._clock.sleep(RETRY)

    async def _displaced(self) -> str:
        """Wait until our document is gone or another's; in the latter case for good."""
        key = node_key(self._node.role, self._node.node)
        watch = self._coordinator.watch(key, after=self._revisions[key])
        try:
            while True:
                change = await watch.next()
                held: Document | None = None
                if isinstance(change, Resync):
                    held = next((each for each in change.snapshot.documents if each.key == key), None)
                    gone = held is None
                else:
                    own = [event for event in change.events if _key(event) == key]
                    held = own[-1].document if own and isinstance(own[-1], Written) else None
                    gone = bool(own) and held is None
                if gone:
                    return "its document was deleted"
                if held is not None and held.session != self.session.id:
                    self._over = Refused(
                        ErrorCode.INVALID_REQUEST,
                        f"another process was started as node {self._node.node!r} and took this one's place; if that was "
                        "not meant, its state directory is a copy: give it one of its own",
                    )
                    return self._over.message
        finally:
            await watch.close()


def _left_out(puts: Sequence[Put], told: Mapping[str, Revision]) -> list[Delete]:
    """What was told before and is not now: a disk whose place another one took."""
    kept = {put.key for put in puts}
    return [Delete(key=key, expected=revision) for key, revision in told.items() if key not in kept]


def _key(event: Written | Deleted) -> str:
    return event.document.key if isinstance(event, Written) else event.key
