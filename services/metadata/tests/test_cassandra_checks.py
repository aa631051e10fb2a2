# SPDX-License-Identifier: Apache-2.0
"""What is refused before a cell is served from Cassandra, and what a driver's failure may be taken for."""

import pytest
from cassandra import InvalidRequest, OperationTimedOut, ReadTimeout, Unauthorized, WriteFailure, WriteTimeout
from cassandra import Unavailable as TooFewReplicas
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.policies import DCAwareRoundRobinPolicy, RetryPolicy, TokenAwarePolicy
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage, ServerError, SyntaxException

from drystone_core.check import InvariantViolation
from drystone_core.errors import Unavailable
from drystone_core.formats.row_keys import BUCKET, CURRENT, VERSION
from drystone_metadata.store.cassandra import CassandraSettings
from drystone_metadata.store.cassandra.outcomes import FAILURES, refused, unavailable
from drystone_metadata.store.cassandra.server_checks import check_replication, check_server, choose_home, parse_size
from drystone_metadata.store.cassandra.session import COMMIT, READ, _profiles, tls_context
from drystone_metadata.store.cassandra.statements import partition
from drystone_metadata.store.ports import KeyOutOfRange, RowKey, TabletId, TabletPhase, TabletState
from drystone_metadata.store.ranges import check_keys, check_span

GOOD = {"paxos_variant": "v2", "max_mutation_size": "16384KiB", "native_transport_max_message_size": "13421772B"}


@pytest.mark.parametrize(
    ("text", "size"), [("50KiB", 51200), ("16MiB", 16 << 20), ("13421772B", 13421772), ("1GiB", 1 << 30), ("7", 7)]
)
def test_sizes_are_read_as_cassandra_writes_them(text: str, size: int) -> None:
    """Every unit that system_views.settings shows."""
    assert parse_size(text) == size


def test_commit_limit_follows_the_smaller_of_the_node_s_limits() -> None:
    """A sixteenth is left for what the estimate does not see."""
    assert check_server("n", GOOD) == 13421772 * 15 // 16


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("paxos_variant", "v1", "set `paxos_variant: v2`"),
        ("max_mutation_size", "1MiB", "at least 4MiB"),
        ("native_transport_max_message_size", "2097152B", "raise it there"),
        ("native_transport_max_message_size", None, "Cassandra 5 is needed"),
        ("max_mutation_size", "16 Mb", "does not understand"),
    ],
)
def test_unfit_server_is_refused_with_what_to_do(name: str, value: str | None, says: str) -> None:
    """Each requirement has its sentence."""
    with pytest.raises(Unavailable, match=says):
        check_server("n", GOOD | {name: value})


def test_replication_must_know_datacentres() -> None:
    """SimpleStrategy spreads replicas over datacentres without asking."""
    network = {"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3", "dc2": "3/1", "old": "0"}
    assert check_replication("ks", network) == {"dc1": 3, "dc2": 3}
    with pytest.raises(Unavailable, match="NetworkTopologyStrategy"):
        check_replication("ks", {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "3"})


ONE, TWO = {"dc1": 3}, {"dc1": 3, "dc2": 3}


@pytest.mark.parametrize(
    ("replicas", "wanted", "stored"),
    [(ONE, "", None), (ONE, "dc1", None), (TWO, "dc1", None), (TWO, "", "dc1"), (TWO, "dc1", "dc1")],
)
def test_home_is_stored_chosen_or_the_only_one(replicas: dict[str, int], wanted: str, stored: str | None) -> None:
    """R9: what is stored holds, then what is set, then the only datacentre there is."""
    assert choose_home("ks", replicas, wanted=wanted, stored=stored, asked="dc1") == "dc1"


@pytest.mark.parametrize(
    ("replicas", "wanted", "stored", "asked", "says"),
    [
        (TWO, "", None, "dc1", "split brain"),
        ({}, "", None, "dc1", "split brain"),
        (TWO, "dc2", "dc1", "dc2", "is dc1, this process is set to dc2"),
        (TWO, "", "dc1", "dc2", "contact points are in datacentre dc2"),
        (ONE, "", None, "dc2", "contact points are in datacentre dc2"),
        (ONE, "dc3", None, "dc3", "no replicas in its home datacentre dc3"),
    ],
)
def test_unclear_home_is_refused_with_what_to_do(
    replicas: dict[str, int], wanted: str, stored: str | None, asked: str, says: str
) -> None:
    """R9: nobody commits from a datacentre that is not the home."""
    with pytest.raises(Unavailable, match=says):
        choose_home("ks", replicas, wanted=wanted, stored=stored, asked=asked)


@pytest.mark.parametrize(
    "failure",
    [
        OperationTimedOut(),
        WriteTimeout("", write_type=0),
        WriteFailure(""),
        ReadTimeout(""),
        TooFewReplicas(""),
        ConnectionShutdown("lost"),
        NoHostAvailable("", {}),
        ServerError(0, "", None),
        OverloadedErrorMessage(0x1001, "", None),
        ErrorMessage(0x1700, "CAS result unknown", None),
        ErrorMessage(0x7777, "an error of the future", None),
        OSError("broken pipe"),
    ],
)
def test_only_a_wrong_statement_is_refused_for_certain(failure: Exception) -> None:
    """O2: timeouts, losses, overload and what nobody knows leave a commit unknown."""
    assert isinstance(failure, FAILURES) and not refused(failure)
    assert isinstance(unavailable(failure), Unavailable)


@pytest.mark.parametrize("failure", [InvalidRequest("x"), SyntaxException(0x2000, "x", None), Unauthorized("x")])
def test_wrong_statement_is_refused(failure: Exception) -> None:
    """O1."""
    assert isinstance(failure, FAILURES) and refused(failure)
    assert "refuses" in unavailable(failure).message


def test_commits_are_sent_once_and_plain_reads_at_most_twice() -> None:
    """S1, S2: nothing the driver may meet makes it send a conditional statement again."""
    profiles = _profiles(CassandraSettings(contact_points=("h",)), TokenAwarePolicy(DCAwareRoundRobinPolicy("dc1")))
    commit, read = profiles[COMMIT], profiles[READ]
    assert profiles[EXEC_PROFILE_DEFAULT].retry_policy.__class__ is commit.retry_policy.__class__
    assert commit.speculative_execution_policy.new_plan("", None).next_execution(None) < 0
    for number in (0, 1):
        met = {
            "on_read_timeout": (None, 6, 2, 1, False),
            "on_write_timeout": (None, 6, 5, 2, 1),
            "on_unavailable": (None, 6, 2, 1),
            "on_request_error": (None, 6, ConnectionShutdown("lost")),
        }
        for name, given in met.items():
            assert getattr(commit.retry_policy, name)(*given, retry_num=number)[0] == RetryPolicy.RETHROW
            if name != "on_write_timeout":
                again = getattr(read.retry_policy, name)(*given, retry_num=number)[0]
                assert (again == RetryPolicy.RETHROW) is (number > 0)


def test_settings_are_checked_when_made() -> None:
    """A keyspace goes into statements as it is; a certificate is nothing without its key; files must be readable."""
    good = CassandraSettings(contact_points=("h",), password="secret")
    assert "secret" not in repr(good) and tls_context(good) is None
    for wrong in ({"keyspace": "a b"}, {"keyspace": "x;"}, {"contact_points": ()}, {"tls_certificate": "c"}):
        with pytest.raises(InvariantViolation):
            CassandraSettings(**({"contact_points": ("h",)} | wrong))
    with pytest.raises(Unavailable, match="TLS files"):
        tls_context(CassandraSettings(contact_points=("h",), tls_ca="/nowhere/ca.pem"))


def test_tablet_ids_map_to_partitions_one_to_one() -> None:
    """Ids of up to 32 bytes, short ones too."""
    ids = [TabletId(bytes(range(size))) for size in range(1, 33)]
    assert [b"".join(partition(tablet)) for tablet in ids] == ids
    assert len({partition(tablet) for tablet in ids}) == 32


def test_a_tablet_whose_keys_moved_refuses_everything() -> None:
    """R7: also when it had no bounds."""
    for phase in (TabletPhase.CLOSED, TabletPhase.FILLING):
        state = TabletState(phase=phase)
        with pytest.raises(KeyOutOfRange):
            check_keys(state, [RowKey(CURRENT, b"a")])
        with pytest.raises(KeyOutOfRange):
            check_span(state, RowKey(CURRENT, b""), RowKey(VERSION, b""))
        check_keys(state, [RowKey(BUCKET, b"a")])
        check_span(state, RowKey(BUCKET, b""), RowKey(BUCKET + 1, b""))
    check_span(TabletState(low=b"a"), RowKey(VERSION, b""), RowKey(CURRENT, b""))
