# SPDX-License-Identifier: Apache-2.0
"""UpkeepNode over gRPC: how the keepers reach a storage node."""

from collections.abc import Callable, Sequence

import grpc

from drystone.storage.v1 import upkeep_pb2 as pb
from drystone.storage.v1 import upkeep_pb2_grpc
from drystone_core.ids import VolumeId
from drystone_core.upkeep import ScrubReport, StripeNames, VolumeNames, Wound, Wounds
from drystone_runtime.rpc.blob_messages import name_value
from drystone_runtime.rpc.channel import stream, unary


class RpcUpkeep:
    """A storage node somewhere else, as its keepers see it."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        timeout: float = 60.0,
        long_timeout: float = 6 * 3600.0,
        token: Callable[[], int] = lambda: 0,
    ) -> None:
        """`timeout`: seconds a call may take; `long_timeout`: one that rebuilds or reads a whole volume. `token`: the
        fencing token of orders to a node of a cell; what it raises keeps the order from being sent."""
        self._stub = upkeep_pb2_grpc.UpkeepServiceStub(channel)
        self._token = token
        self._timeout, self._long = timeout, long_timeout

    async def wounds(self) -> Wounds:
        """Slots that are missing or damaged."""
        said: pb.ListWoundsResponse = await unary(self._stub.ListWounds, pb.ListWoundsRequest(), timeout=self._timeout)
        return Wounds(found=tuple(map(wound_value, said.wounds)), waiting=said.waiting)

    async def heal(self, wound: Wound, *, bytes_per_second: int) -> int:
        """Rebuild the slot; bytes written."""
        request = pb.HealRequest(wound=wound_message(wound), bytes_per_second=bytes_per_second, token=self._token())
        said: pb.HealResponse = await unary(self._stub.Heal, request, timeout=self._long)
        return said.bytes_written

    async def closed_volumes_to_scrub(self) -> Sequence[VolumeId]:
        """All of them, those verified least often first."""
        said: pb.ListVolumesToScrubResponse = await unary(
            self._stub.ListVolumesToScrub, pb.ListVolumesToScrubRequest(), timeout=self._timeout
        )
        return [VolumeId(volume) for volume in said.volumes]

    async def scrub(self, volume: VolumeId, *, bytes_per_second: int) -> ScrubReport:
        """Read a closed volume through."""
        request = pb.ScrubRequest(volume=volume, bytes_per_second=bytes_per_second, token=self._token())
        said: pb.ScrubResponse = await unary(self._stub.Scrub, request, timeout=self._long)
        return ScrubReport(
            volume=volume,
            bytes_read=said.bytes_read,
            fragments=said.fragments,
            slots_damaged=said.slots_damaged,
            slots_unread=said.slots_unread,
            stripes_incomplete=said.stripes_incomplete,
        )

    async def closed_volumes(self) -> Sequence[VolumeId]:
        """All of them."""
        said: pb.ListClosedVolumesResponse = await unary(
            self._stub.ListClosedVolumes, pb.ListClosedVolumesRequest(), timeout=self._timeout
        )
        return [VolumeId(volume) for volume in said.volumes]

    async def volume_names(self, volume: VolumeId) -> VolumeNames:
        """All stripes and their names."""
        stripes: list[StripeNames] = []
        complete = False
        request = pb.GetVolumeNamesRequest(volume=volume)
        async for said in stream(self._stub.GetVolumeNames, request, timeout=self._long):
            complete = said.complete
            stripes += [
                StripeNames(s.record, s.stored, tuple(map(name_value, s.names)), s.droppable, s.freed)
                for s in said.stripes
            ]
        return VolumeNames(volume=volume, stripes=tuple(stripes), complete=complete)

    async def free_stripes(self, volume: VolumeId, records: Sequence[int]) -> int:
        """Punch these stripes; bytes given back."""
        request = pb.FreeStripesRequest(volume=volume, records=records, token=self._token())
        said: pb.FreeStripesResponse = await unary(self._stub.FreeStripes, request, timeout=self._timeout)
        return said.bytes_freed

    async def retire(self, volume: VolumeId) -> int:
        """Delete the volume; bytes given back."""
        request = pb.RetireVolumeRequest(volume=volume, token=self._token())
        said: pb.RetireVolumeResponse = await unary(self._stub.RetireVolume, request, timeout=self._timeout)
        return said.bytes_freed

    async def look_again(self, volume: VolumeId, healed: Sequence[int]) -> None:
        """See what the disks say of the volume."""
        request = pb.LookAgainRequest(volume=volume, healed=healed)
        await unary(self._stub.LookAgain, request, timeout=self._timeout)


def wound_message(wound: Wound) -> pb.Wound:
    """To the wire."""
    return pb.Wound(volume=wound.volume, slot=wound.slot, spare=wound.spare, size=wound.size, reason=wound.reason)


def wound_value(said: pb.Wound) -> Wound:
    """From the wire."""
    return Wound(volume=VolumeId(said.volume), slot=said.slot, spare=said.spare, size=said.size, reason=said.reason)
