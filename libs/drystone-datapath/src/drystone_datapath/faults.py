# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a volume or a fragment, as the data path tells its callers."""

from collections.abc import Mapping
from types import MappingProxyType

from drystone_core.errors import DrystoneError, ErrorCode, Retry, Stale
from drystone_core.ids import VolumeId, volume_text


class VolumeBroken(DrystoneError):
    """A slot failed or was late: the volume acknowledges nothing more; append again, as a new blob, elsewhere (R3)."""

    retry = Retry.AFTER_REFRESH

    def __init__(self, volume: VolumeId, failures: Mapping[int, BaseException]) -> None:
        what = ", ".join(f"slot {slot}: {error!r}" for slot, error in sorted(failures.items())) or "given up"
        super().__init__(ErrorCode.STALE, f"volume {volume_text(volume)} is broken ({what})")
        self.volume = volume
        self.failures: Mapping[int, BaseException] = MappingProxyType(dict(failures))
        """Slot → why; TimeoutError for lateness, SlotClosed when somebody closed the volume."""


class VolumeUnusable(DrystoneError):
    """The volume is full, closed or being closed: nothing was written; append elsewhere."""

    retry = Retry.AFTER_REFRESH

    def __init__(self, volume: VolumeId, why: str) -> None:
        super().__init__(ErrorCode.STALE, f"volume {volume_text(volume)} is {why}")
        self.volume = volume
        self.why = why


class SlotClosed(Exception):
    """The slot carries the close flag: no append can be acknowledged (invariant 6)."""


class DamagedFragment(Exception):
    """A fragment's bytes, head or table do not verify."""


class BlobGone(Stale):
    """The blob's volume was retired or its stripe freed: read the row again, the bytes may have moved."""

    def __init__(self, volume: VolumeId, record: int) -> None:
        super().__init__(f"stripe {record} of volume {volume_text(volume)} is gone")
        self.volume = volume
        self.record = record
