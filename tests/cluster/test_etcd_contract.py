# SPDX-License-Identifier: Apache-2.0
"""The coordinator over a real etcd passes the suites that the embedded one passes."""

from collections.abc import AsyncIterator

import pytest

from drystone_runtime.entropy import SystemEntropy
from drystone_testing.contracts.coordinator import CoordinatorContract
from drystone_testing.contracts.coordinator_clocks import CoordinatorClocksContract
from drystone_testing.contracts.coordinator_services import CoordinatorServicesContract
from drystone_testing.coordinator_rigs import EtcdRig
from drystone_testing.etcd_servers import EtcdServers, etcd

__all__ = ["etcd"]


class TestEtcd(CoordinatorContract, CoordinatorServicesContract, CoordinatorClocksContract):
    """One member; every client's connection goes over a line that can be held and torn."""

    @pytest.fixture
    async def rig(self, etcd: EtcdServers) -> AsyncIterator[EtcdRig]:
        made = EtcdRig(etcd, prefix=f"/{SystemEntropy().token(4).hex()}/")
        yield made
        await made.close()
