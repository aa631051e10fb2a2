# SPDX-License-Identifier: Apache-2.0
"""Every value that crosses the wire comes back equal, with every field set and with every field left out."""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import pytest

from drystone_core.cell import ScrubPassStatus
from drystone_core.errors import DrystoneError, ErrorCode, Retry
from drystone_core.extents import BlobRef, PackedExtent, StripedExtent
from drystone_core.layout import LayoutChange, LayoutReport
from drystone_core.listing import ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Mutation, Outcome
from drystone_core.objects import Bucket, ObjectVersion, Part, Upload
from drystone_core.services import BlobName
from drystone_runtime.rpc import blob_messages as blobs
from drystone_runtime.rpc import layout_messages as layouts
from drystone_runtime.rpc import mutation_messages as mutations
from drystone_runtime.rpc import object_messages as objects
from drystone_runtime.rpc import scrub_messages as scrubs
from drystone_runtime.rpc.status import from_detail, status_of, to_detail


def filled(kind: Any, numbers: "count[int]") -> Any:
    """A value of that type in which no field has its default."""
    origin = typing.get_origin(kind)
    if isinstance(kind, typing.NewType):
        return filled(kind.__supertype__, numbers)
    if kind is PackedExtent | StripedExtent:
        return filled((PackedExtent, StripedExtent)[next(numbers) % 2], numbers)
    if origin in (typing.Union, types.UnionType):
        return filled(typing.get_args(kind)[0], numbers)
    if origin in (tuple, list):
        return origin(filled(typing.get_args(kind)[0], numbers) for _ in range(2))
    if origin is not None and issubclass(origin, Mapping):
        return {filled(arg, numbers): filled(typing.get_args(kind)[1], numbers) for arg in typing.get_args(kind)[:1]}
    if kind is bool:
        return True
    if kind is int:
        return next(numbers)
    if kind is str:
        return f"text-{next(numbers)}"
    if kind is bytes:
        return b"bytes-%d\xff" % next(numbers)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return list(kind)[-1]
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else list(hints)
    return kind(**{name: filled(hints[name], numbers) for name in names})


def bare(kind: Any) -> Any:
    """A value of that type in which every optional field has its default."""
    required = filled(kind, count(1))
    given = {
        f.name: getattr(required, f.name)
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    return kind(**given)


@pytest.mark.parametrize("kind", typing.get_args(Mutation), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("make", [lambda kind: filled(kind, count(1)), bare], ids=["filled", "bare"])
def test_every_mutation_survives_the_wire(kind: Any, make: Callable[[Any], Any]) -> None:
    """A field forgotten in the adapter shows here, also one added later."""
    value = make(kind)
    sent = mutations.mutation_message(value).SerializeToString()
    assert mutations.mutation_value(mutations._M.Mutation.FromString(sent)) == value


@pytest.mark.parametrize(
    ("kind", "there", "back"),
    [
        (Bucket, objects.bucket_message, objects.bucket_value),
        (Part, objects.part_message, objects.part_value),
        (ObjectVersion, objects.version_message, objects.version_value),
        (Upload, objects.upload_message, objects.upload_value),
        (ObjectPage, objects.object_page_message, objects.object_page_value),
        (VersionPage, objects.version_page_message, objects.version_page_value),
        (UploadPage, objects.upload_page_message, objects.upload_page_value),
        (PartPage, objects.part_page_message, objects.part_page_value),
        (BlobRef, blobs.blob_message, blobs.blob_value),
        (BlobName, blobs.name_message, blobs.name_value),
        (ScrubPassStatus, scrubs.scrub_pass_message, scrubs.scrub_pass_value),
        (LayoutReport, layouts.report_message, layouts.report_value),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_every_value_survives_the_wire(kind: Any, there: Callable[[Any], Any], back: Callable[[Any], Any]) -> None:
    """As above, for what is read."""
    value = filled(kind, count(1))
    message = there(value)
    assert back(type(message).FromString(message.SerializeToString())) == value
    if dataclasses.is_dataclass(kind):
        assert back(there(bare(kind))) == bare(kind)


def test_changes_of_a_layout_survive_the_wire() -> None:
    """Also a weight that means the disk's size."""
    value = LayoutChange(
        weights=(("ab", 0), ("cd", -1), ("e", 1 << 42)), drain=("1", "node:n"), undrain=("2",), level="rack"
    )
    assert layouts.change_value(layouts.change_message(value)) == value


def test_outcomes_survive_the_wire() -> None:
    """`replaced` alone is not carried."""
    value = dataclasses.replace(filled(Outcome, count(1)), replaced=None)
    assert mutations.outcome_value(mutations.outcome_message(value)) == value
    assert mutations.outcome_value(mutations.outcome_message(Outcome())) == Outcome()


def leaf_errors() -> list[DrystoneError]:
    """Every class with every code it may carry."""
    from drystone_core.errors import Busy, Damaged, Refused, Stale, Unavailable

    found: list[DrystoneError] = [Busy("b", wait_ms="5"), Damaged("d", volume="1")]
    for code in ErrorCode:
        found += [Refused(code, "r", key="k"), Unavailable("u", code), Stale("s", code), DrystoneError(code)]
    patient = Refused(ErrorCode.NO_SUCH_KEY)
    patient.retry = Retry.SAME
    return [*found, patient]


def test_every_error_survives_the_wire_and_has_a_status() -> None:
    """Class, code, message, details and retry are the same on the other side."""
    for error in leaf_errors():
        back = from_detail(type(to_detail(error)).FromString(to_detail(error).SerializeToString()))
        assert type(back) is type(error)
        assert (back.code, back.message, dict(back.details), back.retry) == (
            error.code,
            error.message,
            dict(error.details),
            error.retry,
        )
        assert status_of(error.code).name not in ("OK", "UNKNOWN")


def test_an_error_of_a_newer_release_is_an_internal_error() -> None:
    """An unknown code does not crash the client."""
    detail = to_detail(DrystoneError(ErrorCode.NO_SUCH_KEY))
    detail.code = "FromTheFuture"
    assert from_detail(detail).code is ErrorCode.INTERNAL_ERROR
