# SPDX-License-Identifier: Apache-2.0
"""Storage classes over disk classes: what is mapped where, what may not be, and which class is short."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.cell import CellStatus, DiskStatus, Health, NodeStatus
from drystone_core.errors import Refused
from drystone_core.formats.coordination import OWN_SIZE, Layout, LayoutDisk
from drystone_core.ids import DiskId
from drystone_core.layout import DiskPlace, judge
from drystone_core.profiles import Profile
from drystone_core.storage_classes import (
    ANY_DISK,
    DEFAULT_DISK_CLASS,
    IMMEDIATE,
    STANDARD,
    StorageClasses,
    short_classes,
)

WORDS = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
MAPPINGS = st.dictionaries(st.sampled_from(IMMEDIATE), WORDS).map(lambda found: StorageClasses(tuple(found.items())))
TIERS = StorageClasses((("STANDARD", "ssd"), ("STANDARD_IA", "hdd")))


def test_without_a_mapping_there_is_standard_alone_on_every_disk() -> None:
    """As it was before there were classes."""
    alone = StorageClasses()
    assert alone.disk_class(STANDARD) == ANY_DISK
    assert [alone.disk_class(name) for name in IMMEDIATE[1:]] == [None] * (len(IMMEDIATE) - 1)
    assert alone.disk_classes == () and not alone.problems()


@given(MAPPINGS)
def test_every_mapped_class_lies_on_one_class_of_disks_and_no_other_is_served(classes: StorageClasses) -> None:
    """Never on any disk once something is mapped; the classes in use name exactly the storage classes on them."""
    assert not classes.problems()
    if not classes.mapped:
        return
    for name in IMMEDIATE:
        found = classes.disk_class(name)
        expected = dict(classes.mapped).get(name, DEFAULT_DISK_CLASS if name == STANDARD else None)
        assert found == expected and found != ANY_DISK
    served = {name for name in IMMEDIATE if classes.disk_class(name) is not None}
    assert {name for disk_class in classes.disk_classes for name in classes.named(disk_class)} == served
    assert all(classes.named(disk_class) for disk_class in classes.disk_classes)


@pytest.mark.parametrize(
    ("name", "disk_class", "why"),
    [
        ("GLACIER", "hdd", "must be restored"),
        ("DEEP_ARCHIVE", "hdd", "must be restored"),
        ("INTELLIGENT_TIERING", "hdd", "nothing moves them"),
        ("standard_ia", "hdd", "not a storage class that can be mapped"),
        ("STANDARD", "SSD", "is not a disk class"),
        ("STANDARD", "", "is not a disk class"),
    ],
)
def test_what_cannot_be_mapped_is_told(name: str, disk_class: str, why: str) -> None:
    """Classes that need restoring or tiering, unknown ones, words that are no disk class."""
    (problem,) = StorageClasses(((name, disk_class),)).problems()
    assert why in problem


def status(*states: tuple[str, str]) -> CellStatus:
    disks = tuple(
        DiskStatus(disk_id=f"{index}", path=f"/d{index}", state=state, disk_class=disk_class)
        for index, (disk_class, state) in enumerate(states)
    )
    node = NodeStatus(profile="rs-2-1", disks=disks)
    return CellStatus(version="", cluster_id="", endpoint="", uptime_seconds=1, node=node, classes=TIERS)


def test_the_status_names_the_class_that_is_short() -> None:
    """Narrower volumes are a warning, refused writes an error; the other class is not mentioned."""
    whole = [("ssd", "healthy")] * 3
    for cold, severity, says in (
        ([("hdd", "healthy")] * 3, None, ""),
        ([("hdd", "healthy")] * 2 + [("hdd", "failed")], Health.WARN, "2 disks of class hdd can be written, of 3"),
        ([("hdd", "healthy")] + [("hdd", "failed")] * 2, Health.ERROR, "writes of STANDARD_IA are refused"),
        ([], Health.ERROR, "0 disks of class hdd can be written, 2 are needed"),
    ):
        found = [reason for reason in status(*whole, *cold).reasons() if reason.code == "CLASS_SHORT"]
        assert [reason.severity for reason in found] == ([severity] if severity is not None else [])
        assert all(says in reason.summary for reason in found), found
    unmapped = replace(status(("ssd", "failed")), classes=StorageClasses())
    assert "CLASS_SHORT" not in [reason.code for reason in unmapped.reasons()]


@given(st.lists(st.sampled_from(("ssd", "hdd", "standard"))), st.lists(st.sampled_from(("ssd", "hdd"))))
def test_a_class_is_refused_exactly_below_what_a_volume_needs(sound: list[str], bad: list[str]) -> None:
    """Disks of other classes never count."""
    profile = Profile(4, 2)
    found = {short.disk_class: short for short in short_classes(TIERS, sound, sound + bad, profile)}
    for disk_class in ("ssd", "hdd"):
        refused = disk_class in found and found[disk_class].refused
        assert refused == (sound.count(disk_class) <= profile.m)


def test_a_layout_may_not_take_the_disks_of_one_class_away() -> None:
    """Though disks of another class would do for the profile; without classes they do."""
    places = [
        DiskPlace(disk=DiskId(f"{index:032x}"), node=f"n{index}", disk_class="hdd" if index < 3 else "ssd",
                  state="healthy", total=100, free=50)
        for index in range(8)
    ]  # fmt: skip
    current = Layout(version=0, level="")
    wanted = Layout(version=1, level="", disks=(LayoutDisk(disk=places[0].disk, weight=OWN_SIZE, draining=True),))
    assert judge(current, wanted, places, Profile(2, 1), "node") == []
    with pytest.raises(Refused, match=r"3 disks of class hdd that take new data.*there would be 2 .now 3."):
        judge(current, wanted, places, Profile(2, 1), "node", ("hdd", "ssd"))
