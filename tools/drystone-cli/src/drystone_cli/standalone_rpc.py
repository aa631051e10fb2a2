# SPDX-License-Identifier: Apache-2.0
"""The gRPC side of a standalone store's main process: a module of its own, so that READY need not wait for its imports.

Unix sockets only, open to their owner: nothing but S3 listens on TCP.
"""

from typing import TYPE_CHECKING

from drystone_cli.standalone_admin import StandaloneView
from drystone_core.check import check
from drystone_gateway.rpc.admin import admin_service
from drystone_metadata.rpc.server import metadata_service
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings, RpcService
from drystone_storage.rpc.server import storage_service
from drystone_storage.rpc.upkeep import upkeep_service

if TYPE_CHECKING:
    from drystone_cli.standalone import Standalone


def rpc_servers(store: "Standalone") -> list[RpcServer]:
    """One for the background process, one for people; not started yet."""
    spec, node, metadata = store.spec, store.node, store.metadata
    check(metadata is not None, "gRPC is served once the store is open")
    assert metadata is not None

    def server(path: str, *services: RpcService) -> RpcServer:
        settings = RpcServerSettings(address=f"unix:{path}", reflection=spec.settings.admin.reflection)
        return RpcServer(services=services, settings=settings)

    return [
        server(
            spec.node_socket,
            metadata_service(metadata),
            storage_service(node, node.status),
            upkeep_service(node.healer, node.freer, node.scrubs),
        ),
        server(spec.admin_socket, admin_service(StandaloneView(store))),
    ]
