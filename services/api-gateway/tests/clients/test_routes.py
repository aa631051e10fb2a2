# SPDX-License-Identifier: Apache-2.0
"""Where a mutation is sent follows what metadata processes have said of their tablets."""

from typing import Any

from drystone_core.ids import Key, WriteId
from drystone_core.mutations import CreateBucket, DeleteBucket, DeleteObject
from drystone_gateway.clients.routes import FIRST_TABLET, Routes

ID = WriteId(bytes(24))


def delete(key: bytes, bucket: str = "b") -> DeleteObject:
    return DeleteObject(write_id=ID, bucket=bucket, key=Key(key))


def says(tablet: bytes, low: bytes, high: bytes) -> dict[str, str]:
    """The details of a refusal."""
    return {"owner": "m1", "tablet": tablet.hex(), "low": low.hex(), "high": high.hex()}


def test_what_is_not_known_is_asked_of_the_first_tablet() -> None:
    """So is everything about buckets, whatever was learnt."""
    routes = Routes()
    assert routes.tablet(delete(b"k")) == FIRST_TABLET
    assert routes.learn(delete(b"k"), says(b"t", b"", b""))
    for change in (CreateBucket(write_id=ID, bucket="b", owner="1", region="r"), DeleteBucket(write_id=ID, bucket="b")):
        assert not routes.learn(change, says(b"t", b"", b""))
        assert routes.tablet(change) == FIRST_TABLET


def test_ranges_are_learnt_and_replaced() -> None:
    """A split tablet's range is narrowed by what is said of its parts; other buckets' keys are not touched."""
    routes = Routes()
    assert routes.learn(delete(b"k"), says(b"one", b"", b""))
    assert routes.learn(delete(b"x"), says(b"two", b"m", b""))
    assert [routes.tablet(delete(key)) for key in (b"k", b"m", b"x")] == [FIRST_TABLET, b"two", b"two"]
    assert routes.learn(delete(b"k"), says(b"one", b"", b"m"))
    assert [routes.tablet(delete(key)) for key in (b"", b"k", b"m")] == [b"one", b"one", b"two"]
    assert routes.tablet(delete(b"k", "other")) == FIRST_TABLET
    assert not routes.learn(delete(b"k"), says(b"one", b"", b"m"))


def test_details_of_other_refusals_teach_nothing() -> None:
    """Without a tablet, or with something unreadable, nothing is learnt."""
    routes = Routes()
    others: list[dict[str, Any]] = [{}, {"owner": "m1"}, {"tablet": "zz", "low": "", "high": ""}]
    for details in others:
        assert not routes.learn(delete(b"k"), details)
    assert routes.tablet(delete(b"k")) == FIRST_TABLET


def test_memory_of_routes_is_bounded() -> None:
    """Beyond the bound what was learnt goes, and is learnt again."""
    routes = Routes(buckets=2, ranges=2)
    for number in range(5):
        routes.learn(delete(b"k", f"b{number}"), says(b"t", b"", b""))
        routes.learn(delete(b"%d" % number), says(b"t%d" % number, b"%d" % number, b"%d" % (number + 1)))
    assert len(routes._ranges) <= 2 and all(len(ranges) <= 2 for ranges in routes._ranges.values())
    assert routes.tablet(delete(b"4")) == b"t4"
