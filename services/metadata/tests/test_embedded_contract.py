# SPDX-License-Identifier: Apache-2.0
"""The embedded storage passes the contract of every TabletStorage, on real directories."""

import shutil
from pathlib import Path

import apsw
import pytest

from drystone_core.errors import ErrorCode, Refused
from drystone_core.ids import DiskId
from drystone_metadata.store.embedded import EmbeddedSettings, EmbeddedStorage, MemberUnit
from drystone_metadata.store.embedded.database import VFS, load_checksum_vfs
from drystone_metadata.store.ports import CELL_TABLET, Fill, RowKey, TabletId, TabletPhase
from drystone_runtime.clock import SystemClock
from drystone_runtime.disks import RealDisk
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.lanes import LoopLanes, ThreadLane
from drystone_testing.contracts.tablet_storage import TabletStorageContract

CLUSTER = "c1" * 16


class DirectoryHarness:
    """Three disks as directories, m = 1."""

    many_tablets = False

    def __init__(self, root: Path, settings: EmbeddedSettings) -> None:
        self.roots = [root / f"d{i}" for i in range(3)]
        self.settings = settings
        self.storage: EmbeddedStorage | None = None
        self.lanes: list[ThreadLane] = []
        self.began = False

    async def start(self) -> EmbeddedStorage:
        units = []
        for number, path in enumerate(self.roots):
            path.mkdir(exist_ok=True)
            lane, db, reader = (ThreadLane(f"{number}{use}") for use in "jdr")
            self.lanes += [lane, db, reader]
            units.append(
                MemberUnit(
                    disk_id=DiskId(f"{number:032x}"),
                    path=str(path),
                    disk=RealDisk(str(path)),
                    lane=lane,
                    db_lane=db,
                    read_lane=reader,
                )
            )
        self.storage = EmbeddedStorage(
            units=units,
            cluster_id=CLUSTER,
            m=1,
            lanes=LoopLanes(),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            settings=self.settings,
        )
        await self.storage.open(create=not self.began)
        self.began = True
        return self.storage

    async def stop(self) -> None:
        await self._end(flush=True)

    async def crash(self) -> None:
        """What is not in the journals is gone: SQLite's write-ahead logs, never synced, are removed."""
        await self._end(flush=False)
        for path in self.roots:
            for suffix in ("-wal", "-shm"):
                (path / "meta" / f"member.db{suffix}").unlink(missing_ok=True)

    async def _end(self, *, flush: bool) -> None:
        assert self.storage is not None
        await self.storage.close(flush=flush)
        for lane in self.lanes:
            lane.stop()
        self.lanes.clear()

    def damage(self, key: RowKey) -> bool:
        """In memory and in every member's file, past the page checksums: only the row's own seal can tell."""
        assert self.storage is not None
        for layer in self.storage._overlay.layers:
            value = layer.rows.get(key)
            if value is not None:
                layer.rows[key] = bytes((value[0] ^ 1,)) + value[1:]
        for path in self.roots:
            if (path / "meta" / "member.db").exists():
                connection = apsw.Connection(str(path / "meta" / "member.db"), vfs=VFS)
                connection.set_busy_timeout(5000)
                for (value,) in connection.execute(
                    "SELECT value FROM rows WHERE (kind, key, seq) = (?, ?, ?)", key
                ).fetchall():
                    new = bytes((value[0] ^ 1,)) + value[1:]
                    connection.execute("UPDATE rows SET value=? WHERE (kind, key, seq) = (?, ?, ?)", (new, *key))
                connection.close()
        return True


class TestEmbedded(TabletStorageContract):
    """Everything stays in memory and the journals (the default bounds are far)."""

    @pytest.fixture
    def harness(self, tmp_path: Path):
        yield DirectoryHarness(tmp_path, EmbeddedSettings(segment_bytes=1 << 20))
        shutil.rmtree(tmp_path, ignore_errors=True)


class TestEmbeddedWithTinyLayers(TabletStorageContract):
    """Every commit is followed by a flush into SQLite, journals turn and are recycled all the time."""

    @pytest.fixture
    def harness(self, tmp_path: Path):
        settings = EmbeddedSettings(segment_bytes=16384, apply_bytes=4096, apply_interval=0.01, scan_inline=2)
        yield DirectoryHarness(tmp_path, settings)
        shutil.rmtree(tmp_path, ignore_errors=True)


def test_checksum_vfs_is_not_the_default_for_others() -> None:
    """Loading the checksum VFS leaves SQLite's default as it was."""
    load_checksum_vfs()
    assert VFS in apsw.vfs_names() and apsw.vfs_names()[0] != VFS


async def test_embedded_cell_refuses_to_be_split(tmp_path: Path) -> None:
    """It says that it has one tablet, before anything is changed."""
    harness = DirectoryHarness(tmp_path, EmbeddedSettings())
    storage = await harness.start()
    await storage.create(CELL_TABLET, low=b"", high=b"", generation=1)
    state = await storage.take_over(CELL_TABLET)
    for call in (
        storage.create(TabletId(b"child"), low=b"m", high=b"", generation=1, phase=TabletPhase.FILLING),
        storage.fill(CELL_TABLET, state, Fill(batch_id=b"f" * 16)),
        storage.reshape(CELL_TABLET, state, state),
        storage.clear(CELL_TABLET, state),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code is ErrorCode.NOT_IMPLEMENTED and "one tablet" in refused.value.message
    assert await storage.state(CELL_TABLET) == state
    await harness.stop()
