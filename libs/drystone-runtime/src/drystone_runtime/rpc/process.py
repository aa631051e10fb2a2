# SPDX-License-Identifier: Apache-2.0
"""One service as a process of its own: arguments, signals, readiness, drain. `python -m drystone_metadata` and its like.

Until services authenticate one another, a service listens on unix sockets and on the loopback only.
"""

import argparse
import asyncio
import ipaddress
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from drystone_core.errors import DrystoneError
from drystone_runtime.config_sections import host_port, split_host_port
from drystone_runtime.logs import configure
from drystone_runtime.rpc.server import RpcServer, RpcServerSettings, RpcService

log = logging.getLogger(__name__)
DRAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a service consists of once it works."""

    services: Sequence[RpcService]
    stop: Callable[[], Awaitable[None]]
    """Called after the last call has ended."""


def run_service(
    *,
    name: str,
    port: int,
    arguments: Callable[[argparse.ArgumentParser], None],
    start: Callable[[argparse.Namespace], Awaitable[Started]],
) -> int:
    """Entry of a service's process: serves until SIGTERM; returns the exit code (0, 1 cannot start, 2 wrong usage)."""
    import uvloop

    parser = argparse.ArgumentParser(
        prog=f"python -m drystone_{name}", description=f"Drystone's {name} service over gRPC."
    )
    parser.add_argument("--listen", default=f"127.0.0.1:{port}", help="unix:/path or HOST:PORT of the loopback")
    arguments(parser)
    given = parser.parse_args()
    try:
        address = local_address(given.listen)
    except ValueError as error:
        parser.error(str(error))
    configure(level="info", style="auto", role=name)
    try:
        uvloop.run(_serve(name, address, given, start))
    except (DrystoneError, OSError) as error:
        print(f"drystone {name}: {error}", file=sys.stderr)
        return 1
    return 0


def local_address(text: str) -> str:
    """The address, when only this machine can reach it; ValueError otherwise."""
    if text.startswith("unix:"):
        return text
    host, _ = split_host_port(host_port(text))
    if host != "localhost" and not _is_loopback(host):
        raise ValueError(f"{text}: services do not authenticate one another yet, so they listen on the loopback only")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(
    name: str, address: str, given: argparse.Namespace, start: Callable[[argparse.Namespace], Awaitable[Started]]
) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    started = await start(given)
    server = RpcServer(services=started.services, settings=RpcServerSettings(address=address))
    await server.start()
    await server.serving(True)
    shown = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{server.port}"
    print(f"ready {shown}", flush=True)
    await stopping.wait()
    await server.stop(DRAIN_SECONDS)
    await started.stop()
    log.info("service.stopped", extra={"service": name})
