# SPDX-License-Identifier: Apache-2.0
"""`drystone gateway` and `python -m drystone_gateway`: S3 over HTTP, in front of the metadata and storage services of a cell.

S3 is served where `server.listen` says; gRPC (health, the operator's service) where `rpc.listen` says. Any number of
gateways serve one cell; they hold nothing that another could not do without.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from drystone_core.errors import ErrorCode, Refused
from drystone_core.identity import ServiceKind
from drystone_gateway.cell import cell_services
from drystone_gateway.cell_view import CellView
from drystone_gateway.rpc.admin import admin_service
from drystone_gateway.serving import S3Serving
from drystone_runtime.addresses import split_host_port
from drystone_runtime.rpc.process import Process, Role, Started, run_service
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings, RpcService
from drystone_runtime.supervisor import listen_tcp


def main(arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """The process; returns its exit code."""
    role = Role(
        kind=ServiceKind.GATEWAY,
        port=9500,
        arguments=_arguments,
        flags={"server.listen": "where S3 is served (default 127.0.0.1:9000)"},
        start=start,
    )
    return run_service(role, arguments, program=program)


def _arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing beside settings."""


async def start(given: argparse.Namespace, process: Process) -> Started:
    """Bind the S3 port, find the other services; S3 is served once this process is registered."""
    settings = process.settings
    problems = []
    if not process.in_cell:
        problems.append("set coordinator.endpoints: a gateway finds the other services of its cell there")
    if not settings.root.access_key:
        problems.append(
            "set DRYSTONE_ROOT_ACCESS_KEY and DRYSTONE_ROOT_SECRET_KEY: all gateways of a cell have the same"
        )
    if problems:
        raise Refused(ErrorCode.INVALID_REQUEST, "; ".join(problems))
    listener = listen_tcp(*split_host_port(settings.server.listen))
    services = await cell_services(process)
    s3 = S3Serving(
        settings=settings,
        root=settings.root,
        metadata=services.metadata,
        storage=services.storage,
        clock=process.clock,
        entropy=process.entropy,
        background=process.background,
    )

    admin = admin_service(CellView(services, s3, process))
    local = _admin_socket(process, admin)

    async def enter() -> None:
        await services.place.enter()
        await s3.start(listener)
        if local is not None:
            await local.start()
            await local.serving(True)

    async def leave() -> None:
        await services.place.leave()
        await s3.drain(process.clock.monotonic() + settings.server.drain)

    async def stop() -> None:
        if local is not None:
            await local.stop(0.5)
        await process.background.stop()
        await services.close()
        s3.stop()

    return Started(services=(admin,), enter=enter, leave=leave, stop=stop, reload=s3.reload)


def _admin_socket(process: Process, admin: RpcService) -> RpcServer | None:
    """The operator's service for whoever may open the state directory: `drystone status --state-dir`."""
    state = process.settings.node.state
    if not state:
        return None
    settings = RpcServerSettings(
        address=f"unix:{Path(state).absolute() / 'admin.sock'}", reflection=process.settings.admin.reflection
    )
    return RpcServer(services=(admin,), settings=settings)


if __name__ == "__main__":
    sys.exit(main(program="python -m drystone_gateway"))
