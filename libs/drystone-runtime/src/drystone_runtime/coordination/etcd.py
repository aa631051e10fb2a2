# SPDX-License-Identifier: Apache-2.0
"""The coordinator over etcd v3 (3.5 or later).

Invariants
  O1  A commit is one transaction that also insists on the cell's identity: it can never change another cell's documents,
      wherever the endpoints' names lead.
  O2  A commit is sent once (drystone_runtime.coordination.etcd_connection N2), so that its outcome is never taken for
      another's; when it is not known, the error says so.
After etcd's client/v3: revisions as tokens, transactions on mod_revision, leases kept alive at a third of their time.
"""

import math
from typing import Any

from drystone.etcd.v1 import etcd_pb2
from drystone_core.check import check
from drystone_core.coordination import (
    ABSENT,
    Change,
    Delete,
    Document,
    Put,
    Require,
    Revision,
    Session,
    SessionId,
    Snapshot,
    Watch,
    check_changes,
)
from drystone_core.errors import DrystoneError, ErrorCode, Refused, Stale, Unavailable
from drystone_core.formats.coordination import CELL
from drystone_core.ids import ClusterId
from drystone_core.keyspace import stale
from drystone_core.ports import Clock, Entropy
from drystone_runtime.background import Background
from drystone_runtime.config_cell import EtcdSettings
from drystone_runtime.coordination.cell import join_cell
from drystone_runtime.coordination.etcd_calls import GRANT, RANGE, REVOKE, TXN
from drystone_runtime.coordination.etcd_connection import EtcdConnection
from drystone_runtime.coordination.etcd_watch import EtcdWatch
from drystone_runtime.coordination.session import LeasedSession

PAGE = 500
"""Documents read by one call."""
_MOD, _VALUE = 2, 3


async def connect(
    *, settings: EtcdSettings, cell: ClusterId | None, create: bool = False, clock: Clock, entropy: Entropy
) -> "EtcdCoordinator":
    """The coordinator of a cell; Refused when etcd holds another one (or none, unless `create`)."""
    problems = settings.problems()
    check(settings.endpoints and not problems, f"checked settings: {problems}")
    coordinator = EtcdCoordinator(settings=settings, clock=clock, entropy=entropy)
    try:
        await coordinator.join(cell=cell, create=create)
    except BaseException:
        await coordinator.close()
        raise
    return coordinator


class EtcdCoordinator:
    """A Coordinator; made by `connect`."""

    def __init__(self, *, settings: EtcdSettings, clock: Clock, entropy: Entropy) -> None:
        self._settings, self._clock = settings, clock
        self._prefix = settings.prefix.encode()
        self._connection = EtcdConnection(settings=settings, clock=clock, entropy=entropy)
        self._background = Background(clock=clock)
        self._sessions: list[LeasedSession] = []
        self._cell = b""

    async def join(self, *, cell: ClusterId | None, create: bool) -> None:
        """Compare the cell's identity, or make it."""
        found = await join_cell(self, cell=cell, create=create, clock=self._clock, where=self._connection.where)
        self._cell = found.value

    async def get(self, key: str) -> Document | None:
        """The document, read linearizably."""
        request = etcd_pb2.RangeRequest(key=self._key(key))
        answer = await self._connection.call(RANGE, request, repeatable=True)
        return self._document(answer.kvs[0]) if answer.kvs else None

    async def snapshot(self, prefix: str) -> Snapshot:
        """All under the prefix, in pages at one revision."""
        for _ in range(3):
            try:
                return await self._pages(self._key(prefix))
            except DrystoneError as error:
                if "compacted" not in error.message:
                    raise
        raise Unavailable("etcd compacts faster than its documents can be read")

    async def commit(self, *changes: Change) -> Revision:
        """One transaction."""
        check_changes(changes)
        conditions = [self._condition(change) for change in changes if change.expected is not None]
        if self._cell:
            conditions.append(etcd_pb2.Compare(target=_VALUE, key=self._key(CELL), value=self._cell))
        looks = [_look(etcd_pb2.RangeRequest(key=each.key, keys_only=each.target == _MOD)) for each in conditions]
        request = etcd_pb2.TxnRequest(
            compare=conditions,
            success=[self._step(change) for change in changes if not isinstance(change, Require)],
            failure=looks,
        )
        answer = await self._connection.call(TXN, request, repeatable=False)
        if not answer.succeeded:
            raise self._refusal(conditions, answer)
        return Revision(answer.header.revision)

    def watch(self, prefix: str, *, after: Revision | None = None) -> Watch:
        """Changes under the prefix."""

        async def listed() -> Snapshot:
            return await self.snapshot(prefix)

        begin = self._key(prefix)

        async def reached() -> int:
            request = etcd_pb2.RangeRequest(key=begin, keys_only=True)
            answer = await self._connection.call(RANGE, request, repeatable=True, within=self._settings.progress)
            return int(answer.header.revision)

        return EtcdWatch(
            connection=self._connection,
            begin=begin,
            end=_after_prefix(begin),
            after=after,
            listed=listed,
            reached=reached,
            document=self._document,
            progress=self._settings.progress,
            patience=self._settings.timeout,
            clock=self._clock,
            background=self._background,
        )

    async def open_session(self, *, ttl: float) -> Session:
        """A lease that this object keeps alive."""
        asked = self._clock.monotonic()
        # A grant whose answer is lost leaves a lease without keys, which ends by itself: it may be asked for twice.
        granted = await self._connection.call(GRANT, etcd_pb2.LeaseGrantRequest(TTL=math.ceil(ttl)), repeatable=True)
        if granted.error:
            raise Unavailable(f"etcd gives no lease: {granted.error}")
        number = int(granted.ID)

        async def renew(within: float) -> float:
            request = etcd_pb2.LeaseKeepAliveRequest(ID=number)
            return float(await self._connection.keep_alive(request, within=min(within, self._settings.timeout)))

        async def revoke() -> None:
            try:
                await self._connection.call(REVOKE, etcd_pb2.LeaseRevokeRequest(ID=number), repeatable=True)
            except Stale:
                pass  # over already

        session = LeasedSession(
            session=SessionId(number),
            ttl=float(granted.TTL),
            asked=asked,
            renew=renew,
            revoke=revoke,
            clock=self._clock,
            background=self._background,
        )
        self._sessions = [each for each in self._sessions if each.left() > 0] + [session]
        return session

    async def close(self) -> None:
        """Close sessions, watches and connections."""
        for session in self._sessions:
            await session.close()
        await self._background.stop()
        await self._connection.close()

    async def _pages(self, begin: bytes) -> Snapshot:
        end, revision, documents = _after_prefix(begin), 0, list[Document]()
        while True:
            request = etcd_pb2.RangeRequest(key=begin, range_end=end, limit=PAGE, revision=revision)
            answer = await self._connection.call(RANGE, request, repeatable=True)
            documents += [self._document(kv) for kv in answer.kvs]
            revision = revision or int(answer.header.revision)
            if not answer.more:
                return Snapshot(revision=Revision(revision), documents=tuple(documents))
            begin = answer.kvs[-1].key + b"\0"

    def _key(self, key: str) -> bytes:
        return self._prefix + key.encode()

    def _document(self, kv: Any) -> Document:
        return Document(
            key=kv.key[len(self._prefix) :].decode(),
            value=kv.value,
            revision=Revision(kv.mod_revision),
            created=Revision(kv.create_revision),
            session=SessionId(kv.lease),
        )

    def _condition(self, change: Change) -> etcd_pb2.Compare:
        return etcd_pb2.Compare(target=_MOD, key=self._key(change.key), mod_revision=change.expected)

    def _step(self, change: Put | Delete) -> etcd_pb2.RequestOp:
        key = self._key(change.key)
        if isinstance(change, Delete):
            return etcd_pb2.RequestOp(request_delete_range=etcd_pb2.DeleteRangeRequest(key=key))
        return etcd_pb2.RequestOp(request_put=etcd_pb2.PutRequest(key=key, value=change.value, lease=change.session))

    def _refusal(self, conditions: list[etcd_pb2.Compare], answer: etcd_pb2.TxnResponse) -> DrystoneError:
        for condition, look in zip(conditions, answer.responses, strict=True):
            there = look.response_range.kvs
            key = condition.key[len(self._prefix) :].decode()
            if condition.target == _VALUE:
                if not there or there[0].value != condition.value:
                    return Refused(
                        ErrorCode.INVALID_REQUEST,
                        f"{self._connection.where} holds another cell now, or none: nothing was written",
                    )
            else:
                found = there[0].mod_revision if there else ABSENT
                if found != condition.mod_revision:
                    return stale(key, expected=Revision(condition.mod_revision), found=Revision(found))
        return Stale("a document is not as expected")


def _look(request: etcd_pb2.RangeRequest) -> etcd_pb2.RequestOp:
    return etcd_pb2.RequestOp(request_range=request)


def _after_prefix(prefix: bytes) -> bytes:
    """The least key above all that begin with it; prefixes here end in ASCII or UTF-8, never in 0xFF."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
