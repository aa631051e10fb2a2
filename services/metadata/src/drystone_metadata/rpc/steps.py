# SPDX-License-Identifier: Apache-2.0
"""Steps of bucket changes between metadata processes over gRPC: both ends.

Invariants
  P1  What a step is answered arrives as the very error it was, also those by which a walk finds its way (NotOwner, KeyOutOfRange,
      UnknownTablet).
  P2  Steps that wait for the same process travel together. Endings of whole changes travel alone: they take as long as a walk,
      and one that nobody waits for any more is given up at both ends.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, assert_never

import grpc

from drystone.metadata.v1 import steps_pb2 as pb
from drystone.metadata.v1 import steps_pb2_grpc
from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.ids import BucketId, WriteId
from drystone_metadata.logic.carrying import BuryBucket, CarryBucket, EndChange
from drystone_metadata.store.ports import KeyOutOfRange, TabletId, UnknownTablet
from drystone_metadata.tablets.handing import EndBegun, Step, Take
from drystone_metadata.tablets.owning import NotOwner
from drystone_runtime.background import Background
from drystone_runtime.rpc.channel import unary
from drystone_runtime.rpc.coalesce import Coalescer
from drystone_runtime.rpc.object_messages import bucket_message, bucket_value
from drystone_runtime.rpc.server import RpcService
from drystone_runtime.rpc.status import from_detail, to_detail

SERVICE = "drystone.metadata.v1.PeerService"
STEPS = 256
"""Of one call."""
_FLIGHTS = 4


class RpcPeer:
    """Another metadata process of the cell."""

    def __init__(self, *, channel: grpc.aio.Channel, background: Background, timeout: float) -> None:
        """`timeout`: seconds a call may take."""
        self._stub = steps_pb2_grpc.PeerServiceStub(channel)
        self._timeout = timeout
        self._steps: Coalescer[pb.Step, None] = Coalescer(
            send=self._call, background=background, batch=STEPS, flights=_FLIGHTS, more=1
        )

    async def take(self, tablet: TabletId, step: Step) -> None:
        """Decided and durable there when it returns; NotOwner, KeyOutOfRange, UnknownTablet, Unavailable, the step's refusal."""
        message = step_message(tablet, step)
        if not isinstance(step, EndBegun):
            await self._steps.submit(message)
            return
        (answer,) = await self._call([message])
        if answer is not None:
            raise answer

    async def _call(self, batch: Sequence[pb.Step]) -> list[BaseException | None]:
        try:
            answer = await unary(self._stub.TakeSteps, pb.TakeStepsRequest(steps=batch), timeout=self._timeout)
        except Refused as refused:  # not the steps, the call: of another release, or its certificate is refused
            raise Unavailable(f"the other metadata process takes no steps: {refused}") from refused
        return [result_value(result, step.tablet) for result, step in zip(answer.results, batch, strict=True)]


def peer_service(take: Take) -> RpcService:
    """What an RpcServer registers; `take` decides a step here or refuses it."""
    servicer = _Servicer(take)
    return RpcService(
        name=SERVICE, register=lambda server: steps_pb2_grpc.add_PeerServiceServicer_to_server(servicer, server)
    )


class _Servicer(steps_pb2_grpc.PeerServiceServicer):
    def __init__(self, take: Take) -> None:
        self._take = take

    async def TakeSteps(
        self, request: pb.TakeStepsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TakeStepsResponse:
        if len(request.steps) > STEPS:
            raise Refused(ErrorCode.INVALID_ARGUMENT, f"{len(request.steps)} steps in one call; at most {STEPS}")
        return pb.TakeStepsResponse(results=await asyncio.gather(*(_settled(self._take, one) for one in request.steps)))


async def _settled(take: Take, message: pb.Step) -> pb.StepResult:
    """One step's answer; a bug fails the whole call."""
    try:
        await take(TabletId(message.tablet), step_value(message))
    except DrystoneError as error:
        return result_message(error)
    return result_message(None)


def step_message(tablet: TabletId, step: Step) -> pb.Step:
    """To the wire."""
    match step:
        case CarryBucket():
            return pb.Step(
                tablet=tablet, write_id=step.write_id, carry=pb.CarryBucket(value=bucket_message(step.value))
            )
        case BuryBucket():
            bury = pb.BuryBucket(bucket=step.bucket, bucket_id=step.bucket_id)
            return pb.Step(tablet=tablet, write_id=step.write_id, bury=bury)
        case EndChange():
            end = pb.EndChange(bucket=step.bucket, bucket_id=step.bucket_id, generation=step.generation, done=step.done)
            return pb.Step(tablet=tablet, write_id=step.write_id, end=end)
        case EndBegun():
            begun = pb.EndBegun(bucket=step.bucket, bucket_id=step.bucket_id, generation=step.generation)
            return pb.Step(tablet=tablet, end_begun=begun)
        case _:
            assert_never(step)


def step_value(message: pb.Step) -> Step:
    """From the wire; Unavailable for a step of a newer release: another process may know it."""
    kind, write_id = message.WhichOneof("step"), WriteId(message.write_id)
    match kind:
        case "carry":
            value = bucket_value(message.carry.value)
            return CarryBucket(write_id=write_id, bucket=value.name, value=value)
        case "bury":
            bury = message.bury
            return BuryBucket(write_id=write_id, bucket=bury.bucket, bucket_id=BucketId(bury.bucket_id))
        case "end":
            end = message.end
            return EndChange(
                write_id=write_id,
                bucket=end.bucket,
                bucket_id=BucketId(end.bucket_id),
                generation=end.generation,
                done=end.done,
            )
        case "end_begun":
            begun = message.end_begun
            return EndBegun(bucket=begun.bucket, bucket_id=BucketId(begun.bucket_id), generation=begun.generation)
        case _:
            raise Unavailable("a step that this release does not know")


def result_message(error: DrystoneError | None) -> pb.StepResult:
    """To the wire (P1)."""
    match error:
        case None:
            return pb.StepResult(taken=pb.StepTaken())
        case NotOwner():
            return pb.StepResult(elsewhere=pb.StepElsewhere(owner=error.details.get("owner", "")))
        case KeyOutOfRange():
            return pb.StepResult(moved=pb.STEP_MOVED_RANGE)
        case UnknownTablet():
            return pb.StepResult(moved=pb.STEP_MOVED_TABLET)
        case _:
            return pb.StepResult(error=to_detail(error))


def result_value(message: pb.StepResult, tablet: bytes) -> DrystoneError | None:
    """From the wire; None = taken."""
    match message.WhichOneof("result"):
        case "taken":
            return None
        case "elsewhere":
            return NotOwner(owner=message.elsewhere.owner, tablet=tablet.hex())
        case "moved" if message.moved == pb.STEP_MOVED_TABLET:
            return UnknownTablet()
        case "moved":
            return KeyOutOfRange("the tablet does not hold what the step is about")
        case _:
            return from_detail(message.error)
