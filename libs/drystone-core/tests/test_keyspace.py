# SPDX-License-Identifier: Apache-2.0
"""The coordinator's store as a value machine: history replays to the content, sessions take their documents along."""

from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.coordination import ABSENT, NO_SESSION, Delete, Document, Put, Revision, SessionId, Written
from drystone_core.errors import Stale
from drystone_core.keyspace import Keyspace

KEYS = ["a/1", "a/2", "b/1"]
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from(KEYS), st.booleans(), st.sampled_from([None, "absent", "now", "old"])
        ),
        st.tuples(st.just("delete"), st.sampled_from(KEYS), st.booleans(), st.sampled_from([None, "now", "old"])),
        st.tuples(st.just("two"), st.sampled_from(KEYS), st.booleans(), st.just(None)),
        st.tuples(st.just("grant"), st.just(""), st.booleans(), st.just(None)),
        st.tuples(st.just("pass"), st.just(""), st.booleans(), st.just(None)),
        st.tuples(st.just("compact"), st.just(""), st.booleans(), st.just(None)),
    ),
    max_size=60,
)


def replay(
    content: dict[str, Document], keyspace: Keyspace, prefix: str, after: Revision
) -> dict[str, Document] | None:
    changes = keyspace.since(prefix, after)
    if changes is None:
        return None
    for event in changes.events:
        if isinstance(event, Written):
            content[event.document.key] = event.document
        else:
            del content[event.key]
    return content


def content_of(keyspace: Keyspace, prefix: str) -> dict[str, Document]:
    return {document.key: document for document in keyspace.snapshot(prefix).documents}


@given(steps=steps)
@settings(max_examples=200, deadline=None)
def test_changes_since_any_revision_lead_to_the_present_content(steps: list[tuple[str, str, bool, str | None]]) -> None:
    """Y1 to Y3 after each step, from every revision that is not compacted; a refused commit changes nothing."""
    keyspace = Keyspace(history=25)
    now, session, past = 0.0, NO_SESSION, [(keyspace.revision, content_of(keyspace, "a/"))]
    for turn, (step, key, flag, expectation) in enumerate(steps):
        before = keyspace.revision
        document = keyspace.get(key)
        found = document.revision if document is not None else ABSENT
        expected = {None: None, "absent": ABSENT, "now": found, "old": Revision(found + 7)}[expectation]
        bound = session if flag else NO_SESSION
        held = session == NO_SESSION or keyspace.renew(session, now) > 0
        refused = False
        try:
            if step == "put":
                keyspace.commit((Put(key=key, value=b"%d" % turn, expected=expected, session=bound),))
            elif step == "two":
                keyspace.commit((Put(key=key, value=b"t", session=bound), Delete(key="a/x"), Put(key="c", value=b"t")))
            elif step == "delete":
                keyspace.commit((Delete(key=key, expected=expected),))
        except Stale:
            refused = True
            assert keyspace.revision == before
        if step == "grant":
            session = keyspace.grant(5.0, now)
        elif step == "pass":
            now += 6.0 if flag else 1.0
            keyspace.expire(now)
            assert not flag or all(each.session == NO_SESSION for each in keyspace.snapshot("").documents)
        elif step == "compact":
            keyspace.compact(Revision(keyspace.revision - 3 if flag else keyspace.revision))
        if step in ("put", "delete"):
            wrong = expected is not None and expected != found
            assert refused == (wrong or (step == "put" and flag and not held))
        past.append((keyspace.revision, content_of(keyspace, "a/")))
        for revision, content in past:
            replayed = replay(dict(content), keyspace, "a/", revision)
            assert (replayed is None) == (revision < keyspace.compacted)
            assert replayed is None or replayed == content_of(keyspace, "a/")


def test_a_session_is_over_for_good() -> None:
    """It cannot be renewed, nothing can be bound to it, and its documents went in one change."""
    keyspace = Keyspace()
    session = keyspace.grant(5.0, 0.0)
    for key in KEYS:
        keyspace.commit((Put(key=key, value=b"", session=session),))
    assert keyspace.next_expiry() == 5.0 and keyspace.renew(session, 4.0) == 5.0
    keyspace.expire(8.9)
    assert len(keyspace.snapshot("").documents) == 3
    before = keyspace.revision
    keyspace.expire(9.0)
    changes = keyspace.since("", before)
    assert changes is not None and len(changes.events) == 3 and changes.revision == before + 1
    assert keyspace.renew(session, 9.0) == 0.0 and keyspace.next_expiry() is None
    assert keyspace.grant(5.0, 9.0) == SessionId(session + 1)
