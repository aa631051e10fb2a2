# SPDX-License-Identifier: Apache-2.0
"""A link for blocking calls from many threads (lanes), which outlives its certificate as links.py's do.

Invariants
  N1  A call ends on the channel it began on; a channel is closed when it is no longer the one in use and no call is on it.
  N2  After a renewal calls move over to a new channel when that one is connected, or when the old certificate has expired;
      a link that was never used moves at once.
The methods are those a stub of unary calls asks for; `Peer` (remote_disk.py) is who uses them.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import grpc

from drystone_core.ports import Clock
from drystone_runtime.background import Background
from drystone_runtime.rpc.tls import Certificates

log = logging.getLogger(__name__)
READY_SECONDS = 5.0
"""A new channel has so long to connect before it is tried again."""


class _Generation:
    """One channel and the calls on it; all under the link's lock."""

    __slots__ = ("calls", "channel", "retired", "used")

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.used = self.retired = False


class BlockingLink:
    """A channel of unary calls; thread-safe."""

    def __init__(
        self, *, make: Callable[[], grpc.Channel], tls: Certificates | None, background: Background, clock: Clock
    ) -> None:
        """`make`: a channel with the certificate as it is then. Renewals are noticed on the loop this is made on."""
        self._make, self._tls, self._background, self._clock = make, tls, background, clock
        self._lock = threading.Lock()
        self._current = _Generation(make())
        self._all = {self._current}
        self._renewing = self._again = self._closed = False
        if tls is not None:
            tls.on_change(self._renew)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> "_Method":
        """For stubs."""
        return _Method(self, lambda channel: channel.unary_unary(method, *args, **kwargs))

    def close(self) -> None:
        """End it; calls in progress fail."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            gone, self._all = self._all, set()
        if self._tls is not None:
            self._tls.forget(self._renew)
        for generation in gone:
            generation.channel.close()

    def enter(self) -> _Generation:
        """A call begins; on which channel."""
        with self._lock:
            generation = self._current
            generation.calls += 1
            generation.used = True
            return generation

    def leave(self, generation: _Generation) -> None:
        """It ended."""
        with self._lock:
            generation.calls -= 1
            last = generation.retired and not generation.calls and generation in self._all
            if last:
                self._all.discard(generation)
        if last:
            generation.channel.close()

    def _renew(self) -> None:
        self._again = True
        if not self._renewing and not self._closed:
            self._renewing = True
            self._background.once("rpc.renew_blocking_link", self._move_over())

    async def _move_over(self) -> None:
        assert self._tls is not None
        expires = self._tls.previous.not_after
        try:
            while self._again and not self._closed:
                self._again = False
                fresh = self._make()
                connected = await asyncio.get_running_loop().run_in_executor(None, _connects, fresh)
                if connected or not self._current.used or self._clock.wall_us() > expires * 1_000_000:
                    self._take(fresh)
                    continue
                fresh.close()
                await self._clock.sleep(1.0)
                self._again = True
        finally:
            self._renewing = False

    def _take(self, fresh: grpc.Channel) -> None:
        generation = _Generation(fresh)
        with self._lock:
            if self._closed:
                idle = generation
            else:
                idle, self._current = self._current, generation
                self._all.add(generation)
                idle.retired = True
                if idle.calls:
                    return
                self._all.discard(idle)
        idle.channel.close()


class _Method:
    """One method of a stub."""

    __slots__ = ("_form", "_inner", "_link")

    def __init__(self, link: BlockingLink, form: Callable[[grpc.Channel], Any]) -> None:
        self._link, self._form = link, form
        self._inner: tuple[_Generation | None, Any] = (None, None)

    def __call__(self, request: Any, **kwargs: Any) -> Any:
        generation = self._link.enter()
        try:
            return self._on(generation)(request, **kwargs)
        finally:
            self._link.leave(generation)

    def future(self, request: Any, **kwargs: Any) -> Any:
        """As gRPC's."""
        generation = self._link.enter()
        try:
            call = self._on(generation).future(request, **kwargs)
        except BaseException:
            self._link.leave(generation)
            raise
        call.add_done_callback(lambda _: self._link.leave(generation))
        return call

    def _on(self, generation: _Generation) -> Any:
        known, inner = self._inner
        if known is not generation:
            inner = self._form(generation.channel)
            self._inner = generation, inner
        return inner


def _connects(channel: grpc.Channel) -> bool:
    try:
        grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
    except grpc.FutureTimeoutError:
        return False
    return True
