# SPDX-License-Identifier: Apache-2.0
"""Which class the operator gave each disk: entries by directory or by pattern. Pure.

Invariants
  K1  A directory's own entry counts before patterns; patterns that disagree about it are a problem, not an order.
  K2  An entry without a pattern that names none of the directories is a problem: what is mistyped is never passed over.
  K3  What stands in a disk's identity is its class. Who says otherwise is told so, and nothing starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from drystone_core.storage_classes import DEFAULT_DISK_CLASS

_PATTERN = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class DiskClasses:
    """`storage.disk_classes`."""

    entries: tuple[tuple[str, str], ...] = ()
    """(absolute path or pattern, class)."""

    def of(self, path: str) -> str:
        """The class the operator gave this directory; empty when none was given."""
        own = [disk_class for named, disk_class in self.entries if named == path]
        matching = [disk_class for named, disk_class in self.entries if fnmatchcase(path, named)]
        return next(iter(own or matching), "")

    def of_new(self, path: str, before: str = DEFAULT_DISK_CLASS) -> str:
        """The class a disk made here gets; `before`: of the disk it replaces."""
        return self.of(path) or before

    def problems(self, paths: Sequence[str]) -> list[str]:
        """Sentences: entries that name none of these directories, patterns that disagree (K1, K2)."""
        found = [
            f"storage.disk_classes names {named}, which is not one of the given directories: correct it, or leave it out"
            for named, _ in self.entries
            if named not in paths and not _PATTERN.intersection(named)
        ]
        for path in paths:
            said = {disk_class for named, disk_class in self.entries if fnmatchcase(path, named)}
            if len(said) > 1 and path not in dict(self.entries):
                found.append(
                    f"storage.disk_classes gives {path} several classes ({', '.join(sorted(said))}): "
                    "let one pattern match it, or give it an entry of its own"
                )
        return found

    def disagreement(self, path: str, disk_class: str) -> str:
        """What is wrong when a disk of that class is at `path` (K3); empty: nothing."""
        said = self.of(path)
        if not said or said == disk_class:
            return ""
        return (
            f"{path} is a disk of class {disk_class}, storage.disk_classes says {said}: say {disk_class} there; to have a "
            f"disk of class {said} here, empty the directory first, and what the disk held is rebuilt on disks of class "
            f"{disk_class}"
        )
