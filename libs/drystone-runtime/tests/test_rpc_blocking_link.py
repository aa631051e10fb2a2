# SPDX-License-Identifier: Apache-2.0
"""Blocking calls between storage nodes over TLS: from many threads, under renewal, and refused to other services."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from drystone.storage.v1 import disks_pb2 as pb
from drystone_core.identity import ServiceKind
from drystone_core.ids import DiskId
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.blocking_link import BlockingLink
from drystone_runtime.rpc.channel import blocking_channel
from drystone_runtime.rpc.links import Dialer
from drystone_runtime.rpc.remote_disk import Peer, RemoteDisk
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings
from drystone_runtime.rpc.tls import Certificates
from drystone_testing.certificates import TestCell
from drystone_testing.rpc_rig import Recorder, contract_methods

NODE = ServiceKind.STORAGE_NODE
METHODS = [method for method in contract_methods() if method.service == "drystone.storage.v1.DiskService"]


class Rig:
    """A node that serves disks, and a way to it with any certificate."""

    def __init__(self, root: Path) -> None:
        self.pki = TestCell(root / "pki")
        self.background = Background(clock=SystemClock())
        self.links: list[BlockingLink] = []
        self.recorder = Recorder()
        self.tls = self.pki.certificates(NODE, "a")
        settings = RpcServerSettings(address="127.0.0.1:0")
        self.server = RpcServer(services=self.recorder.services(METHODS), settings=settings, tls=self.tls)

    def peer(self, certificates: Certificates) -> Peer:
        dial = Dialer(clock=SystemClock(), background=self.background, tls=certificates)

        def open_link(endpoint: str) -> BlockingLink:
            self.links.append(dial.open_blocking(endpoint, NODE))
            return self.links[-1]

        return Peer(f"127.0.0.1:{self.server.port}", open_link)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.server.start()
    yield rig
    await rig.background.stop()
    for link in rig.links:
        link.close()
    await rig.server.stop(0)


def disk(peer: Peer) -> RemoteDisk:
    """Any disk of it."""
    return RemoteDisk(peer=peer, disk_id=DiskId("d" * 32), label="far", timeout=10, write_timeout=10)


async def test_only_storage_nodes_reach_the_disks_of_storage_nodes(rig: Rig) -> None:
    """Any other service is told EACCES, as by a disk; no handler runs."""
    for kind in ServiceKind:
        rig.recorder.reached.clear()
        remote = disk(rig.peer(rig.pki.certificates(kind, "b")))
        if kind is NODE:
            assert await asyncio.to_thread(remote.space) == (0, 0)
            assert len(rig.recorder.reached) == 1
        else:
            with pytest.raises(PermissionError):
                await asyncio.to_thread(remote.space)
            assert rig.recorder.reached == []


async def test_renewing_certificates_fails_no_blocking_call(rig: Rig) -> None:
    """Threads go on calling while both authorities and both certificates change; one long call ends where it began."""
    ours = rig.pki.certificates(NODE, "b")
    peer = rig.peer(ours)
    link, first = rig.links[0], rig.links[0]._current
    held, going_on, stopping = asyncio.Event(), asyncio.Event(), False
    made = 0

    async def hold(method: str, context: Any) -> None:
        if method.endswith("/Sync"):
            held.set()
            await going_on.wait()

    rig.recorder.before = hold

    def load() -> None:
        nonlocal made
        while not stopping:
            disk(peer).space()
            made += 1

    async def let_run() -> None:
        async with asyncio.timeout(30):
            until = made + 40
            while made < until:
                assert not [each for each in threads if each.done()]
                await asyncio.sleep(0.01)

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(5) as pool:
        threads = [loop.run_in_executor(pool, load) for _ in range(4)]
        try:
            await let_run()
            long = loop.run_in_executor(pool, lambda: peer.stub.Sync(pb.SyncRequest(), timeout=60))
            await held.wait()
            fresh = TestCell(rig.pki.root / "fresh")
            rig.pki.ca.write_bytes(rig.pki.ca.read_bytes() + fresh.ca.read_bytes())
            assert await rig.tls.reload()
            assert await ours.reload()
            await let_run()
            for certificates, stem in ((rig.tls, "storage-node-a"), (ours, "storage-node-b")):
                issued = fresh.authority.issue(certificates.identity, now=int(time.time()), days=1)
                rig.pki.put(issued, stem)
                assert await certificates.reload()
                await let_run()
            rig.pki.ca.write_bytes(fresh.ca.read_bytes())
            assert await rig.tls.reload()
            assert await ours.reload()
            async with asyncio.timeout(30):
                while link._renewing:
                    await asyncio.sleep(0.02)
            await let_run()
            assert first in link._all, "a call is still on it"
            assert link._current is not first
            going_on.set()
            await long
            assert link._all == {link._current}
        finally:
            stopping = True
            going_on.set()
        await asyncio.gather(*threads)


async def test_handles_are_forgotten_without_waiting_and_counted(rig: Rig) -> None:
    """A call that nobody waits for is on its channel until it ends."""
    peer = rig.peer(rig.pki.certificates(NODE, "b"))
    call = peer.stub.Close.future(pb.CloseRequest(handle=7), timeout=10)
    await asyncio.to_thread(call.result)
    async with asyncio.timeout(10):
        while rig.links[0]._current.calls:
            await asyncio.sleep(0.01)
    assert rig.recorder.reached == ["/drystone.storage.v1.DiskService/Close"]


def test_threads_call_nobody_without_tls() -> None:
    """Unix sockets apart."""
    with pytest.raises(ValueError, match="only unix sockets"):
        blocking_channel("10.0.0.1:9200")
    dial = Dialer(clock=SystemClock(), background=Background(clock=SystemClock()), tls=None)
    with pytest.raises(ValueError, match="called over TLS"):
        dial.open_blocking("10.0.0.1:9200", NODE)
