# SPDX-License-Identifier: Apache-2.0
"""What changes of a layout mean, and which of them would leave no place for a volume."""

from dataclasses import replace

import pytest

from drystone_core.errors import Refused
from drystone_core.formats.coordination import OWN_SIZE, Layout, LayoutDisk
from drystone_core.ids import DiskId
from drystone_core.layout import AWAY, DiskPlace, LayoutChange, changed, judge, report, slots_at_most
from drystone_core.profiles import Profile

RS42 = Profile(4, 2)
NONE = Layout(version=0, level="")


def disk(index: int) -> DiskId:
    return DiskId(f"{index:02x}" * 16)


def cell(nodes: int, disks: int = 1, *, racks: int = 1) -> list[DiskPlace]:
    """Nodes n0 …, in racks in turn, each with so many disks, a fifth of each in use."""
    return [
        DiskPlace(
            disk=disk(node * disks + index),
            node=f"n{node}",
            zone="z",
            rack=f"r{node % racks}",
            disk_class="standard",
            state="healthy",
            total=1000,
            free=800,
        )
        for node in range(nodes)
        for index in range(disks)
    ]


def test_a_change_names_disks_by_the_beginning_of_their_ids_or_by_their_node() -> None:
    """Only what differs from the disks themselves is kept, in order; the version is the base's."""
    places = cell(7, 2)
    base = Layout(version=4, level="rack", disks=(LayoutDisk(disk=disk(9), weight=5),))
    made = changed(base, LayoutChange(weights=(("03", 0), ("09", OWN_SIZE)), drain=("node:n0",)), places)
    assert made == Layout(
        version=4,
        level="rack",
        disks=(
            LayoutDisk(disk=disk(0), weight=OWN_SIZE, draining=True),
            LayoutDisk(disk=disk(1), weight=OWN_SIZE, draining=True),
            LayoutDisk(disk=disk(3), weight=0),
        ),
    )
    back = changed(made, LayoutChange(undrain=("00", "node:n0"), weights=(("03", OWN_SIZE),), level="zone"), places)
    assert back == Layout(version=4, level="zone")


def test_a_disk_that_is_away_can_still_be_undrained() -> None:
    """The layout knows it though no node serves it."""
    gone = LayoutDisk(disk=disk(77), weight=OWN_SIZE, draining=True)
    base = replace(NONE, disks=(gone,))
    assert changed(base, LayoutChange(undrain=(disk(77)[:6],)), cell(3)) == NONE
    (row,) = [row for row in report(current=base, staged=None, places=cell(3), profile="", configured="node").disks
              if row.place.state == AWAY]  # fmt: skip
    assert (row.place.disk, row.draining) == (disk(77), True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (LayoutChange(drain=("ff",)), "no disk 'ff' is known"),
        (LayoutChange(drain=("",)), "no disk '' is known"),
        (LayoutChange(drain=("0",)), "14 disks begin with '0'.*give more of the id"),
        (LayoutChange(drain=("node:n9",)), "no disk is in service at a storage node 'n9'"),
        (LayoutChange(drain=("node:",)), "no disk is in service"),
        (LayoutChange(drain=("00",), undrain=("node:n0",)), "drained and not drained at once"),
        (LayoutChange(weights=(("00", 1), ("000", 2))), "two weights"),
        (LayoutChange(weights=(("00", -2),)), "not possible"),
        (LayoutChange(level="room"), "level 'room' is none of disk, node, rack, zone"),
    ],
)
def test_what_names_nothing_or_contradicts_itself_is_refused(change: LayoutChange, why: str) -> None:
    """With a sentence that names it."""
    with pytest.raises(Refused, match=why):
        changed(NONE, change, cell(7, 2))


def test_a_drain_is_refused_when_too_few_disks_would_be_left() -> None:
    """Seven nodes of rs-4-2 can do without one, not without two; a disk that is taken by weight counts as well."""
    places = cell(7)
    one = changed(NONE, LayoutChange(drain=("node:n0",)), places)
    assert judge(NONE, one, places, RS42, "node") == []
    # m = 2 disks of a node may hold slots of one volume, so nodes with several disks replace others.
    for more in (
        LayoutChange(drain=("node:n1",)),
        LayoutChange(weights=(("01", 0),)),
        LayoutChange(weights=(("01", 200),)),
    ):
        with pytest.raises(Refused, match=r"needs 6 disks .*there would be 5 \(now 6\)"):
            judge(one, changed(one, more, places), places, RS42, "node")
    wide = cell(4, 2)
    assert judge(NONE, changed(NONE, LayoutChange(drain=("node:n0",)), wide), wide, RS42, "node") == []


def test_a_level_is_refused_when_its_domains_cannot_hold_a_volume() -> None:
    """Two racks have room for four of six slots, three have it for all."""
    wanted = replace(NONE, level="rack")
    with pytest.raises(Refused, match="at most 2 of them in one rack: there would be 4"):
        judge(NONE, wanted, cell(8, racks=2), RS42, "node")
    assert judge(NONE, wanted, cell(8, racks=3), RS42, "node") == []


def test_where_there_was_no_place_before_only_worse_is_refused() -> None:
    """A cell of four disks may be laid out too, with a warning; a failed disk is none."""
    places = cell(4)
    (warning,) = judge(NONE, replace(NONE, level="disk"), places, RS42, "node")
    assert "there would be 4, as now" in warning
    with pytest.raises(Refused, match=r"there would be 3 \(now 4\)"):
        judge(NONE, changed(NONE, LayoutChange(drain=("00",)), places), places, RS42, "node")
    failed = [replace(places[0], state="failed"), *places[1:]]
    assert slots_at_most(NONE, failed, RS42, "node") == 3
    assert slots_at_most(NONE, failed, Profile(1, 0), "node") == 3


def test_weights_that_do_nothing_are_warned_of() -> None:
    """More than the size, less than lies there, and a disk that is away."""
    places = cell(9)
    change = LayoutChange(weights=(("00", 2000), ("01", 100), ("02", 0), ("03", 900)))
    wanted = changed(replace(NONE, disks=(LayoutDisk(disk=disk(66), weight=7),)), change, places)
    said = judge(NONE, wanted, places, RS42, "node")
    assert [sentence.split(": ")[0] for sentence in said] == [
        "disk 00000000",
        "disk 01010101 holds more than its weight already",
        "disk 42424242 is not in service now",
    ]


def test_the_report_shows_both_layouts_and_what_would_have_to_move() -> None:
    """Bytes in use on all disks that drain; the level is the configured one until a layout names one."""
    places = cell(7)
    current = replace(changed(NONE, LayoutChange(drain=("00",)), places), version=3)
    staged = replace(changed(current, LayoutChange(drain=("01",), level="disk"), places), version=4)
    found = report(current=current, staged=staged, places=places, profile="rs-4-2", configured="node")
    assert (found.version, found.level, found.staged_version, found.staged_level) == (3, "node", 4, "disk")
    assert [(row.draining, row.staged_draining) for row in found.disks[:3]] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert found.bytes_to_move == 2 * 200
    alone = report(current=current, staged=None, places=places, profile="rs-4-2", configured="node")
    assert (alone.staged_version, alone.staged_level, alone.bytes_to_move) == (0, "", 200)
    assert all(row.draining == row.staged_draining for row in alone.disks)
