# SPDX-License-Identifier: Apache-2.0
"""Claims of volumes as documents of the coordinator.

Invariants
  L1  A claim names the incarnation of the registration it was made under: with that registration it loses its meaning.
  L2  A claim that cannot be given back now is given back later; until then others ask who holds it, and learn that we live:
      they leave the volume alone, which is safe.
  L3  Whether somebody else owns a volume is asked of the coordinator, never of a cache: the claim stood there before the
      file that made us ask.
"""

import logging
from collections.abc import Sequence

from drystone_core.coordination import ABSENT, Coordinator, Delete, Put
from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.formats.coordination import VOLUMES, OpenVolume, encode, volume_key
from drystone_core.ids import DiskId, VolumeId
from drystone_core.ports import Clock
from drystone_core.profiles import Profile
from drystone_runtime.coordination.registration import Registration
from drystone_storage.cell.view import NODES, view_of

log = logging.getLogger(__name__)
_QUIET = 2.0
"""Seconds after an unanswered claim in which no other is tried."""
_EVERY = 1.0
"""Seconds between two attempts to give back what could not be."""


class CoordinatedClaims:
    """VolumeClaims of one registered node."""

    def __init__(self, *, coordinator: Coordinator, node: str, clock: Clock) -> None:
        self._coordinator, self._node, self._clock = coordinator, node, clock
        self.registration: Registration | None = None
        """Set once this node is registered: its disks must be opened first."""
        self._unreleased: set[VolumeId] = set()
        self._unanswered_until = float("-inf")

    async def claim(self, volume: VolumeId, profile: Profile, disks: Sequence[DiskId], disk_class: str) -> None:
        """Recorded when it returns; Unavailable while not registered or the coordinator does not answer."""
        registration = self.registration
        if registration is None:
            raise Unavailable("this node is not registered yet")
        if self._clock.monotonic() < self._unanswered_until:
            raise Unavailable("the coordinator did not answer a moment ago")
        try:
            registration.check()
            document = OpenVolume(
                volume=volume, profile=profile.name, disks=tuple(disks), owner=self._node,
                incarnation=registration.incarnation, disk_class=disk_class,
            )  # fmt: skip
            await self._coordinator.commit(Put(key=volume_key(volume), value=encode(document), expected=ABSENT))
        except Unavailable:
            # Whoever asks next hears so at once, and can go to a node that has a volume open.
            self._unanswered_until = self._clock.monotonic() + _QUIET
            raise
        except DrystoneError as error:  # not registered just now: no volume can be opened
            raise Unavailable(f"the volume cannot be claimed: {error.message or error.code.value}") from error

    async def release(self, volume: VolumeId) -> None:
        """Given back now or later (L2)."""
        try:
            await self._coordinator.commit(Delete(key=volume_key(volume)))
            self._unreleased.discard(volume)
        except DrystoneError as error:
            log.info("claim.release_waits", extra={"key": volume_key(volume), "reason": str(error)})
            self._unreleased.add(volume)

    async def owned_elsewhere(self, volumes: Sequence[VolumeId]) -> frozenset[VolumeId]:
        """Those with a claim of a registered node; our own are among them while they are being made (L3)."""
        claims = await self._coordinator.snapshot(VOLUMES)
        nodes = await self._coordinator.snapshot(NODES)
        view = view_of((*claims.documents, *nodes.documents))
        owned = (view.volumes.get(volume) for volume in volumes)
        return frozenset(claim.volume for claim in owned if claim is not None and view.owner_lives(claim))

    async def run(self) -> None:
        """Give back what could not be, for ever."""
        while True:
            await self._clock.sleep(_EVERY)
            for volume in sorted(self._unreleased):
                await self.release(volume)
