# SPDX-License-Identifier: Apache-2.0
"""Elections: who leads is who wrote the election's document under a session; the document's revision is the fencing token.

Invariants
  E1  At most one document per election; it is made only where there is none, so each leader's token is greater than all before.
  E2  A leadership ends with its session, when resigned, or when somebody deletes its document; `check` goes by the session.
  E3  What a leader orders carries its token; who carries it out refuses a token below the greatest it has seen, and what
      is written into the coordinator itself carries `guard()`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from drystone_core.coordination import (
    ABSENT,
    Coordinator,
    Delete,
    Deleted,
    Put,
    Require,
    Resync,
    Revision,
    Session,
    Watch,
)
from drystone_core.errors import Busy, DrystoneError, ErrorCode, Stale, Unavailable
from drystone_core.formats.coordination import LeaderDocument, election_key, encode
from drystone_core.ports import Clock
from drystone_runtime.coordination.session import RETRY, unless_over

log = logging.getLogger(__name__)


class Leadership:
    """One term of leading."""

    def __init__(self, *, coordinator: Coordinator, session: Session, key: str, token: Revision) -> None:
        self._coordinator, self._session = coordinator, session
        self.key = key
        self.token = token
        """Greater than that of every earlier leader of this election."""
        self._over = ""

    def check(self) -> None:
        """Raise Stale (FENCED) when it is over. Call it right before ordering anything."""
        self._session.check()
        if self._over:
            raise Stale(f"leads no more: {self._over}", ErrorCode.FENCED, key=self.key)

    def guard(self) -> Require:
        """For a commit that only the present leader may make."""
        return Require(key=self.key, expected=self.token)

    async def ended(self) -> str:
        """Wait until it is over; why."""
        watch = self._coordinator.watch(self.key)
        try:
            reason = await unless_over(self._session, _gone(watch, self.key, self.token))
            self._over = self._over or reason or "its document was deleted"
        except Stale as error:
            self._over = self._over or error.message
        finally:
            await watch.close()
        return self._over

    async def resign(self) -> None:
        """Give it up, so that another may lead at once; Unavailable: with the session at the latest."""
        self._over = self._over or "resigned"
        try:
            await self._coordinator.commit(Delete(key=self.key, expected=self.token))
        except Stale:
            return  # somebody else leads already


async def campaign(
    *, coordinator: Coordinator, session: Session, election: str, leader: LeaderDocument, clock: Clock
) -> Leadership:
    """Wait until this one leads. Stale (FENCED) when the session ends before."""
    key = election_key(election)
    value = encode(leader)
    watch = coordinator.watch(key)
    try:
        while True:
            session.check()
            try:
                token = await coordinator.commit(Put(key=key, value=value, expected=ABSENT, session=session.id))
            except Stale as error:
                if error.code is ErrorCode.FENCED:
                    raise
            except (Unavailable, Busy):
                await clock.sleep(RETRY)
            else:
                return Leadership(coordinator=coordinator, session=session, key=key, token=token)
            own = await _own(coordinator, session, key)
            if own is not None:
                return Leadership(coordinator=coordinator, session=session, key=key, token=own)
            await unless_over(session, _gone(watch, key))
    finally:
        await watch.close()


async def lead(
    *,
    coordinator: Coordinator,
    session: Session,
    election: str,
    leader: LeaderDocument,
    clock: Clock,
    work: Callable[[Leadership], Awaitable[None]],
) -> None:
    """Campaign, then run `work` until it returns (and resign) or the leadership is over (`work` is cancelled, Stale raised)."""
    leadership = await campaign(coordinator=coordinator, session=session, election=election, leader=leader, clock=clock)
    log.info("election.leads", extra={"election": election, "term": leadership.token})
    working = asyncio.ensure_future(work(leadership))
    ending = asyncio.ensure_future(leadership.ended())
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            log.error(
                "election.lost", extra={"election": election, "term": leadership.token, "reason": ending.result()}
            )
            leadership.check()
        await working
    finally:
        for task in (working, ending):
            task.cancel()
        await asyncio.wait((working, ending))
        try:
            await leadership.resign()
        except DrystoneError as error:
            log.info("election.not_resigned", extra={"election": election, "reason": str(error)})


async def _own(coordinator: Coordinator, session: Session, key: str) -> Revision | None:
    """The token, when a commit of unknown outcome made us leader."""
    try:
        document = await coordinator.get(key)
    except (Unavailable, Busy):
        return None
    return document.created if document is not None and document.session == session.id else None


async def _gone(watch: Watch, key: str, token: Revision | None = None) -> str:
    """Wait until there is no such document, or (with a token) none of this term."""
    while True:
        change = await watch.next()
        if isinstance(change, Resync):
            held = [each.created for each in change.snapshot.documents if each.key == key]
            if not held or (token is not None and held[0] != token):
                return ""
        else:
            for event in change.events:
                if isinstance(event, Deleted) and event.key == key and (token is None or event.revision > token):
                    return ""
