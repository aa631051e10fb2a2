# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a version lie: in its row, or in a manifest blob of which only the pages needed are read."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from drystone_core.extents import BlobRef
from drystone_core.objects import ObjectVersion, Part


class Window(NamedTuple):
    """Some of an object's blobs, next to one another."""

    blobs: Sequence[BlobRef]
    first: int
    """Offset in the object of the first blob's first byte."""
    held: int
    """Bytes the blobs hold."""


class PartSpan(NamedTuple):
    """A part and where it lies in the object."""

    part: Part
    start: int


class Layout(Protocol):
    """Finds the blobs and parts of a version."""

    async def window(self, version: ObjectVersion, at: int) -> Window:
        """Blobs that hold the byte at offset `at` and, as far as cheap, those after it."""
        ...

    async def part(self, version: ObjectVersion, number: int) -> PartSpan | None:
        """The part numbered as the client numbered it (1 … 10,000), or None."""
        ...

    async def parts(self, version: ObjectVersion, after: int, limit: int) -> list[Part]:
        """Parts with numbers above `after`, in order, at most `limit`."""
        ...
