# SPDX-License-Identifier: Apache-2.0
"""Steps between metadata processes over a real gRPC socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.ids import BucketId, WriteId
from drystone_core.objects import Bucket, Versioning
from drystone_metadata.logic.carrying import BuryBucket, CarryBucket, EndChange
from drystone_metadata.rpc.steps import RpcPeer, peer_service, step_message, step_value
from drystone_metadata.store.ports import KeyOutOfRange, TabletId, UnknownTablet
from drystone_metadata.tablets.handing import EndBegun, Step
from drystone_metadata.tablets.owning import NotOwner
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.channel import open_channel
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings

TABLET, ID = TabletId(b"right"), WriteId(bytes(range(24)))
BUCKET = Bucket(
    bucket_id=BucketId(7), name="b", owner="o", created_ms=5, region="r", generation=2, versioning=Versioning.ENABLED,
    config={"policy": b"{}"}, closed=True, pending=bytes(range(24)),
)  # fmt: skip
CARRY = CarryBucket(write_id=ID, bucket="b", value=BUCKET)
STEPS: list[Step] = [
    CARRY,
    BuryBucket(write_id=ID, bucket="b", bucket_id=BucketId(7)),
    EndChange(write_id=ID, bucket="b", bucket_id=BucketId(7), generation=3, done=True),
    EndChange(write_id=ID, bucket="b", bucket_id=BucketId(7), generation=3, done=False),
    EndBegun(bucket="b", bucket_id=BucketId(7), generation=3),
]


class Far:
    """The process that is asked, and a client of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.background = Background(clock=SystemClock())
        self.taken: list[tuple[TabletId, Step]] = []
        self.error: DrystoneError | None = None
        self.held: asyncio.Event | None = None
        self.cancelled = 0
        self.peer: RpcPeer
        settings = RpcServerSettings(address=f"unix:{path}")
        self.server = RpcServer(services=(peer_service(self.take),), settings=settings)

    async def take(self, tablet: TabletId, step: Step) -> None:
        self.taken.append((tablet, step))
        if isinstance(step, EndBegun) and self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    made = Far(f"{tmp_path}/p.sock")
    await made.server.start()
    await made.server.serving(True)
    async with open_channel(f"unix:{made.path}") as channel:
        await channel.channel_ready()
        made.peer = RpcPeer(channel=channel, background=made.background, timeout=5.0)
        yield made
    await made.background.stop()
    await made.server.stop(0.1)


@pytest.mark.parametrize("step", STEPS)
async def test_steps_arrive_as_they_were(far: Far, step: Step) -> None:
    """Every field of every kind."""
    await far.peer.take(TABLET, step)
    assert far.taken == [(TABLET, step)]


@pytest.mark.parametrize(
    "error",
    [
        NotOwner(owner="two", tablet=TABLET.hex()),
        KeyOutOfRange("the tablet does not hold what the step is about"),
        UnknownTablet(),
        Refused(ErrorCode.BUCKET_NOT_EMPTY, "keys", BucketName="b"),
        Unavailable("no quorum"),
    ],
)
@pytest.mark.parametrize("step", [CARRY, STEPS[-1]])
async def test_answers_arrive_as_the_errors_they_were(far: Far, error: DrystoneError, step: Step) -> None:
    """Class, code, words and details (P1)."""
    far.error = error
    with pytest.raises(DrystoneError) as raised:
        await far.peer.take(TABLET, step)
    found = raised.value
    assert (type(found), found.code, found.message) == (type(error), error.code, error.message)
    assert dict(found.details) == dict(error.details)


async def test_steps_that_wait_travel_together_and_endings_alone(far: Far) -> None:
    """P2: forty steps in a few calls, none of which waits for an ending that takes long."""
    far.held = asyncio.Event()
    endings = [asyncio.ensure_future(far.peer.take(TABLET, STEPS[-1])) for _ in range(10)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(3):
        await asyncio.gather(*(far.peer.take(TabletId(b"%d" % number), CARRY) for number in range(40)))
    calls = far.server.counters.of("/drystone.metadata.v1.PeerService/TakeSteps")
    assert len(far.taken) == 50 and calls.calls + calls.running <= 10 + 8
    assert not any(one.done() for one in endings)
    for one in endings:
        one.cancel()
    await asyncio.gather(*endings, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert far.cancelled == 10, "nobody waits for them any more"


async def test_process_of_another_release_counts_as_one_that_does_not_answer(tmp_path: Path) -> None:
    """It does not know the method; nor does ours know a step that is newer, and says so for that one."""
    path, background = f"{tmp_path}/old.sock", Background(clock=SystemClock())
    server = RpcServer(services=(), settings=RpcServerSettings(address=f"unix:{path}"))
    await server.start()
    async with open_channel(f"unix:{path}") as channel:
        with pytest.raises(Unavailable):
            await RpcPeer(channel=channel, background=background, timeout=5.0).take(TABLET, CARRY)
    await background.stop()
    await server.stop(0.1)
    message = step_message(TABLET, CARRY)
    message.ClearField("carry")
    with pytest.raises(Unavailable):
        step_value(message)
