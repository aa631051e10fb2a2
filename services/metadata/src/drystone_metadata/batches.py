# SPDX-License-Identifier: Apache-2.0
"""What a committer works with: mutations that wait, and batches decided from them."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from drystone_core.errors import DrystoneError, Refused
from drystone_core.formats.feed import FeedEntry
from drystone_core.ids import WriteId
from drystone_core.mutations import Outcome
from drystone_metadata.logic.decide import Change
from drystone_metadata.logic.view import View
from drystone_metadata.store.ports import Batch, Expected, RowKey


class Phase(StrEnum):
    """See the module's states."""

    NEW = "new"
    OWNER = "owner"
    UNSETTLED = "unsettled"
    LOST = "lost"


class Waiting(NamedTuple):
    """A mutation and who waits for it."""

    change: Change
    future: "asyncio.Future[Outcome]"


Answer = Outcome | DrystoneError
Watcher = Callable[[Iterable[RowKey] | None], None]


@dataclass(slots=True, eq=False)
class Prepared:
    """A decided batch."""

    expected: Expected
    view: View
    answers: list[Answer]
    """One per waiting mutation decided; those beyond go back to the queue."""
    entries: list[FeedEntry]
    idle: list[tuple[WriteId, Outcome | Refused]]
    batch: Batch
    raises_floor: bool = False
    """It is committed although it changes no row."""
