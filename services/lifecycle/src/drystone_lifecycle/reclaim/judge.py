# SPDX-License-Identifier: Apache-2.0
"""What of a closed volume may be freed: decided from what metadata said of its blobs and since when. Pure.

Invariants
  J1  A stripe may be freed only when metadata called every one of its blobs dead, the youngest blob is older than the
      grace period, and the stripe was first seen dead at least the grace period ago.
  J2  A volume may be deleted only when all its stripes may be freed (or were) and the walk accounted for every byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from drystone_core.ids import blob_stamp_us
from drystone_core.services import BlobName
from drystone_core.upkeep import StripeNames, VolumeNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with a volume now."""

    retire: bool
    free: tuple[int, ...]
    """Records of stripes to punch, when the volume is not retired."""
    dead_since: Mapping[int, int]
    """Record → when it was first seen dead (microseconds of the steady clock), for stripes that still wait."""


def judge(
    volume: VolumeNames,
    dead: Mapping[BlobName, bool],
    *,
    dead_since: Mapping[int, int],
    now_us: int,
    grace_us: int,
    elapsed_us: int | None = None,
) -> Verdict:
    """`dead` says for each name what metadata answered; a name without an answer counts as live.

    `dead_since` counts by `elapsed_us`, a clock that does not jump (default: `now_us`), so that a wall clock set ahead
    does not end every grace period at once.
    """
    steady = now_us if elapsed_us is None else elapsed_us
    since: dict[int, int] = {}
    free: list[int] = []
    whole = volume.complete
    for stripe in volume.stripes:
        if stripe.freed:
            continue
        if not _all_dead(stripe, dead):
            whole = False
            continue
        first = since[stripe.record] = min(dead_since.get(stripe.record, steady), steady)
        youngest = max((blob_stamp_us(name.blob_id) for name in stripe.names), default=0)
        if steady - first >= grace_us and now_us - youngest >= grace_us:
            free.append(stripe.record)
        else:
            whole = False
    return Verdict(retire=whole, free=() if whole else tuple(free), dead_since=since)


def _all_dead(stripe: StripeNames, dead: Mapping[BlobName, bool]) -> bool:
    return stripe.droppable and all(dead.get(name, False) for name in stripe.names)
