# SPDX-License-Identifier: Apache-2.0
"""A coordinator's store as a pure value machine: documents, sessions, history. Time comes with each call.

It is what the embedded coordinator keeps in memory and the model that the etcd one is compared with.

Invariants
  Y1  `revision` grows by one with every commit that changes something and with every session's end that removes something.
  Y2  History holds, without gaps, every change after `compacted`.
  Y3  A session's documents go in one change.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drystone_core.check import check
from drystone_core.coordination import (
    ABSENT,
    NO_SESSION,
    Change,
    Changes,
    Delete,
    Deleted,
    Document,
    Put,
    Require,
    Revision,
    SessionId,
    Snapshot,
    Written,
    check_changes,
)
from drystone_core.errors import ErrorCode, Stale

FIRST = Revision(1)
"""Of an empty store."""


@dataclass(slots=True, kw_only=True)
class _Lease:
    ttl: float
    until: float
    keys: set[str] = field(default_factory=set)


class Keyspace:
    """All documents of one coordinator."""

    def __init__(
        self,
        *,
        revision: Revision = FIRST,
        documents: Mapping[str, Document] | None = None,
        history: int = 10_000,
    ) -> None:
        """Begin with documents without sessions; `history` is the most changes kept for watches."""
        self.revision = revision
        self.compacted = revision
        """Changes up to this one are forgotten."""
        self._documents = dict(documents or {})
        self._leases: dict[SessionId, _Lease] = {}
        self._last_session = NO_SESSION
        self._history: deque[Changes] = deque()
        self._history_limit = history

    def get(self, key: str) -> Document | None:
        """The document."""
        return self._documents.get(key)

    def snapshot(self, prefix: str) -> Snapshot:
        """All under the prefix."""
        found = [document for key, document in self._documents.items() if key.startswith(prefix)]
        return Snapshot(revision=self.revision, documents=tuple(sorted(found, key=lambda document: document.key)))

    def permanent(self) -> list[Document]:
        """What outlives the process: documents without a session."""
        return [document for document in self._documents.values() if document.session == NO_SESSION]

    def commit(self, changes: tuple[Change, ...]) -> Revision:
        """All or nothing; Stale."""
        check_changes(changes)
        for change in changes:
            self._expect(change)
        revision = Revision(self.revision + 1)
        events = [event for change in changes if (event := self._apply(change, revision)) is not None]
        self._record(revision, events)
        return self.revision

    def since(self, prefix: str, after: Revision) -> Changes | None:
        """What happened under the prefix after that revision; None: some of it is forgotten."""
        if after < self.compacted:
            return None
        events = [
            event
            for changes in self._history
            if changes.revision > after
            for event in changes.events
            if (event.document.key if isinstance(event, Written) else event.key).startswith(prefix)
        ]
        return Changes(revision=self.revision, events=tuple(events))

    def compact(self, upto: Revision) -> None:
        """Forget the changes up to that revision."""
        while self._history and self._history[0].revision <= upto:
            self._history.popleft()
        self.compacted = max(self.compacted, min(upto, self.revision))

    def grant(self, ttl: float, now: float) -> SessionId:
        """A new session."""
        self._last_session = SessionId(self._last_session + 1)
        self._leases[self._last_session] = _Lease(ttl=ttl, until=now + ttl)
        return self._last_session

    def renew(self, session: SessionId, now: float) -> float:
        """Seconds it lives from now; 0 when it is over."""
        lease = self._leases.get(session)
        if lease is None:
            return 0.0
        lease.until = now + lease.ttl
        return lease.ttl

    def revoke(self, sessions: Iterable[SessionId]) -> None:
        """End sessions: their documents go."""
        for session in sessions:
            lease = self._leases.pop(session, None)
            if lease is not None and lease.keys:
                revision = Revision(self.revision + 1)
                for key in lease.keys:
                    del self._documents[key]
                self._record(revision, [Deleted(key=key, revision=revision) for key in sorted(lease.keys)])

    def expire(self, now: float) -> None:
        """End the sessions whose time is over."""
        self.revoke(sorted(session for session, lease in self._leases.items() if lease.until <= now))

    def next_expiry(self) -> float | None:
        """When the next session's time is over."""
        return min((lease.until for lease in self._leases.values()), default=None)

    def _expect(self, change: Change) -> None:
        if isinstance(change, Put) and change.session != NO_SESSION and change.session not in self._leases:
            raise Stale("the session is over", ErrorCode.FENCED, key=change.key)
        if change.expected is None:
            return
        document = self._documents.get(change.key)
        found = document.revision if document is not None else ABSENT
        if found != change.expected:
            raise stale(change.key, expected=change.expected, found=found)

    def _apply(self, change: Change, revision: Revision) -> Written | Deleted | None:
        before = self._documents.get(change.key)
        if isinstance(change, Require) or (isinstance(change, Delete) and before is None):
            return None
        if before is not None and before.session != NO_SESSION:
            self._leases[before.session].keys.discard(change.key)
        if isinstance(change, Delete):
            del self._documents[change.key]
            return Deleted(key=change.key, revision=revision)
        document = Document(
            key=change.key,
            value=change.value,
            revision=revision,
            created=before.created if before is not None else revision,
            session=change.session,
        )
        self._documents[change.key] = document
        if change.session != NO_SESSION:
            self._leases[change.session].keys.add(change.key)
        return Written(document=document)

    def _record(self, revision: Revision, events: list[Written | Deleted]) -> None:
        if not events:
            return
        check(revision == self.revision + 1, "revisions grow by one")
        self.revision = revision
        self._history.append(Changes(revision=revision, events=tuple(events)))
        if len(self._history) > self._history_limit:
            self.compact(self._history[0].revision)


def stale(key: str, *, expected: Revision, found: Revision) -> Stale:
    """The refusal of a commit whose expectation does not hold."""
    wanted = f"at revision {expected}" if expected != ABSENT else "absent"
    seen = f"at revision {found}" if found != ABSENT else "absent"
    return Stale(f"{key} is {seen}, expected {wanted}", key=key)
