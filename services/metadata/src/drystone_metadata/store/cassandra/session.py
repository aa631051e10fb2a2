# SPDX-License-Identifier: Apache-2.0
"""One connection to a Cassandra cluster: the driver's threads on one side, the event loop on the other.

Invariants
  S1  A conditional statement is sent once: no retry, no second node, no speculative execution. (A node that has forgotten
      a prepared statement refuses it before it does anything; the driver then prepares and sends it again.)
  S2  Plain reads may be sent twice: when a replica fails, and to a second node when the first is slow; those of a start
      more often.
  S3  Only nodes of the local datacentre are asked (R9): LOCAL_SERIAL means the coordinator's own datacentre.
  S4  No timestamp of ours goes with any statement.
  S5  Completions cross into the loop by a queue with one wake-up for all that gather before the loop runs.
  S6  Statements under way and waiting are bounded; beyond that callers get Busy.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from socket import IPPROTO_TCP, TCP_NODELAY  # noqa: TID251 - two constants; the driver owns the sockets
from typing import Any, Protocol

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import (
    ConstantReconnectionPolicy,
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    NoSpeculativeExecutionPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import PreparedStatement, SimpleStatement, Statement, tuple_factory

from drystone_core.errors import Busy, Unavailable
from drystone_metadata.store.cassandra.outcomes import FAILURES, refused, unavailable
from drystone_metadata.store.cassandra.settings import CassandraSettings

logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # what fails is told, in one line, by whoever called
PROTOCOL = 5
"""Framed and checksummed; the first with Cassandra 4."""
COMMIT = "commit"
"""Profile of conditional statements and SERIAL reads."""
READ = "read"
"""Profile of plain reads."""
SCHEMA = "schema"
LOOKS = 4
"""Each may take `read_timeout`: together longer than nodes take to notice that one of them is gone."""

Rows = list[tuple[Any, ...]]


class Cql(Protocol):
    """What the storage needs of a session; tests put faults between the two."""

    async def run(self, statement: Statement, profile: str) -> Rows:
        """The rows of the (one page) answer; raises what the driver raises."""
        ...


class _ReadAgain(RetryPolicy):  # type: ignore[misc]
    """Plain reads are asked once more, of the next node."""

    def on_read_timeout(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return (self.RETRY if retry_num == 0 else self.RETHROW), None

    def on_unavailable(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST if retry_num == 0 else self.RETHROW), None

    def on_request_error(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST if retry_num == 0 else self.RETHROW), None


class _Connection(Cluster.connection_class):  # type: ignore[misc]
    """Writes and reads in larger pieces than the driver's 4 KiB: a commit or a page is some 100 KiB."""

    in_buffer_size = out_buffer_size = 1 << 16


class CqlSession:
    """The driver's session for one event loop. `connect` makes it, `close` ends it."""

    def __init__(
        self, cluster: Cluster, session: Session, nearby: DCAwareRoundRobinPolicy, settings: CassandraSettings
    ) -> None:
        self.cluster = cluster
        self._nearby = nearby
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Semaphore(settings.concurrent)
        self._waiting = 0
        self._limit = settings.waiting
        self._ended: deque[tuple[asyncio.Future[Rows], Rows | None, BaseException | None]] = deque()
        self._woken = False

    @property
    def datacentre(self) -> str:
        """The datacentre whose nodes are asked."""
        return str(self._nearby.local_dc or "")

    async def run(self, statement: Statement | str, profile: str, host: Any = None) -> Rows:
        """Send a statement and wait for its answer."""
        if self._gate.locked():
            if self._waiting >= self._limit:
                raise Busy("too many metadata statements wait for Cassandra")
            self._waiting += 1
            try:
                await self._gate.acquire()
            finally:
                self._waiting -= 1
        else:
            await self._gate.acquire()
        try:
            ended: asyncio.Future[Rows] = self._loop.create_future()
            sent = self._session.execute_async(statement, execution_profile=profile, host=host)
            sent.add_callbacks(partial(self._end, ended, failure=None), partial(self._fail, ended))
            return await ended
        finally:
            self._gate.release()

    async def look(self, text: str, host: Any = None) -> Rows:
        """A plain read at a start, when nothing is known yet of who is away: asked up to LOOKS times, of other nodes unless
        `host` is named. Unavailable with what the last one said."""
        statement = SimpleStatement(text, is_idempotent=True)
        for attempt in range(1, LOOKS + 1):
            try:
                return await self.run(statement, READ, host)
            except FAILURES as failure:
                if refused(failure) or attempt == LOOKS or host is not None:
                    raise unavailable(failure) from failure
        raise AssertionError

    def _fail(self, ended: "asyncio.Future[Rows]", failure: BaseException) -> None:
        self._end(ended, None, failure)

    def _end(self, ended: "asyncio.Future[Rows]", rows: Rows | None, failure: BaseException | None) -> None:
        """On a thread of the driver (or ours, when the statement failed at once)."""
        self._ended.append((ended, rows, failure))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:
                self._ended.clear()  # the loop is closed: nobody waits any more

    def _hand_over(self) -> None:
        # What is appended before `_woken` is lowered is met below; what is appended after it wakes the loop again.
        self._woken = False
        while self._ended:
            ended, rows, failure = self._ended.popleft()
            if ended.done():
                continue
            if failure is None:
                ended.set_result(rows or [])
            else:
                ended.set_exception(failure)

    async def prepare(self, text: str, *, serial: bool = False, plain_read: bool = False) -> PreparedStatement:
        """A prepared statement; `plain_read` may be sent twice."""
        try:
            statement = await self._aside(partial(self._session.prepare, text))
        except FAILURES as failure:
            raise unavailable(failure) from failure
        if serial:
            statement.consistency_level = ConsistencyLevel.LOCAL_SERIAL
        statement.is_idempotent = plain_read
        return statement

    async def agreed(self) -> bool:
        """Whether all nodes came to have the same schema."""
        return bool(await self._aside(self.cluster.control_connection.wait_for_schema_agreement))

    async def close(self) -> None:
        """End all connections; statements under way fail."""
        await self._aside(self.cluster.shutdown)

    async def _aside(self, call: Callable[[], Any]) -> Any:
        return await self._loop.run_in_executor(None, call)


async def connect(settings: CassandraSettings) -> CqlSession:
    """Reach the cluster; Unavailable with the causes when no contact point answers."""
    nearby = DCAwareRoundRobinPolicy(settings.datacentre)
    cluster = Cluster(
        contact_points=list(settings.contact_points),
        port=settings.port,
        protocol_version=PROTOCOL,
        auth_provider=PlainTextAuthProvider(settings.username, settings.password) if settings.username else None,
        ssl_context=tls_context(settings),
        execution_profiles=_profiles(settings, TokenAwarePolicy(nearby)),
        reconnection_policy=ConstantReconnectionPolicy(settings.reconnect_after, max_attempts=None),
        connection_class=_Connection,
        sockopts=[(IPPROTO_TCP, TCP_NODELAY, 1)],
        connect_timeout=settings.connect_timeout,
        control_connection_timeout=settings.connect_timeout,
        idle_heartbeat_interval=settings.heartbeat,
        idle_heartbeat_timeout=settings.heartbeat,
        max_schema_agreement_wait=settings.schema_timeout,
        compression=False,
        monitor_reporting_enabled=False,
        application_name="drystone",
    )
    try:
        session = await asyncio.get_running_loop().run_in_executor(None, cluster.connect)
    except FAILURES as failure:
        known = sorted({str(host.datacenter) for host in cluster.metadata.all_hosts() if host.datacenter})
        await asyncio.get_running_loop().run_in_executor(None, cluster.shutdown)
        places = ", ".join(f"{host}:{settings.port}" for host in settings.contact_points)
        if known and settings.datacentre and settings.datacentre not in known:
            raise Unavailable(
                f"Cassandra at {places} has no datacentre {settings.datacentre} (it has {', '.join(known)}):"
                " correct `datacentre`"
            ) from failure
        raise Unavailable(f"cannot use Cassandra at {places}: {unavailable(failure).message}") from failure
    session.use_client_timestamp = False
    session.default_fetch_size = None
    return CqlSession(cluster, session, nearby, settings)


def _profiles(settings: CassandraSettings, balancing: TokenAwarePolicy) -> dict[Any, ExecutionProfile]:
    common = {
        "load_balancing_policy": balancing,
        "consistency_level": ConsistencyLevel.LOCAL_QUORUM,
        "serial_consistency_level": ConsistencyLevel.LOCAL_SERIAL,
        "row_factory": tuple_factory,
    }
    once = {"retry_policy": FallthroughRetryPolicy(), "speculative_execution_policy": NoSpeculativeExecutionPolicy()}
    hedged = ConstantSpeculativeExecutionPolicy(settings.hedge_after, 1)
    schema = ExecutionProfile(**common, **once, request_timeout=settings.schema_timeout)
    return {
        COMMIT: ExecutionProfile(**common, **once, request_timeout=settings.commit_timeout),
        READ: ExecutionProfile(
            **common,
            retry_policy=_ReadAgain(),
            speculative_execution_policy=hedged,
            request_timeout=settings.read_timeout,
        ),
        SCHEMA: schema,
        EXEC_PROFILE_DEFAULT: schema,
    }


def tls_context(settings: CassandraSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with names checked, or None when no authority is given."""
    if not settings.tls_ca:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as failure:
        raise Unavailable(f"cannot read the TLS files for Cassandra: {failure}") from failure
    return context
