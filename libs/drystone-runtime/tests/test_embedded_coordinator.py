# SPDX-License-Identifier: Apache-2.0
"""The embedded coordinator: the contract suite on a file with a real clock and simulated, and what its file promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drystone_core.coordination import ABSENT, Put, Resync
from drystone_core.errors import Damaged, Refused, Unavailable
from drystone_runtime.clock import SystemClock
from drystone_runtime.coordination import embedded
from drystone_runtime.coordination.embedded import EmbeddedCoordinator, KeyspaceStore
from drystone_testing.contracts.coordinator import CoordinatorContract
from drystone_testing.contracts.coordinator_clocks import CoordinatorClocksContract
from drystone_testing.contracts.coordinator_services import CoordinatorServicesContract
from drystone_testing.coordinator_rigs import EmbeddedRig
from drystone_testing.sim_world import ManualClock

CLOCK = SystemClock()


class TestEmbedded(CoordinatorContract, CoordinatorServicesContract, CoordinatorClocksContract):
    """On a file, by the machine's clock."""

    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[EmbeddedRig]:
        made = EmbeddedRig(file=tmp_path / "state" / "coordinator.json")
        await made.start()
        yield made
        await made.close()


class TestSimulated(CoordinatorContract, CoordinatorServicesContract, CoordinatorClocksContract):
    """In memory, by a clock that runs fifty times as fast."""

    @pytest.fixture
    async def rig(self) -> AsyncIterator[EmbeddedRig]:
        made = EmbeddedRig(clock=ManualClock(), ttl=5.0)
        await made.start()
        yield made
        await made.close()


async def opened(file: Path) -> tuple[KeyspaceStore, EmbeddedCoordinator]:
    store = KeyspaceStore(clock=CLOCK, file=file)
    await store.open()
    return store, EmbeddedCoordinator(store=store, clock=CLOCK)


async def test_documents_and_revisions_outlive_the_process_and_sessions_do_not(tmp_path: Path) -> None:
    """M1 and M3: what was answered is there again, revisions go on above all given before, tokens too."""
    file = tmp_path / "coordinator.json"
    store, coordinator = await opened(file)
    session = await coordinator.open_session(ttl=60)
    kept = await coordinator.commit(Put(key="a", value=b"\x00v"))
    last = await coordinator.commit(Put(key="s", value=b"1", expected=ABSENT, session=session.id))
    await store.close()  # without closing the coordinator: as a crash leaves it
    store, coordinator = await opened(file)
    document = await coordinator.get("a")
    assert document is not None and (document.value, document.revision) == (b"\x00v", kept)
    assert await coordinator.get("s") is None
    assert await coordinator.commit(Put(key="s", value=b"2", expected=ABSENT)) > last
    watch = coordinator.watch("", after=kept)
    assert isinstance(await watch.next(), Resync)
    await watch.close()
    await coordinator.close()
    await store.close()


async def test_a_second_process_on_the_file_is_refused(tmp_path: Path) -> None:
    """While the first lives."""
    file = tmp_path / "coordinator.json"
    store, _ = await opened(file)
    with pytest.raises(Refused, match="held by another process"):
        await opened(file)
    await store.close()
    store, _ = await opened(file)
    await store.close()


@pytest.mark.parametrize("spoil", [b"", b"{}", b"flip"])
async def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, spoil: bytes) -> None:
    """Never taken for an empty store."""
    file = tmp_path / "coordinator.json"
    store, coordinator = await opened(file)
    await coordinator.commit(Put(key="a", value=b"value"))
    await store.close()
    data = file.read_bytes()
    file.write_bytes(data.replace(b"value".hex().encode(), b"VALUE".hex().encode()) if spoil == b"flip" else spoil)
    with pytest.raises(Damaged):
        await opened(file)


async def test_after_a_failed_write_nothing_more_is_answered(tmp_path: Path) -> None:
    """M2: what was not durable is not shown either; a restart has what was acknowledged."""
    file = tmp_path / "state" / "coordinator.json"
    store, coordinator = await opened(file)
    await coordinator.commit(Put(key="a", value=b"1"))
    aside = tmp_path / "aside"
    file.parent.rename(aside)
    with pytest.raises(Unavailable, match="cannot be written"):
        await coordinator.commit(Put(key="a", value=b"2"))
    aside.rename(file.parent)
    with pytest.raises(Unavailable):
        await coordinator.get("a")
    await store.close()
    store, coordinator = await opened(file)
    document = await coordinator.get("a")
    assert document is not None and document.value == b"1"
    await store.close()


def test_the_state_file_of_version_1_is_read() -> None:
    """Golden: what an earlier release wrote."""
    loaded = embedded._load(Path(__file__).parent / "golden" / "coordinator-state-1.json")
    assert loaded is not None
    revision, documents = loaded
    assert revision == 7 and [(each.key, each.value, each.revision, each.created) for each in documents] == [
        ("cell", b"{}", 2, 2),
        ("layout/current", b"\x00\xff", 7, 5),
    ]
    assert (Path(__file__).parent / "golden" / "coordinator-state-1.json").read_bytes() == embedded._encode(
        revision, documents
    )
