# SPDX-License-Identifier: Apache-2.0
"""What the state directory remembers of its store: enough to tell "all disks are away" from "nothing was ever here".

Written when the store was opened; everything else about a store stands on its disks.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from drystone_core.ports import Disk
from drystone_runtime.documents import write_document

NAME = "store.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A store that was opened with this state directory."""

    cluster_id: str
    profile: str


def recall(state: Path) -> Remembered | None:
    """None = no store was opened with this state directory, or nobody can read what it says."""
    try:
        found = json.loads((state / NAME).read_text())
        return Remembered(cluster_id=str(found["cluster_id"]), profile=str(found["profile"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(state: Disk, store: Remembered) -> None:
    """Durable on return; `state` is the state directory."""
    text = json.dumps({"cluster_id": store.cluster_id, "profile": store.profile}) + "\n"
    write_document(state, NAME, text.encode())
