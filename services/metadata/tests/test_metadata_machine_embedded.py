# SPDX-License-Identifier: Apache-2.0
"""The metadata service over the embedded storage behaves as the reference model, with power cuts between batches."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

from drystone_metadata.store.embedded import EmbeddedStorage
from drystone_testing.contracts.metadata_machine import MetadataMachine
from drystone_testing.embedded_cell import EmbeddedCell


class EmbeddedWorld:
    """A cell of three disks, m = 1."""

    def __init__(self, root: Path) -> None:
        self.cell = EmbeddedCell(root, disks=3, m=1)
        self.cuts = 0

    async def start(self) -> EmbeddedStorage:
        return await self.cell.start()

    async def crash(self) -> None:
        self.cuts += 1
        await self.cell.power_cut(self.cuts)

    def plan(self, faults: list[str]) -> None:
        """This world's faults are its power cuts."""


class EmbeddedMachine(MetadataMachine):
    """Over the embedded storage."""

    def make_world(self) -> EmbeddedWorld:
        self.root = Path(tempfile.mkdtemp(prefix="drystone-machine-"))
        return EmbeddedWorld(self.root)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root, ignore_errors=True)


TestMetadataOverEmbedded = EmbeddedMachine.TestCase
TestMetadataOverEmbedded.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
