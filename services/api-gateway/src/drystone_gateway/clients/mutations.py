# SPDX-License-Identifier: Apache-2.0
"""Mutations on their way to the owners of their tablets, each for as long as it takes until it is decided.

Invariants
  U1  A mutation is sent again, with the same write id, while its owner is away or is just changing: whoever decides it first
      decides it once (R1), and who asks again gets that answer.
  U2  What a process says about the matter itself (Refused, Damaged, Busy, Stale without an owner) is passed on at once.
  U3  Each owner has a line of its own, and an answer is given as soon as it is there: one owner that hangs, or a tablet that
      cannot be decided, holds up nothing that belongs elsewhere. A deletion of a bucket, which waits for all tablets of
      it, shares a call with nothing.
  U4  A process that does not answer holds nobody for longer than it is the owner of anything asked of it.
  U5  Memory: what the lines bound (Coalescer), and each mutation waits for `patience` at most.
States  sent --decided--> answered;  --redirect--> sent elsewhere;  --undecided--> waits --pause--> sent
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial

from drystone_core.errors import Busy, ErrorCode, Stale, Unavailable
from drystone_core.mutations import DeleteBucket, Mutation, Outcome
from drystone_core.ports import Clock, Entropy
from drystone_gateway.clients.routes import Routes
from drystone_runtime.background import Background
from drystone_runtime.rpc.call_context import bounded
from drystone_runtime.rpc.coalesce import Coalescer

Answer = Outcome | BaseException
Send = Callable[[str, Sequence[Mutation]], Awaitable[Sequence[Answer]]]
"""One bulk call to the process of that name; Unavailable, Stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationSettings:
    """Limits; seconds."""

    patience: float = 20.0
    """A mutation waits so long for an owner that decides it."""
    pauses: tuple[float, float] = (0.02, 0.5)
    """Before undecided ones are sent again: at first, and at most."""
    redirects: int = 8
    """Times a mutation is sent elsewhere at once because it was told where."""
    look: float = 0.25
    """Between two looks whether a call still waits at an owner."""
    waiting: int = 16_384
    """At most, for one owner."""
    deletions: int = 16
    """Deletions of buckets under way at one owner."""


@dataclass(slots=True, eq=False)
class _Item:
    mutation: Mutation
    future: "asyncio.Future[Outcome]"
    until: float
    context: Context
    """Of whoever waits: the request's id goes along each time."""
    redirects: int = 0
    sent: "asyncio.Future[Outcome] | None" = None


class Mutations:
    """Sends mutations by `send` to whom `owner(tablet)` names."""

    def __init__(
        self,
        *,
        send: Send,
        owner: Callable[[bytes], str | None],
        clock: Clock,
        entropy: Entropy,
        background: Background,
        settings: MutationSettings | None = None,
    ) -> None:
        self._send_all, self._owner = send, owner
        self._clock, self._entropy, self._background = clock, entropy, background
        self._settings = settings or MutationSettings()
        self._routes = Routes()
        self._lines: dict[tuple[str, bool], Coalescer[Mutation, Outcome]] = {}
        self._later: deque[_Item] = deque()
        self._resending = False
        self.repeated = 0
        """Mutations sent again."""

    def submit(self, mutation: Mutation) -> "asyncio.Future[Outcome]":
        """Decided and durable when done; Unavailable when no owner decides it in time."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        until = self._clock.monotonic() + bounded(self._settings.patience)
        item = _Item(mutation, future, until, copy_context())
        future.add_done_callback(partial(_withdraw, item))
        self._send(item)
        return future

    def _send(self, item: _Item) -> None:
        name = self._owner(self._routes.tablet(item.mutation))
        if name is None:
            self._undecided(item, Unavailable("no metadata process owns the tablet just now"))
            return
        try:
            item.sent = self._line(name, alone=isinstance(item.mutation, DeleteBucket)).submit(item.mutation)
        except Busy as error:
            item.future.set_exception(error)
            return
        item.sent.add_done_callback(partial(self._answered, item))

    def _line(self, name: str, *, alone: bool) -> Coalescer[Mutation, Outcome]:
        """To that owner; `alone`: what shares a call with nothing."""
        line = self._lines.get((name, alone))
        if line is None:
            limits = {"batch": 1, "flights": self._settings.deletions, "more": 1} if alone else {}
            line = self._lines[name, alone] = Coalescer(
                send=partial(self._to_owner, name),
                background=self._background,
                waiting=self._settings.waiting,
                **limits,
            )
        return line

    async def _to_owner(self, name: str, batch: Sequence[Mutation]) -> Sequence[Answer]:
        tablets = {self._routes.tablet(mutation) for mutation in batch}
        asking = asyncio.ensure_future(self._send_all(name, batch))
        try:
            while not asking.done() and any(self._owner(tablet) == name for tablet in tablets):
                await asyncio.wait((asking,), timeout=self._settings.look)
            if not asking.done():
                raise Unavailable("the tablet's owner has changed")
            return await asking
        finally:
            asking.cancel()

    def _answered(self, item: _Item, sent: "asyncio.Future[Outcome]") -> None:
        if item.future.done() or sent.cancelled():
            return
        error = sent.exception()
        if error is None:
            item.future.set_result(sent.result())
        elif isinstance(error, Stale) and "owner" in error.details:
            learnt = self._routes.learn(item.mutation, error.details)
            if learnt and item.redirects < self._settings.redirects:
                item.redirects += 1
                item.context.run(self._send, item)
            else:
                self._undecided(item, Unavailable(error.message))
        elif isinstance(error, Unavailable) and error.code is not ErrorCode.DEADLINE_EXCEEDED:
            self._undecided(item, error)
        else:
            item.future.set_exception(error)

    def _undecided(self, item: _Item, error: Unavailable) -> None:
        """It is sent again, unless its time is over."""
        if self._clock.monotonic() + self._settings.pauses[0] >= item.until:
            item.future.set_exception(error)
            return
        self._later.append(item)
        if not self._resending:
            self._resending = True
            self._background.once("mutations.again", self._resend())

    async def _resend(self) -> None:
        """All that wait, after pauses that grow for as long as any do."""
        pause, most = self._settings.pauses
        try:
            while self._later:
                await self._clock.sleep(self._entropy.uniform(pause / 2, pause))
                pause = min(pause * 2, most)
                for _ in range(len(self._later)):
                    item = self._later[0]
                    if not item.future.done():
                        self.repeated += 1
                        item.redirects = 0
                        item.context.run(self._send, item)
                    self._later.popleft()
        finally:
            self._resending = False
            while self._later:  # only when we end: nobody waits for ever
                item = self._later.popleft()
                if not item.future.done():
                    item.future.set_exception(Unavailable("the gateway stops"))


def _withdraw(item: _Item, future: "asyncio.Future[Outcome]") -> None:
    """What nobody waits for is not sent."""
    if item.sent is not None and not item.sent.done():
        item.sent.cancel()
