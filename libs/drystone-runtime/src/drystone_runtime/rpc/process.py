# SPDX-License-Identifier: Apache-2.0
"""One service as a process of its own: settings, certificate, readiness, signals, drain.

`drystone metadata` and its like, and `python -m drystone_metadata` and its like, come in here. Configuration is the file, the
environment and flags, as everywhere; every problem of it, of the certificate and of the addresses is reported at once.
SIGTERM and SIGINT drain; SIGHUP looks for a renewed certificate now.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from drystone_core.errors import DrystoneError
from drystone_core.identity import ServiceKind
from drystone_core.ports import Clock, Entropy
from drystone_runtime.addresses import UNIX
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.config import ConfigError, load
from drystone_runtime.config_sections import Settings
from drystone_runtime.coordination.place import Place
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.logs import configure
from drystone_runtime.rpc.core_lines import divert
from drystone_runtime.rpc.health import Health
from drystone_runtime.rpc.health_watch import follow
from drystone_runtime.rpc.links import Dialer, Link
from drystone_runtime.rpc.retry import Retries
from drystone_runtime.rpc.server import NOTICE_SECONDS, RpcServer, RpcServerSettings, RpcService, listening_problem
from drystone_runtime.rpc.tls import Certificates, TlsFiles, TlsRefused

log = logging.getLogger(__name__)
T = TypeVar("T")
FLAGS: Mapping[str, str] = {
    "rpc.listen": "unix:/path or HOST:PORT",
    "rpc.tls_ca": "PEM file: the authorities that vouch for services of this cell",
    "rpc.tls_cert": "PEM file: this service's certificate",
    "rpc.tls_key": "PEM file: its private key",
}
"""Settings of every service that may stand on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A kind of service as a process."""

    kind: ServiceKind
    port: int
    """Where it listens on the loopback when nothing else is said."""
    arguments: Callable[[argparse.ArgumentParser], None]
    """What it takes beside settings."""
    flags: Mapping[str, str]
    """Further settings that may stand on the command line, each with its sentence of help."""
    calls: Sequence[str] = ()
    """Settings that name whom it calls."""
    start: Callable[[argparse.Namespace, "Process"], Awaitable["Started"]]
    """Builds the service; what it returns is served then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a service consists of once it works."""

    services: Sequence[RpcService]
    stop: Callable[[], Awaitable[None]]
    """Called after the last call has ended."""
    enter: Callable[[], Awaitable[None]] | None = None
    """Called when calls are taken and before the service says that it is ready: to register it where others find it."""
    leave: Callable[[], Awaitable[None]] | None = None
    """Called first of all at the end, while calls are still taken: to tell the others, to finish what needs them."""
    reload: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Called at SIGHUP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the process gives its service."""

    settings: Settings
    clock: Clock
    entropy: Entropy
    background: Background
    dial: Dialer
    health: Health
    address: str
    """Where it listens."""

    @property
    def in_cell(self) -> bool:
        """Whether it stands among others, found through the coordinator."""
        return bool(self.settings.coordinator.endpoints)

    @property
    def endpoint(self) -> str:
        """Where others reach it."""
        return self.settings.node.endpoint or self.address

    def place(self, role: str) -> Place:
        """This process among the others of its cell; not open yet."""
        return Place(
            node=self.settings.node, role=role, endpoint=self.endpoint, session=self.settings.coordinator.session,
            clock=self.clock, entropy=self.entropy,
        )  # fmt: skip

    def needs(self, target: str, kind: ServiceKind, *, balance: bool = False) -> Link:
        """A link to a service without which this one is not ready."""
        link = self.dial.open(target, kind, balance=balance)
        dependency = self.health.depend(kind.value)
        self.background.keep(f"health.{kind.value}", lambda: follow(link, dependency, clock=self.clock))
        return link

    def retries(self) -> Retries:
        """A budget for calls to one service."""
        return Retries(clock=self.clock, entropy=self.entropy)


def run_service(role: Role, arguments: Sequence[str] | None = None, *, program: str = "") -> int:
    """A service's whole life: serves until SIGTERM. Exit codes: 0 drained, 1 cannot start, 2 usage or configuration."""
    import uvloop

    name = role.kind.value
    given = _parser(role, program).parse_args(arguments)
    settings, problems = _settings(role, given)
    tls = _certificates(role.kind, settings, problems)
    address = settings.rpc.listen or f"127.0.0.1:{role.port}"
    problems += _address_problems(role, settings, address)
    problems += _cell_problems(settings, address)
    if problems:
        for problem in problems:
            print(f"drystone {name}: {problem}", file=sys.stderr)
        return 2
    to_stream = partial(_configure, settings, name)
    to_stream(sys.stderr)
    if tls is not None:
        divert(to_stream)
    try:
        uvloop.run(_live(role, given, settings, address, tls))
    except (DrystoneError, OSError) as error:
        print(f"drystone {name}: {error}", file=sys.stderr)
        return 1
    return 0


def _configure(settings: Settings, name: str, stream: TextIO) -> None:
    configure(level=settings.log.level, style=settings.log.format, role=name, stream=stream)


def _parser(role: Role, program: str) -> argparse.ArgumentParser:
    name = role.kind.value
    parser = argparse.ArgumentParser(
        prog=program or f"drystone {name}",
        description=f"Run Drystone's {name} service over gRPC until SIGTERM.",
        epilog="Settings come from a file, DRYSTONE_SECTION_KEY and flags; the last one that speaks wins. "
        "Exit codes: 0 drained · 1 cannot start · 2 usage or configuration.",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML; else ./drystone.toml, /etc/drystone/…")
    for setting, sentence in {**FLAGS, **role.flags}.items():
        default = f" (default 127.0.0.1:{role.port})" if setting == "rpc.listen" else ""
        parser.add_argument(_flag(setting), metavar="VALUE", dest=setting, help=sentence + default)
    role.arguments(parser)
    return parser


def _flag(setting: str) -> str:
    section, _, key = setting.partition(".")
    return f"--{'s3-' if section == 'server' else ''}{key.replace('_', '-')}"


def _settings(role: Role, given: argparse.Namespace) -> tuple[Settings, list[str]]:
    flags = {setting: getattr(given, setting) for setting in (*FLAGS, *role.flags)}
    try:
        return load(file=given.config, flags=flags), []
    except ConfigError as error:
        return error.settings, error.problems


def _certificates(kind: ServiceKind, settings: Settings, problems: list[str]) -> Certificates | None:
    rpc = settings.rpc
    if not (rpc.tls_ca and rpc.tls_cert and rpc.tls_key):
        return None
    files = TlsFiles(ca=rpc.tls_ca, cert=rpc.tls_cert, key=rpc.tls_key)
    try:
        return Certificates(files=files, kind=kind, clock=SystemClock())
    except TlsRefused as error:
        problems += error.problems
        return None


def _address_problems(role: Role, settings: Settings, address: str) -> list[str]:
    """Where it may not listen and whom it may not call, as far as that does not follow from other problems."""
    rpc = settings.rpc
    if rpc.tls_ca or rpc.tls_cert or rpc.tls_key:
        return []
    background = Background(clock=SystemClock())
    dial = Dialer(clock=SystemClock(), background=background, tls=None, plaintext_loopback=rpc.plaintext_loopback)
    said = [listening_problem(address, tls=False, plaintext_loopback=rpc.plaintext_loopback)]
    if settings.coordinator.endpoints:
        return [problem for problem in said if problem]  # whom it calls is told by the coordinator
    said += [f"{name}: {problem}" for name in role.calls if (problem := dial.problem(_value(settings, name)))]
    return [problem for problem in said if problem]


def _cell_problems(settings: Settings, address: str) -> list[str]:
    """What keeps a process from being found by others."""
    if not settings.coordinator.endpoints or settings.node.endpoint or not address.endswith(":0"):
        return []
    return [f"rpc.listen: {address}: others must know the port: give one, or set node.endpoint"]


def _value(settings: Settings, name: str) -> str:
    section, _, key = name.partition(".")
    return str(getattr(getattr(settings, section), key))


async def _live(
    role: Role, given: argparse.Namespace, settings: Settings, address: str, tls: Certificates | None
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    clock, rpc = SystemClock(), settings.rpc
    background = Background(clock=clock)
    if tls is not None:
        background.keep("rpc.certificates", tls.run)
    process = Process(
        settings=settings,
        clock=clock,
        entropy=SystemEntropy(),
        background=background,
        dial=Dialer(clock=clock, background=background, tls=tls, plaintext_loopback=rpc.plaintext_loopback),
        health=Health(),
        address=address,
    )
    started = await _unless(stopping, role.start(given, process))
    if started is None:  # told to stop before anything was promised to anybody
        await background.stop()
        return
    server = RpcServer(
        services=started.services,
        settings=RpcServerSettings(
            address=address, reflection=settings.admin.reflection, plaintext_loopback=rpc.plaintext_loopback
        ),
        tls=tls,
        health=process.health,
        clock=clock,
    )
    loop.add_signal_handler(signal.SIGHUP, _look_again, tls, started, background)
    await server.start()
    if started.enter is not None:
        entered = None
        try:
            entered = await _unless(stopping, _entered(started.enter))
        finally:
            if entered is None:  # refused, or told to stop before anything was promised to anybody
                await server.stop(0.0)
                await started.stop()
        if entered is None:
            return
    await server.serving(True)
    shown = address if address.startswith(UNIX) else f"{address.rpartition(':')[0]}:{server.port}"
    log.info("service.serves", extra={"address": shown, "identity": str(tls.identity) if tls else ""})
    print(f"ready {shown}", flush=True)
    await stopping.wait()
    if started.leave is not None:
        server.health.drain()
        await started.leave()
    await server.stop(rpc.drain, notice=NOTICE_SECONDS)
    await started.stop()
    await background.stop()
    log.info("service.stopped", extra={"service": role.kind.value})


async def _entered(enter: Callable[[], Awaitable[None]]) -> bool:
    await enter()
    return True


def _look_again(tls: Certificates | None, started: Started, background: Background) -> None:
    if tls is not None:
        background.once("rpc.certificates_now", tls.reload())
    if started.reload is not None:
        background.once("process.reload", started.reload())


async def _unless(stopping: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The work's result; None when we are told to stop before it is there."""
    begun, told = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    await asyncio.wait((begun, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not begun.done():
        begun.cancel()
        await asyncio.wait((begun,), timeout=5.0)
        return None
    return await begun
