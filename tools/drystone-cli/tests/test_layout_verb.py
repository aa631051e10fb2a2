# SPDX-License-Identifier: Apache-2.0
"""`drystone layout`: what it prints, what it refuses before anybody is asked, and what a standalone store answers."""

import json
from pathlib import Path

import pytest

from drystone_cli.cell_layout import _print, as_document
from drystone_cli.main import main
from drystone_core.formats.coordination import OWN_SIZE
from drystone_core.ids import DiskId
from drystone_core.layout import DiskPlace, LayoutReport, LayoutRow
from drystone_testing.live import LiveStore

GIB = 1 << 30


def row(
    index: int, node: str, zone: str, *, weight: int = OWN_SIZE, then: int = OWN_SIZE, drain: bool = False
) -> LayoutRow:
    place = DiskPlace(
        disk=DiskId(f"{index:02x}" * 16),
        node=node,
        zone=zone,
        disk_class="standard",
        state="healthy",
        total=10 * GIB,
        free=7 * GIB,
    )
    return LayoutRow(place=place, weight=weight, staged_weight=then, staged_draining=drain)


REPORT = LayoutReport(
    version=3,
    level="node",
    profile="rs-4-2",
    disks=(
        row(1, "n1", "a"),
        row(2, "n1", "a", then=4 * GIB),
        row(3, "n2", "a", drain=True),
        row(4, "n1", "b", weight=0, then=0),
    ),
    staged_version=4,
    staged_level="zone",
    bytes_to_move=3 * GIB,
    warnings=("something to know",),
)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["layout", *arguments])
    return int(str(ended.value.code))


def test_the_tree_shows_what_is_in_effect_and_what_would_change(capsys: pytest.CaptureFixture[str]) -> None:
    """A zone or node is written once for its disks, anew under another zone; changes stand beside and below."""
    _print(REPORT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "in effect  version 3, spread over level node  rs-4-2"
    assert [line.split() for line in lines[3:7]] == [
        "a - n1 01010101 standard healthy 7.0 GiB 10.0 GiB own -".split(),
        "02020202 standard healthy 7.0 GiB 10.0 GiB own - weight 4.0 GiB".split(),
        "n2 03030303 standard healthy 7.0 GiB 10.0 GiB own - drain".split(),
        "b - n1 04040404 standard healthy 7.0 GiB 10.0 GiB 0 B -".split(),
    ]
    assert lines[8:] == [
        "staged  version 4: drystone layout apply | revert",
        "  level node → zone",
        "  n1  02020202  weight 4.0 GiB",
        "  n2  03030303  drain",
        "to move  up to 3.0 GiB on draining disks: they stay there, and readable, until a later release can move them",
        "warning  something to know",
    ]


def test_the_document_for_programs_is_flat_and_whole() -> None:
    """Each disk with both of its weights; it is JSON."""
    document = json.loads(json.dumps(as_document(REPORT)))
    assert (document["version"], document["staged_version"], document["bytes_to_move"]) == (3, 4, 3 * GIB)
    assert document["disks"][2]["node"] == "n2"
    assert [disk["staged_draining"] for disk in document["disks"]] == [False, False, True, False]
    assert [(disk["weight"], disk["staged_weight"]) for disk in document["disks"]][1:3] == [(-1, 4 * GIB), (-1, -1)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing to plan"),
        (("--disk", "ab"), "each --disk needs a --weight"),
        (("--weight", "1GiB"), "each --disk needs a --weight"),
        (("--disk", "ab", "--weight", "much"), "--weight: 'much' is not a size"),
        (("--disk", "ab", "--weight", "-1"), "--weight"),
        (("--level", "room"), "--level"),
    ],
)
def test_wrong_usage_asks_nobody(arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 with a sentence."""
    assert run("plan", "/nowhere", *arguments) == 2
    assert why in capsys.readouterr().err


def test_a_standalone_store_has_no_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All four verbs say so; nobody at all is exit code 3."""
    assert run("show", str(tmp_path / "nothing")) == 3
    store = LiveStore(tmp_path / "store")
    try:
        store.start()
        capsys.readouterr()
        for verb in (("show",), ("plan", "--drain", "ab"), ("apply",), ("revert",)):
            assert run(*verb, "--state-dir", str(tmp_path / "store" / "state")) == 1
            assert "NotImplemented: a standalone store has no layout" in capsys.readouterr().err
    finally:
        store.stop()
