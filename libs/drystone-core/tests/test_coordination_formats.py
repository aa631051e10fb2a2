# SPDX-License-Identifier: Apache-2.0
"""Documents in the coordinator: golden files of version 1, round trips, refusal of damage and of newer formats."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drystone_core.errors import Damaged
from drystone_core.formats import coordination as form
from drystone_core.ids import ClusterId, DiskId, VolumeId

GOLDEN = Path(__file__).parent / "golden"
A, B = DiskId("a" * 32), DiskId("b" * 32)
DOCUMENTS: dict[str, Any] = {
    "cell": form.CellDocument(cell=ClusterId("c" * 32), created_us=1_800_000_000_000_000),
    "node": form.NodeDocument(
        node="storage-0",
        role="storage-node",
        endpoint="storage-0.storage:9200",
        claim="0011223344556677",
        incarnation="8899aabbccddeeff",
        state="draining",
        zone="zone-ä",
        rack="r7",
        version="0.2.0",
        wall_us=1_800_000_000_000_001,
    ),
    "disk": form.DiskDocument(
        disk=A,
        node="storage-0",
        incarnation="8899aabbccddeeff",
        disk_class="ssd",
        state="healthy",
        total=1 << 42,
        free=7,
    ),
    "volume": form.OpenVolume(
        volume=VolumeId(0xFEDCBA9876543210),
        profile="rs-1-1",
        disks=(A, B),
        owner="storage-0",
        incarnation="8899aabbccddeeff",
        disk_class="ssd",
    ),
    "layout": form.Layout(
        version=3,
        level="node",
        disks=(form.LayoutDisk(disk=A, weight=0, draining=True), form.LayoutDisk(disk=B, weight=5)),
    ),
    "question": form.ClockQuestion(asked=("clocks/metadata/m-1", "clocks/storage-node/storage-0")),
    "clock": form.ClockDocument(wall_us=1_800_000_000_000_003, heard=77, fault="the clock here is 9.0 s ahead"),
    "leader": form.LeaderDocument(node="replication-0", incarnation="8899aabbccddeeff", since_us=1_800_000_000_000_002),
}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_documents_of_version_1_are_read_and_written_byte_by_byte(name: str) -> None:
    """What an earlier release wrote means the same, and the same is written."""
    golden = (GOLDEN / f"coordination-{name}-1.json").read_bytes()
    document = DOCUMENTS[name]
    assert form.decode(type(document), golden, key=name) == document
    assert form.encode(document) == golden


def test_unknown_fields_are_ignored_and_later_ones_have_defaults() -> None:
    """A newer release of the same format may add fields; an older one did not write them."""
    least = b'{"format":1,"node":"n","role":"r","endpoint":"e","claim":"c","incarnation":"i","later":[{"x":1}]}'
    assert form.decode(form.NodeDocument, least, key="k") == form.NodeDocument(
        node="n", role="r", endpoint="e", claim="c", incarnation="i"
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "format None"),
        (b"{}", "format None"),
        (b'{"format":2}', "format 2"),
        (b'{"format":1,"version":1}', "level is missing"),
        (b'{"format":1,"version":"1","level":"disk"}', "version is not of type int"),
        (b'{"format":1,"version":true,"level":"disk"}', "version is not of type int"),
        (b'{"format":1,"version":1,"level":7}', "level is not a text"),
        (b'{"format":1,"version":1,"level":"disk","disks":{}}', "disks is not a list"),
        (b'{"format":1,"version":1,"level":"disk","disks":[7]}', "is not an object"),
        (b'{"format":1,"version":1,"level":"disk","disks":[{"disk":"a"}]}', "weight is missing"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_key(value: bytes, why: str) -> None:
    """Never half read."""
    with pytest.raises(Damaged, match=f"layout/current: .*{why}"):
        form.decode(form.Layout, value, key="layout/current")


@pytest.mark.parametrize("volume", [b'"xyz"', b"7", b'"-1"', b'"FEDCBA9876543210"', b'"1"'])
def test_a_volumes_id_is_sixteen_hex_characters(volume: bytes) -> None:
    """As in its key."""
    whole = form.encode(replace(DOCUMENTS["volume"], volume=VolumeId(7)))
    with pytest.raises(Damaged, match="volume"):
        form.decode(form.OpenVolume, whole.replace(b'"0000000000000007"', volume), key="k")


def test_keys_are_as_documented() -> None:
    """docs/formats/coordination.md."""
    assert [
        form.node_key("metadata", "m0"),
        form.disk_key(A),
        form.volume_key(VolumeId(7)),
        form.election_key("repair"),
        form.CELL,
        form.LAYOUT,
        form.LAYOUT_STAGED,
    ] == [
        "nodes/metadata/m0",
        "disks/" + "a" * 32,
        "volumes/0000000000000007",
        "elections/repair",
        "cell",
        "layout/current",
        "layout/staged",
    ]
