# SPDX-License-Identifier: Apache-2.0
"""How far one pass of scrubbing is, in a form that survives the process. Pure.

A volume leaves `todo` only when it was read: what is lost of this state, or not yet written, is read once more. A volume
whose last look was not clean (damage, or slots that could not be read) is kept apart: what was found may be known to
nobody after a restart, so it is looked at again then.

Format    docs/formats/scrub-pass.md (v1), a sealed JSON document (sealed_json).
Invariants
  N1  Every volume the pass began with is in `todo` until it was scrubbed, is gone, or could not be scrubbed.
  N2  A document of another store, of the future, or that does not verify counts as none.
"""

from dataclasses import dataclass, field
from typing import Any

from drystone_core.formats.sealed_json import open_json, seal_json
from drystone_core.ids import VolumeId, volume_text
from drystone_core.upkeep import ScrubReport

NAME = "scrub-pass.json"
KIND = "drystone scrub pass"
VERSION = 1


@dataclass(slots=True, kw_only=True)
class ScrubPass:
    """One pass over the volumes that were closed when it began."""

    began_us: int
    """Unix microseconds."""
    todo: list[VolumeId] | None = None
    """Volumes still to read, in order; None = they are still to be listed."""
    unclean: list[VolumeId] = field(default_factory=list)
    """Volumes whose last look found damage, or could not read all."""
    volumes: int = 0
    """That the pass covers."""
    bytes_read: int = 0
    slots_damaged: int = 0
    """Found, each time."""
    seconds: float = 0.0
    """Spent on the volumes read so far."""
    finished_us: int = 0
    """Unix microseconds; 0 = under way."""

    @property
    def done(self) -> int:
        """Volumes looked at."""
        return 0 if self.todo is None else self.volumes - len(self.todo)

    def cover(self, volumes: list[VolumeId]) -> None:
        """These are the closed volumes. Those that are gone are not waited for; a pass without a list gets this one."""
        if self.todo is None:
            self.todo, self.volumes = list(volumes), len(volumes)
            return
        there = set(volumes)
        before = len(self.todo) + len(self.unclean)
        self.todo = [volume for volume in self.todo if volume in there]
        self.unclean = [volume for volume in self.unclean if volume in there]
        self.volumes -= before - len(self.todo) - len(self.unclean)

    def forget(self, volume: VolumeId) -> None:
        """It was deleted meanwhile."""
        if self.todo is not None and volume in self.todo:
            self.todo.remove(volume)
            self.volumes -= 1

    def note(self, volume: VolumeId, report: ScrubReport | None, seconds: float) -> None:
        """The volume was looked at; None = in vain."""
        assert self.todo is not None
        if volume in self.todo:
            self.todo.remove(volume)
        self.seconds += seconds
        if report is not None:
            self.bytes_read += report.bytes_read
            self.slots_damaged += report.slots_damaged
        if report is None or report.slots_damaged or report.slots_unread:
            self.unclean.append(volume)

    def look_again(self) -> None:
        """Volumes that were not clean are to be read again, first."""
        if self.unclean and self.todo is not None:
            self.todo = self.unclean + self.todo
            self.unclean = []
            self.finished_us = 0

    def seconds_left(self) -> int:
        """At the pace so far; 0 = unknown, or nothing is left."""
        if not self.todo or not self.done or self.finished_us:
            return 0
        return round(self.seconds / self.done * len(self.todo)) or 1


def encode_pass(one: ScrubPass, owner: str) -> bytes:
    """The file's bytes; `owner` is the cluster's id."""
    return seal_json(
        KIND,
        VERSION,
        {
            "cluster_id": owner,
            "began_us": one.began_us,
            "finished_us": one.finished_us,
            "todo": None if one.todo is None else _texts(one.todo),
            "unclean": _texts(one.unclean),
            "volumes": one.volumes,
            "bytes_read": one.bytes_read,
            "slots_damaged": one.slots_damaged,
            "milliseconds": round(one.seconds * 1000),
        },
    )


def decode_pass(data: bytes, owner: str, now_us: int) -> ScrubPass:
    """ValueError with a reason when there is none that may be gone on with (N2); `now_us` is the time by the wall."""
    found = open_json(data, KIND, VERSION)
    try:
        if found["cluster_id"] != owner:
            raise ValueError("it is another store's")
        one = ScrubPass(
            began_us=_number(found, "began_us"),
            finished_us=_number(found, "finished_us"),
            todo=None if found["todo"] is None else _volumes(found["todo"]),
            unclean=_volumes(found["unclean"]),
            volumes=_number(found, "volumes"),
            bytes_read=_number(found, "bytes_read"),
            slots_damaged=_number(found, "slots_damaged"),
            seconds=_number(found, "milliseconds") / 1000,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a member is missing or of the wrong type: {error}") from error
    if max(one.began_us, one.finished_us) > now_us:
        raise ValueError("it began in the future: a clock was wrong")
    return one


def _texts(volumes: list[VolumeId]) -> str:
    return " ".join(map(volume_text, volumes))


def _volumes(text: str) -> list[VolumeId]:
    return [VolumeId(int(one, 16)) for one in text.split()]


def _number(found: dict[str, Any], name: str) -> int:
    value = found[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is not a number")
    return value
