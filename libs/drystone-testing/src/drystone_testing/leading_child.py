# SPDX-License-Identifier: Apache-2.0
"""A process that leads an election and acts as its leader until it learns that it leads no more: to be paused by tests.

    python -m drystone_testing.leading_child ENDPOINTS PREFIX TTL

Says on its standard output, a line each: `leads TOKEN`; `acts TOKEN N` right after a check and `acted TOKEN N` once what it
did is committed under its guard; `refused TOKEN N` when the commit was; `lost REASON` when a check failed, which ends it.
"""

import asyncio
import sys

from drystone_core.coordination import Coordinator, Put, Session
from drystone_core.errors import Stale, Unavailable
from drystone_core.formats.coordination import LeaderDocument
from drystone_runtime.clock import SystemClock
from drystone_runtime.config_cell import EtcdSettings
from drystone_runtime.coordination.election import campaign
from drystone_runtime.coordination.etcd import connect
from drystone_runtime.entropy import SystemEntropy

ELECTION = "paused"


async def act(coordinator: Coordinator, session: Session) -> None:
    """Lead, and act as often as it goes."""
    clock = SystemClock()
    leadership = await campaign(
        coordinator=coordinator,
        session=session,
        election=ELECTION,
        leader=LeaderDocument(node="child"),
        clock=clock,
    )
    say(f"leads {leadership.token}")
    count = 0
    while True:
        count += 1
        try:
            leadership.check()
        except Stale as error:
            return say(f"lost {error.message}")
        say(f"acts {leadership.token} {count}")
        try:
            await coordinator.commit(Put(key="acts", value=b"%d %d" % (leadership.token, count)), leadership.guard())
            say(f"acted {leadership.token} {count}")
        except Stale:
            say(f"refused {leadership.token} {count}")
        except Unavailable:
            say(f"unknown {leadership.token} {count}")
        await clock.sleep(0.02)


def say(line: str) -> None:
    """One write."""
    print(line, flush=True)


async def main() -> None:
    """Connect, lead, leave."""
    endpoints, prefix, ttl = sys.argv[1:]
    coordinator = await connect(
        settings=EtcdSettings(endpoints=tuple(endpoints.split(",")), prefix=prefix, timeout=2.0),
        cell=None,
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    try:
        await act(coordinator, await coordinator.open_session(ttl=float(ttl)))
    finally:
        await coordinator.close()


if __name__ == "__main__":
    asyncio.run(main())
