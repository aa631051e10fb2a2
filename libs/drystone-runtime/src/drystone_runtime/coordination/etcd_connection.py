# SPDX-License-Identifier: Apache-2.0
"""Calls to a cluster of etcd: members in turn, a deadline each, the token renewed, errors in our words.

Invariants
  N1  A call is sent only over an established connection; while there is none it ends as Unreachable: nothing happened.
  N2  What may be asked twice goes on to other members until the call's deadline. What may not (a commit) goes on only when
      the member said that it did nothing.
  N3  Every call says that its member must have a leader, so that a member cut off from the others answers nothing old.
  N4  Revisions of linearizable answers never fall below what was seen before the call was made, and the cluster's id stays.
      Otherwise etcd was restored from a backup or replaced: every call from then on raises Damaged (fencing is void).
Certificates and password are read from their files for every new connection, so renewed ones are taken.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc

from drystone.etcd.v1 import etcd_pb2
from drystone_core.errors import Damaged, Unavailable, Unreachable
from drystone_core.ports import Clock, Entropy
from drystone_runtime.config_cell import EtcdSettings
from drystone_runtime.coordination.etcd_calls import (
    AUTHENTICATE,
    KEEP_ALIVE,
    RANGE,
    Method,
    Verdict,
    judge,
    meaning,
    serialize,
)
from drystone_runtime.rpc.cancellation import cancellable

log = logging.getLogger(__name__)
MESSAGE_LIMIT = 256 * 1024 * 1024
"""Bytes of one answer: a watch that catches up is given up to a thousand revisions at once."""
CONNECT_SLICE = 1.0
"""Seconds one member is given to accept a connection before the next is tried."""
PAUSE = 0.1
"""Seconds, about, before all members are tried again."""
_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_READY, _FAILED = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE
_CLOSED = grpc.ChannelConnectivity.SHUTDOWN


class EtcdConnection:
    """Channels to the members of one etcd cluster, one in use at a time."""

    def __init__(self, *, settings: EtcdSettings, clock: Clock, entropy: Entropy) -> None:
        self._settings, self._clock, self._entropy = settings, clock, entropy
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turn = int(entropy.uniform(0, len(settings.endpoints))) % len(settings.endpoints)
        self._token = ""
        self._logging_in = asyncio.Lock()
        self._seen = 0
        self._answered = ""
        self._cluster = 0
        self._damaged: Damaged | None = None
        self.clock = clock

    @property
    def where(self) -> str:
        """For messages."""
        return f"etcd at {', '.join(self._settings.endpoints)} (prefix {self._settings.prefix})"

    async def call(self, method: Method, request: Any, *, repeatable: bool, within: float | None = None) -> Any:
        """One call; N1, N2. Unavailable after `within` seconds (else the settings' timeout)."""
        deadline = self._clock.monotonic() + (within if within is not None else self._settings.timeout)
        renewed = False
        while True:
            endpoint, channel = await self.ready(deadline)
            floor, sent = self._seen, False
            try:
                metadata = await self.metadata(channel)
                patience, sent = self._patience(deadline, repeatable=repeatable), True
                with cancellable():
                    answer = await _unary(channel, method)(request, metadata=metadata, timeout=patience)
            except grpc.aio.AioRpcError as error:
                verdict = judge(error)
                if verdict is Verdict.TOKEN and self._settings.user and not renewed:
                    self._token, renewed = "", True
                    continue
                if verdict in (Verdict.FINAL, Verdict.TOKEN):
                    raise meaning(error, where=endpoint) from error
                self.failed(endpoint, error.details() or error.code().name)
                over = deadline - self._clock.monotonic() < PAUSE
                if over or (sent and not repeatable and verdict is Verdict.UNKNOWN):
                    raise meaning(error, where=endpoint) from error
                await self._clock.sleep(self._entropy.uniform(PAUSE / 4, PAUSE))
                continue
            self._answered = endpoint
            self._observe(answer.header, floor=floor, linear=method.linear)
            return answer

    async def keep_alive(self, request: etcd_pb2.LeaseKeepAliveRequest, *, within: float) -> int:
        """Renew a lease: seconds to live, 0 = over. One short stream each time, so that none can hang."""
        deadline = self._clock.monotonic() + within
        endpoint, channel = await self.ready(deadline)
        try:
            metadata = await self.metadata(channel)
            stream = _stream(channel, KEEP_ALIVE)(
                metadata=metadata, timeout=max(0.05, deadline - self._clock.monotonic())
            )
            with cancellable():
                await stream.write(request)
                answer = await stream.read()
            stream.cancel()
        except asyncio.InvalidStateError as error:
            self.failed(endpoint, "the stream ended")
            raise Unavailable(f"etcd at {endpoint} ended the stream of a renewal") from error
        except grpc.aio.AioRpcError as error:
            if judge(error) is Verdict.TOKEN:
                self._token = ""
            self.failed(endpoint, error.details() or error.code().name)
            raise meaning(error, where=endpoint) from error
        if answer is grpc.aio.EOF:
            self.failed(endpoint, "the stream ended")
            raise Unavailable(f"etcd at {endpoint} ended the stream of a renewal")
        self._observe(answer.header)
        return int(answer.TTL)

    async def stream(self, method: Method) -> tuple[str, Any]:
        """A stream without end over an established connection, and the member it goes to."""
        deadline = self._clock.monotonic() + self._settings.timeout
        endpoint, channel = await self.ready(deadline)
        try:
            metadata = await self.metadata(channel)
        except grpc.aio.AioRpcError as error:
            self.failed(endpoint, error.details() or error.code().name)
            raise meaning(error, where=endpoint) from error
        return endpoint, _stream(channel, method)(metadata=metadata)

    def failed(self, endpoint: str, reason: str) -> None:
        """Something went wrong there: the next call tries the next member."""
        if self._settings.endpoints[self._turn] == endpoint:
            self._turn = (self._turn + 1) % len(self._settings.endpoints)
        if self._answered == endpoint:
            self._answered = ""
            log.info("etcd.member_left", extra={"endpoint": endpoint, "reason": reason})

    def forget_token(self) -> None:
        """The next call logs in again."""
        self._token = ""

    @property
    def seen(self) -> int:
        """The greatest revision of any linearizable answer."""
        return self._seen

    async def ready(self, deadline: float) -> tuple[str, grpc.aio.Channel]:
        """A member with an established connection; Unreachable, with what each said, when there is none by then."""
        while True:
            if self._damaged is not None:
                raise self._damaged
            for _ in self._settings.endpoints:
                endpoint = self._settings.endpoints[self._turn]
                channel = await self._open(endpoint)
                if await self._connected(channel, deadline):
                    return endpoint, channel
                self.failed(endpoint, "no connection")
            if self._clock.monotonic() + PAUSE >= deadline:
                raise Unreachable(f"no member of etcd answers: {await self._reasons()}")
            await self._clock.sleep(self._entropy.uniform(PAUSE / 2, PAUSE))

    async def metadata(self, channel: grpc.aio.Channel) -> tuple[tuple[str, str], ...]:
        """Of every call: N3, and the token."""
        if self._settings.user and not self._token:
            async with self._logging_in:
                if not self._token:
                    self._token = await self._login(channel)
        leader = (("hasleader", "true"),)
        return (*leader, ("token", self._token)) if self._token else leader

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def _login(self, channel: grpc.aio.Channel) -> str:
        try:
            password = await asyncio.to_thread(Path(self._settings.password_file).read_text, "utf-8")
        except OSError as error:
            raise Unreachable(f"the password file of the coordinator cannot be read: {error}") from error
        request = etcd_pb2.AuthenticateRequest(name=self._settings.user, password=password.removesuffix("\n"))
        metadata = (("hasleader", "true"),)
        with cancellable():
            answer = await _unary(channel, AUTHENTICATE)(request, metadata=metadata, timeout=self._settings.timeout)
        return str(answer.token)

    async def _open(self, endpoint: str) -> grpc.aio.Channel:
        channel = self._channels.get(endpoint)
        if channel is not None and not (self._settings.tls_ca and channel.get_state() is _FAILED):
            return channel
        # A connection that TLS may have refused is made anew with the files as they are now.
        if channel is not None:
            del self._channels[endpoint]
            await channel.close()
        if self._settings.tls_ca:
            credentials = await asyncio.to_thread(_credentials, self._settings)
            channel = grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
        return self._channels.setdefault(endpoint, channel)

    async def _connected(self, channel: grpc.aio.Channel, deadline: float) -> bool:
        state = channel.get_state(try_to_connect=True)
        if state is _READY:
            return True
        left = deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(CONNECT_SLICE, left))):
                while state not in (_READY, _FAILED, _CLOSED):
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return state is _READY

    def _patience(self, deadline: float, *, repeatable: bool) -> float:
        """Seconds for one attempt: what can be asked twice leaves time for the other members."""
        left = max(0.05, deadline - self._clock.monotonic())
        return min(left, max(1.0, self._settings.timeout / 3)) if repeatable and len(self._channels) > 1 else left

    def _observe(self, header: etcd_pb2.ResponseHeader, *, floor: int = 0, linear: bool = False) -> None:
        if self._damaged is None and self._cluster not in (0, header.cluster_id):
            self._damage(f"etcd's cluster id changed from {self._cluster:x} to {header.cluster_id:x}")
        elif self._damaged is None and linear and header.revision < floor:
            self._damage(f"etcd went back from revision {floor} to {header.revision}")
        if self._damaged is not None:
            raise self._damaged
        self._cluster = header.cluster_id
        if linear:
            self._seen = max(self._seen, header.revision)

    def _damage(self, what: str) -> None:
        self._damaged = Damaged(
            f"{what}: it was restored from a backup or replaced, so fencing tokens may repeat. Stop all of Drystone, see "
            "docs/formats/coordination.md (restoring etcd), then start again"
        )
        log.error("etcd.went_back", extra={"reason": what, "endpoints": list(self._settings.endpoints)})

    async def _reasons(self) -> str:
        """Why each member cannot be reached, as a call to it says at once."""
        found = []
        for endpoint, channel in sorted(self._channels.items()):
            try:
                with cancellable():
                    await _unary(channel, RANGE)(etcd_pb2.RangeRequest(key=b"\0"), timeout=0.2)
            except grpc.aio.AioRpcError as error:
                found.append(f"{endpoint} ({error.details() or error.code().name})")
        return "; ".join(found) or ", ".join(self._settings.endpoints)


def _unary(channel: grpc.aio.Channel, method: Method) -> Any:
    return channel.unary_unary(method.path, request_serializer=serialize, response_deserializer=method.answer)


def _stream(channel: grpc.aio.Channel, method: Method) -> Any:
    return channel.stream_stream(method.path, request_serializer=serialize, response_deserializer=method.answer)


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials:
    def read(path: str) -> bytes | None:
        return Path(path).read_bytes() if path else None

    try:
        return grpc.ssl_channel_credentials(
            root_certificates=read(settings.tls_ca),
            private_key=read(settings.tls_key),
            certificate_chain=read(settings.tls_cert),
        )
    except OSError as error:
        raise Unreachable(f"a TLS file of the coordinator cannot be read: {error}") from error
