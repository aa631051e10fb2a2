# SPDX-License-Identifier: Apache-2.0
"""What a Cassandra cluster must be like before a cell is served from it; each refusal says what to do.

Checked at start: the home datacentre (R9), the keyspace's replication, and the settings of the nodes that can be asked.
"""

import re
from collections.abc import Mapping

from drystone_core.errors import Unavailable

MIB = 1 << 20
LEAST_MESSAGE = 4 * MIB
"""A commit carries up to 1 MiB of rows and one mutation more, feed record and overhead."""
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?\Z")
_UNITS = {"B": 1, None: 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}
SETTINGS = ("paxos_variant", "max_mutation_size", "native_transport_max_message_size")
"""Rows of system_views.settings."""


def parse_size(text: str) -> int:
    """Bytes, from what Cassandra writes (`16MiB`)."""
    found = _SIZE.match(text)
    if found is None:
        raise Unavailable(f"Cassandra says a size as {text!r}, which this release does not understand")
    return int(found[1]) * _UNITS[found[2]]


def check_server(node: str, found: Mapping[str, str | None]) -> int:
    """Bytes a commit may take on this node; Unavailable when it cannot serve a cell."""
    variant = found.get("paxos_variant")
    if variant != "v2":
        raise Unavailable(
            f"Cassandra node {node} runs paxos_variant {variant}: set `paxos_variant: v2` in cassandra.yaml on every node"
        )
    sizes = []
    for name in SETTINGS[1:]:
        text = found.get(name)
        if text is None:
            raise Unavailable(f"Cassandra node {node} does not tell its {name}: Cassandra 5 is needed")
        size = parse_size(text)
        if size < LEAST_MESSAGE:
            raise Unavailable(f"Cassandra node {node} has {name} {text}: commits need at least 4MiB, raise it there")
        sizes.append(size)
    return min(sizes) * 15 // 16


def check_replication(keyspace: str, replication: Mapping[str, str]) -> dict[str, int]:
    """Replicas by datacentre."""
    kind = replication["class"].rpartition(".")[2]
    if kind != "NetworkTopologyStrategy":
        raise Unavailable(
            f"keyspace {keyspace} uses {kind}: commits are decided in one datacentre, so change it to"
            " NetworkTopologyStrategy with that datacentre, then run a full repair"
        )
    factors = {name: int(text.partition("/")[0]) for name, text in replication.items() if name != "class"}
    return {name: factor for name, factor in sorted(factors.items()) if factor}


def check_nodes(keyspace: str, home: str, *, replicas: int, nodes: int) -> None:
    """Unavailable with fewer nodes than replicas: reads find no quorum, while Paxos counts only the nodes there are."""
    if nodes < replicas:
        raise Unavailable(
            f"keyspace {keyspace} wants {replicas} replicas in {home}, which has {nodes} node(s): add nodes there, or lower"
            " the keyspace's replication (`replication_factor` for a new one)"
        )


def choose_home(keyspace: str, replicas: Mapping[str, int], *, wanted: str, stored: str | None, asked: str) -> str:
    """The cell's home (R9). `wanted` by the settings, `stored` in the schema, `asked`: where our connections go."""
    places = ", ".join(replicas)
    if not stored and not wanted and len(replicas) != 1:
        raise Unavailable(
            f"keyspace {keyspace} is replicated to {places or 'no datacentre'} and has no home yet: two datacentres that both"
            " commit would be split brain, so set `datacentre` to the one that does"
        )
    home = stored or wanted or next(iter(replicas))
    if wanted and wanted != home:
        raise Unavailable(
            f"the home datacentre of keyspace {keyspace} is {home}, this process is set to {wanted}: set `datacentre` to"
            f" {home}; to move the home, fail over as docs/formats/cassandra.md says"
        )
    if home not in replicas:
        raise Unavailable(
            f"keyspace {keyspace} has no replicas in its home datacentre {home} (it is replicated to {places}):"
            " correct `datacentre` or the keyspace's replication"
        )
    if asked != home:
        raise Unavailable(
            f"the contact points are in datacentre {asked}, the home of keyspace {keyspace} is {home}: set `datacentre` to"
            f" {home} and give contact points there"
        )
    return home
