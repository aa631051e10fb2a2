# SPDX-License-Identifier: Apache-2.0
"""The coordinator without etcd: a Keyspace in this process, in a state file when it is to outlive it.

One process holds the file (flock); the others of a standalone store reach what they need through that process. With a
simulated clock and no file this is the simulator's coordinator.

Invariants
  M1  A commit is durable (file replaced, fsynced with its directory) before it is answered; what ended with a session is too.
  M2  After a failed write nothing more is answered: what is on the disk is what counts, and a restart reads it.
  M3  Revisions never go back, not over restarts: each begins above all it may have given before.
State file    docs/formats/coordination.md (v1).
"""

import asyncio
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from drystone_core.check import check
from drystone_core.coordination import (
    Change,
    Changes,
    Document,
    Resync,
    Revision,
    Session,
    SessionId,
    Snapshot,
    Watch,
)
from drystone_core.errors import Damaged, DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.keyspace import Keyspace
from drystone_core.ports import Clock
from drystone_runtime.background import Background
from drystone_runtime.coordination.session import LeasedSession

T = TypeVar("T")
FORMAT = 1
KIND = "drystone coordinator"
EXPIRY_LOOK = 1.0
"""Seconds after which ends of sessions are looked for at the latest."""
RETRY = 0.05
"""Seconds a watch waits before it asks a store again that did not answer."""


class KeyspaceStore:
    """The one store of all coordinators of this process."""

    def __init__(self, *, clock: Clock, file: Path | None = None, history: int = 10_000) -> None:
        self._clock = clock
        self._file = file
        self._history = history
        self._keyspace = Keyspace(history=history)
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._background = Background(clock=clock)
        self._held = -1
        self._broken = ""

    async def open(self) -> None:
        """Load the file; Refused while another process holds it, Damaged when it is not ours."""
        if self._file is not None:
            self._held = _hold(self._file)
            loaded = await asyncio.to_thread(_load, self._file)
            if loaded is not None:
                revision, documents = loaded
                self._keyspace = Keyspace(
                    revision=Revision(revision + 1),
                    documents={document.key: document for document in documents},
                    history=self._history,
                )
            await self._persist()
        self._background.keep("coordination.expiry", self._expire)

    async def close(self) -> None:
        """Let go of the file."""
        await self._background.stop()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    async def get(self, key: str) -> Document | None:
        """A document."""
        async with self._lock:
            return self._sound().get(key)

    async def snapshot(self, prefix: str) -> Snapshot:
        """All under the prefix."""
        async with self._lock:
            return self._sound().snapshot(prefix)

    async def since(self, prefix: str, after: Revision) -> Changes | None:
        """Changes after that revision; None when some are forgotten."""
        async with self._lock:
            return self._sound().since(prefix, after)

    async def commit(self, changes: tuple[Change, ...]) -> Revision:
        """All or nothing, durable."""
        return await self._change(lambda: self._keyspace.commit(changes))

    async def grant(self, ttl: float) -> SessionId:
        """A session."""
        return await self._change(lambda: self._keyspace.grant(ttl, self._clock.monotonic()))

    async def renew(self, session: SessionId) -> float:
        """Seconds it lives from now; 0: over."""
        return await self._change(lambda: self._keyspace.renew(session, self._clock.monotonic()))

    async def revoke(self, session: SessionId) -> None:
        """End a session."""
        await self._change(lambda: self._keyspace.revoke([session]))

    async def compact(self) -> None:
        """Forget all history: watches that are behind will resync."""
        async with self._lock:
            self._keyspace.compact(self._keyspace.revision)

    async def changed(self, after: Revision) -> None:
        """Return once there is something after that revision."""
        while self._keyspace.revision <= after:
            await self._changed.wait()

    def _sound(self) -> Keyspace:
        if self._broken:
            raise Unavailable(self._broken)
        return self._keyspace

    async def _change(self, work: Callable[[], T]) -> T:
        """Do it and make it durable; goes on to its end when the caller gives up, for the memory is ahead of the disk."""
        if self._file is None:
            done = await self._finish(work)
        else:
            done = await asyncio.shield(self._background.once("coordination.change", self._finish(work)))
        if isinstance(done, _Failed):
            raise done.error
        return done

    async def _finish(self, work: Callable[[], T]) -> "T | _Failed":
        async with self._lock:
            try:
                self._sound()
                before = self._keyspace.revision
                self._keyspace.expire(self._clock.monotonic())
                try:
                    return work()
                finally:
                    if self._keyspace.revision != before:
                        await self._persist()
                        self._changed.set()
                        self._changed = asyncio.Event()
            except DrystoneError as error:
                return _Failed(error)

    async def _persist(self) -> None:
        if self._file is None:
            return
        data = _encode(self._keyspace.revision, self._keyspace.permanent())
        try:
            await asyncio.to_thread(_replace, self._file, data)
        except OSError as error:
            self._broken = f"the coordinator's state file cannot be written: {self._file}: {error.strerror}"
            raise Unavailable(self._broken) from error

    async def _expire(self) -> None:
        while True:
            until, now = self._keyspace.next_expiry(), self._clock.monotonic()
            await self._clock.sleep(EXPIRY_LOOK if until is None else min(EXPIRY_LOOK, max(0.001, until - now)))
            await self._change(lambda: None)


@dataclass(frozen=True, slots=True)
class _Failed:
    error: DrystoneError


class EmbeddedCoordinator:
    """A Coordinator over a KeyspaceStore, which several may share."""

    def __init__(self, *, store: KeyspaceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._background = Background(clock=clock)
        self._sessions: list[LeasedSession] = []

    async def get(self, key: str) -> Document | None:
        """The document."""
        return await self._store.get(key)

    async def snapshot(self, prefix: str) -> Snapshot:
        """All under the prefix."""
        return await self._store.snapshot(prefix)

    async def commit(self, *changes: Change) -> Revision:
        """All or nothing."""
        return await self._store.commit(changes)

    def watch(self, prefix: str, *, after: Revision | None = None) -> Watch:
        """Changes after that revision, or from a first Resync."""
        return _EmbeddedWatch(self._store, self._clock, prefix, after)

    async def open_session(self, *, ttl: float) -> Session:
        """A session that this object keeps alive."""
        asked = self._clock.monotonic()
        number = await self._store.grant(ttl)

        async def renew(within: float) -> float:
            return await self._store.renew(number)

        async def revoke() -> None:
            await self._store.revoke(number)

        session = LeasedSession(
            session=number,
            ttl=ttl,
            asked=asked,
            renew=renew,
            revoke=revoke,
            clock=self._clock,
            background=self._background,
        )
        self._sessions = [each for each in self._sessions if each.left() > 0] + [session]
        return session

    async def close(self) -> None:
        """Close its sessions; the store stays."""
        for session in self._sessions:
            await session.close()
        await self._background.stop()


class _EmbeddedWatch:
    def __init__(self, store: KeyspaceStore, clock: Clock, prefix: str, after: Revision | None) -> None:
        self._store, self._clock = store, clock
        self._prefix, self._after = prefix, after
        self._seen = -math.inf
        self._idle = self._closed = False

    async def next(self) -> Changes | Resync:
        while True:
            check(not self._closed, "a closed watch is read no more")
            try:
                found = await self._look()
                if found is not None:
                    return found
            except Unavailable:
                await self._clock.sleep(RETRY)

    def seen_at(self) -> float:
        return self._clock.monotonic() if self._idle else self._seen

    async def close(self) -> None:
        self._closed = True

    async def _look(self) -> Changes | Resync | None:
        now = self._clock.monotonic()
        changes = await self._store.since(self._prefix, self._after) if self._after is not None else None
        if changes is None:
            snapshot = await self._store.snapshot(self._prefix)
            self._after, self._seen = snapshot.revision, now
            return Resync(snapshot=snapshot)
        self._after, self._seen = changes.revision, now
        if changes.events:
            return changes
        self._idle = True
        try:
            await self._store.changed(self._after)
            self._seen = self._clock.monotonic()
        finally:
            self._idle = False
        return None


def _hold(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"{file} is held by another process; stop it, or give this one a state of its own",
        ) from error
    return held


def _encode(revision: Revision, documents: list[Document]) -> bytes:
    body: dict[str, Any] = {
        "format": FORMAT,
        "kind": KIND,
        "revision": revision,
        "documents": [
            {"key": each.key, "value": each.value.hex(), "revision": each.revision, "created": each.created}
            for each in sorted(documents, key=lambda document: document.key)
        ],
    }
    return json.dumps(body | {"check": _digest(body)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _load(file: Path) -> tuple[int, list[Document]] | None:
    try:
        plain = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(f"{file}: not JSON") from error
    if not isinstance(plain, dict) or plain.get("kind") != KIND or plain.get("format") != FORMAT:
        raise Damaged(f"{file}: not a coordinator's state of a format that this version can use")
    if plain.pop("check", None) != _digest(plain):
        raise Damaged(f"{file}: its check does not fit its content")
    return plain["revision"], [
        Document(
            key=each["key"],
            value=bytes.fromhex(each["value"]),
            revision=Revision(each["revision"]),
            created=Revision(each["created"]),
        )
        for each in plain["documents"]
    ]


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _replace(file: Path, data: bytes) -> None:
    fresh = f"{file}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    os.replace(fresh, file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
