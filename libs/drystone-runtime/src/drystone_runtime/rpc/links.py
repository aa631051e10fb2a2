# SPDX-License-Identifier: Apache-2.0
"""Channels to other services: whom they reach, how they are secured, how they outlive their certificate.

Invariants
  L1  A link over TCP is TLS in both directions; the answering end shows the certificate of the kind of service the link is
      for, of this cell, or the handshake fails. Plaintext is for unix sockets, and for the loopback when a setting says so.
  L2  When the certificate is renewed a link opens a second channel and moves over when that one is ready; calls in progress
      end where they began. No call fails because of it. Authorities that do not know the new certificate yet keep the link
      on the old one, as long as that works.
  L3  A balanced link spreads its calls over all targets that say they serve (Health.Watch), and over those alone.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc

from drystone_core.identity import ServiceKind, server_name
from drystone_core.ports import Clock
from drystone_runtime.addresses import UNIX, is_loopback, split_targets
from drystone_runtime.background import Background
from drystone_runtime.rpc.blocking_link import BlockingLink
from drystone_runtime.rpc.channel import CLIENT_OPTIONS, blocking_channel, plaintext_channel
from drystone_runtime.rpc.counters import RpcCounters
from drystone_runtime.rpc.refusal_log import RefusalLog
from drystone_runtime.rpc.tls import Certificates, day

log = logging.getLogger(__name__)
READY_SECONDS = 10.0
"""A renewed link's new channel has so long to connect before it is tried again."""
_BALANCED = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})
_QUIET = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
_HANDSHAKE = ("handshake", "verification", "Socket closed")
"""Words in gRPC's own texts for a connection that TLS refused, on our side or on theirs."""


class Dialer:
    """Opens the links of one process."""

    def __init__(
        self, *, clock: Clock, background: Background, tls: Certificates | None, plaintext_loopback: bool = False
    ) -> None:
        """Without `tls` only unix sockets are called, and the loopback if `plaintext_loopback`."""
        self._clock, self._background, self._tls = clock, background, tls
        self._plaintext_loopback = plaintext_loopback
        self._refusals = RefusalLog(clock=clock, log=log)
        self.counters = RpcCounters()
        """Of all calls made over these links through `channel.unary` and `channel.stream`."""

    def problem(self, target: str) -> str:
        """Why this target may not be called, in a sentence; empty = it may."""
        hosts = [host for host, _ in split_targets(target)]
        if self._tls is not None or not hosts or (self._plaintext_loopback and all(map(is_loopback, hosts))):
            return ""
        return f"{target}: other hosts are called over TLS: set rpc.tls_ca, rpc.tls_cert and rpc.tls_key"

    def open(self, target: str, kind: ServiceKind, *, balance: bool = False) -> "Link":
        """A link to `unix:/path`, `HOST:PORT`, or several `IP:PORT` with commas; connects when first used.

        `balance`: any of the targets, and of the addresses behind a name, may answer any call.
        """
        if said := self.problem(target):
            raise ValueError(said)
        addresses = split_targets(target)
        make = _Maker(target, addresses, kind, self._tls if addresses else None, balance=balance)
        return Link(make=make, counters=self.counters, background=self._background, refusals=self._refusals)

    def open_blocking(self, target: str, kind: ServiceKind) -> BlockingLink:
        """The same for blocking calls from threads; call it on the loop."""
        if said := self.problem(target):
            raise ValueError(said)
        addresses = split_targets(target)
        tls = self._tls if addresses else None
        make = _Maker(target, addresses, kind, tls, balance=False)
        return BlockingLink(make=make.blocking_channel, tls=tls, background=self._background, clock=self._clock)


class _Maker:
    """Makes the channels of one link."""

    def __init__(
        self,
        target: str,
        addresses: Sequence[tuple[str, int]],
        kind: ServiceKind,
        tls: Certificates | None,
        *,
        balance: bool,
    ) -> None:
        self.tls, self.target = tls, target
        self._uri = _uri(target, addresses)
        self._options: list[tuple[str, int | str]] = [*CLIENT_OPTIONS]
        if balance:
            self._options.append(("grpc.service_config", _BALANCED))
        if tls is not None:
            self._options.append(("grpc.ssl_target_name_override", server_name(tls.identity.cell, kind)))

    def channel(self) -> grpc.aio.Channel:
        if self.tls is None and not self._uri.startswith("unix:"):
            return grpc.aio.insecure_channel(self._uri, options=self._options)
        if self.tls is None:
            return plaintext_channel(self._uri)
        return grpc.aio.secure_channel(self._uri, self.tls.channel_credentials(), options=self._options)

    def blocking_channel(self) -> grpc.Channel:
        if self.tls is not None:
            return grpc.secure_channel(self._uri, self.tls.channel_credentials(), options=self._options)
        if not self._uri.startswith(UNIX):
            return grpc.insecure_channel(self._uri, options=self._options)
        return blocking_channel(self._uri)


class _Generation:
    """One channel of a link and the calls that are on it."""

    __slots__ = ("_calls", "_retire", "channel")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._calls = 0
        self._retire: Callable[[], None] | None = None

    def enter(self, call: Any) -> Any:
        self._calls += 1
        call.add_done_callback(self._left)
        return call

    def retire(self, done: Callable[[], None]) -> None:
        """Call `done` when the last call has ended."""
        self._retire = done
        if not self._calls:
            done()

    def _left(self, _: Any) -> None:
        self._calls -= 1
        if not self._calls and self._retire is not None:
            self._retire()


class Link(grpc.aio.Channel):
    """A channel that changes its certificate under way; what stubs are made from."""

    def __init__(self, *, make: _Maker, counters: RpcCounters, background: Background, refusals: RefusalLog) -> None:
        self._make, self.counters, self._background, self._refusals = make, counters, background, refusals
        self.current = _Generation(make.channel())
        self._old: set[_Generation] = set()
        self._renewing = self._again = self._closed = False
        if make.tls is not None:
            make.tls.on_change(self._renew)

    def failed(self, error: grpc.aio.AioRpcError) -> None:
        """A call over this link failed: say so when it looks as if TLS refused it."""
        text = error.details() or ""
        if self._make.tls is not None and error.code() is grpc.StatusCode.UNAVAILABLE:
            if any(word in text for word in _HANDSHAKE):
                ours = self._make.tls.material
                self._refusals.warn(
                    "rpc.handshake_failed",
                    self._make.target,
                    target=self._make.target,
                    reason=text,
                    identity=str(ours.identity),
                    until=day(ours.not_after),
                )

    def _renew(self) -> None:
        self._again = True
        if not self._renewing and not self._closed:
            self._renewing = True
            self._background.once("rpc.renew_link", self._move_over())

    async def _move_over(self) -> None:
        try:
            while self._again and not self._closed:
                self._again = False
                fresh = _Generation(self._make.channel())
                if not await self._is_ready(fresh.channel):
                    await fresh.channel.close()
                    log.warning("rpc.link_keeps_old_certificate", extra={"target": self._make.target})
                    await asyncio.sleep(1.0)
                    self._again = True
                    continue
                before, self.current = self.current, fresh
                self._old.add(before)
                before.retire(lambda gone=before: self._drop(gone))  # type: ignore[misc]
        finally:
            self._renewing = False

    async def _is_ready(self, fresh: grpc.aio.Channel) -> bool:
        """True as well when the old channel is no better."""
        if self.current.channel.get_state() in _QUIET:
            return True
        try:
            async with asyncio.timeout(READY_SECONDS):
                await fresh.channel_ready()
        except TimeoutError:
            return self.current.channel.get_state() in _QUIET
        return True

    def _drop(self, generation: _Generation) -> None:
        """Called from within gRPC when a call ends: it must not raise. At the end of the process `close` does it."""
        if not self._closed and not self._background.stopped:
            self._old.discard(generation)
            self._background.once("rpc.close_channel", generation.channel.close())

    async def close(self, grace: float | None = None) -> None:
        """Close; calls in progress have `grace` seconds."""
        if self._closed:
            return
        self._closed = True
        if self._make.tls is not None:
            self._make.tls.forget(self._renew)
        for generation in (self.current, *self._old):
            await generation.channel.close(grace)
        self._old.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Of the channel in use."""
        return self.current.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Of the channel in use."""
        await self.current.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Of the channel in use."""
        await self.current.channel.channel_ready()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "unary_unary", method, args, kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "unary_stream", method, args, kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "stream_unary", method, args, kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "stream_stream", method, args, kwargs)


class _Method:
    """A method of a stub: each call goes over the channel the link uses then."""

    __slots__ = ("_generation", "_inner", "_link", "_make", "counter", "failed")

    def __init__(self, link: Link, form: str, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._link = link
        self._make: Callable[[Any], Any] = lambda channel: getattr(channel, form)(method, *args, **kwargs)
        self._generation: _Generation | None = None
        self._inner: Any = None
        self.counter, self.failed = link.counters.of(method), link.failed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        generation = self._link.current
        if generation is not self._generation:
            self._generation, self._inner = generation, self._make(generation.channel)
        return generation.enter(self._inner(*args, **kwargs))


def _uri(target: str, addresses: Sequence[tuple[str, int]]) -> str:
    """As gRPC's resolvers want it."""
    if len(addresses) < 2:
        return f"dns:///{target}" if addresses else target
    six = ":" in addresses[0][0]
    return ("ipv6:" if six else "ipv4:") + ",".join(
        f"[{host}]:{port}" if six else f"{host}:{port}" for host, port in addresses
    )
