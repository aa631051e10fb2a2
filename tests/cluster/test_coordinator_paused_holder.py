# SPDX-License-Identifier: Apache-2.0
"""A leader's process is stopped past its lease, superseded, and continued: it learns so before it acts."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from drystone_core.formats.coordination import LeaderDocument, election_key
from drystone_runtime.coordination.election import campaign
from drystone_runtime.entropy import SystemEntropy
from drystone_testing import leading_child
from drystone_testing.contracts.coordinator import PATIENCE, until
from drystone_testing.coordinator_rigs import EtcdRig
from drystone_testing.etcd_servers import EtcdServers, etcd

__all__ = ["etcd"]


@pytest.fixture
async def rig(etcd: EtcdServers) -> AsyncIterator[EtcdRig]:
    made = EtcdRig(etcd, prefix=f"/{SystemEntropy().token(4).hex()}/")
    yield made
    await made.close()


@pytest.mark.parametrize("turn", range(3))
async def test_a_stopped_leader_is_superseded_and_learns_it_before_it_can_act(
    etcd: EtcdServers, rig: EtcdRig, turn: int
) -> None:
    """E2, E3, K5 with a real process: nothing it did after the other one led was taken, and its next word is that it lost."""
    here = await rig.connect()
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", leading_child.__name__, etcd.endpoints[0], rig.settings().prefix, str(rig.ttl)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            lines = [(await child.stdout.readline()).decode().split(maxsplit=2)]
            assert lines[0][0] == "leads"
            old = int(lines[0][1])
            while sum(line[0] == "acted" for line in lines) < 3 + turn:
                lines.append((await child.stdout.readline()).decode().split(maxsplit=2))
        child.send_signal(signal.SIGSTOP)
        session = await here.open_session(ttl=rig.ttl * 20)
        async with asyncio.timeout(PATIENCE):
            leadership = await campaign(
                coordinator=here,
                session=session,
                election=leading_child.ELECTION,
                leader=LeaderDocument(node="successor"),
                clock=rig.clock,
            )
        assert leadership.token > old
        before = await here.get("acts")
        child.send_signal(signal.SIGCONT)
        async with asyncio.timeout(PATIENCE):
            rest = [line.split(maxsplit=2) for line in (await child.stdout.read()).decode().splitlines()]
            await child.wait()
        # What stood in the pipe before the pause ends with the answers of commits that were sent before it.
        words = [line[0] for line in rest]
        assert words[-1] == "lost" and words.count("lost") == 1
        assert await here.get("acts") == before
        assert "acts" not in words[words.index("refused") :] if "refused" in words else True
        leadership.check()

        async def still_ours() -> bool:
            document = await here.get(election_key(leading_child.ELECTION))
            return document is not None and document.created == leadership.token

        await until(still_ours)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    await here.close()
