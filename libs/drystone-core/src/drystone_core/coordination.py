# SPDX-License-Identifier: Apache-2.0
"""Coordination: small documents with revisions, which end with their writer's session or stay. Who reads what: docs/formats/coordination.md.

Invariants (of every implementation; the suite is drystone_testing.contracts.coordinator)
  K1  A commit happens as a whole, at a revision greater than all before it, or not at all.
  K2  A commit one of whose expectations does not hold changes nothing and raises Stale.
  K3  `get` and `snapshot` see every commit that was acknowledged before they were called.
  K4  A watch gives every change after its beginning once, in order, whole commits together; what it can no longer give
      (compaction) it replaces by a Resync. It outlives connections.
  K5  A session's documents vanish together when it ends, and not before. Its holder learns of the end first: `check` goes
      by the local monotonic clock, asks nobody, and once it has raised it raises for ever.
  K6  Every call ends by its deadline. Unreachable: surely nothing happened. Any other Unavailable from `commit`: it may have
      happened; read, then decide.
Leases do not exclude (a holder may be stopped between its check and its act): what must not happen twice carries a fencing
token (a leader's document's revision) that the receiver compares, or a `Require` in the same commit.
"""

from dataclasses import dataclass
from typing import NewType, Protocol

from drystone_core.check import check
from drystone_core.errors import ErrorCode, Refused

Revision = NewType("Revision", int)
"""Of the whole store; grows with every commit that changes something."""
SessionId = NewType("SessionId", int)

ABSENT = Revision(0)
"""Expected of a key that must not be there."""
NO_SESSION = SessionId(0)
"""The document stays until it is deleted."""
VALUE_LIMIT = 100 * 1024
"""Bytes of one document."""
CHANGES_LIMIT = 120
"""Changes of one commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A key and what stands there."""

    key: str
    value: bytes
    revision: Revision
    """Of its last write: what a compare-and-set expects."""
    created: Revision
    """Of the write that made it."""
    session: SessionId = NO_SESSION
    """It ends with this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All documents under a prefix at one revision."""

    revision: Revision
    documents: tuple[Document, ...]
    """By key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write a document."""

    key: str
    value: bytes
    expected: Revision | None = None
    """The revision it must have now, ABSENT: none; None: whatever."""
    session: SessionId = NO_SESSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove a document; nothing happens when there is none."""

    key: str
    expected: Revision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """Change nothing here, but insist: this document has this revision (ABSENT: there is none)."""

    key: str
    expected: Revision


Change = Put | Delete | Require


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Event: a document was written."""

    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """Event: a document is gone (deleted, or its session ended)."""

    key: str
    revision: Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """One or more whole commits, in order."""

    revision: Revision
    """Of the last one: where a later watch may begin."""
    events: tuple[Written | Deleted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """The changes up to here cannot be told one by one: this is all there is under the prefix."""

    snapshot: Snapshot


class Watch(Protocol):
    """Changes under a prefix, for one reader."""

    async def next(self) -> Changes | Resync:
        """Waits as long as it takes. Refused when the store lets us read no more; breaks in the connection never surface."""
        ...

    def seen_at(self) -> float:
        """Monotonic time at which what `next` has returned so far was known to be everything; -inf before that."""
        ...

    async def close(self) -> None: ...


class Session(Protocol):
    """A lease that is kept alive for as long as this process runs and the store answers."""

    @property
    def id(self) -> SessionId: ...

    def left(self) -> float:
        """Seconds for which it certainly lives on, even if nobody answers; 0 when it is over (K5)."""
        ...

    def check(self) -> None:
        """Raise Stale (FENCED) when it is over. Call it right before acting as its holder."""
        ...

    async def ended(self) -> str:
        """Wait for its end; why."""
        ...

    async def close(self) -> None:
        """End it: its documents vanish now, or with its time when the store does not answer. Never raises Unavailable."""
        ...


class Coordinator(Protocol):
    """The store. Calls raise Unavailable, Refused (may not, too large), Damaged (restored from a backup: K1 is broken)."""

    async def get(self, key: str) -> Document | None: ...

    async def snapshot(self, prefix: str) -> Snapshot:
        """Everything under the prefix, at one revision."""
        ...

    async def commit(self, *changes: Change) -> Revision:
        """Do all, each key at most once; the revision now. Stale: K2, with the `key`; Stale (FENCED): the session is over."""
        ...

    def watch(self, prefix: str, *, after: Revision | None = None) -> Watch:
        """Changes after that revision; None: first a Resync with what there is now. Close it."""
        ...

    async def open_session(self, *, ttl: float) -> Session:
        """A session whose documents vanish about `ttl` seconds after its holder fell silent. Close it."""
        ...

    async def close(self) -> None:
        """Close sessions and connections. Who reads a watch stops before."""
        ...


def check_changes(changes: tuple[Change, ...]) -> None:
    """What every implementation refuses alike."""
    check(0 < len(changes) <= CHANGES_LIMIT, f"a commit has 1 to {CHANGES_LIMIT} changes")
    check(len({change.key for change in changes}) == len(changes), "a commit names each key once")
    for change in changes:
        if isinstance(change, Put) and len(change.value) > VALUE_LIMIT:
            raise Refused(
                ErrorCode.ENTITY_TOO_LARGE,
                f"the document {change.key} has {len(change.value)} bytes; {VALUE_LIMIT} are allowed",
            )
