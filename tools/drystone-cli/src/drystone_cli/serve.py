# SPDX-License-Identifier: Apache-2.0
"""`drystone serve`: lays out the store, takes the lock, binds the socket, makes the credential, supervises.

Runs in the supervisor, which imports none of the services.
"""

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from drystone_cli import VERSION
from drystone_cli.credential import CredentialError, RootCredential, root_credential
from drystone_cli.exits import OK, Failure
from drystone_cli.layout import Layout, LayoutError, lay_out, socket_path
from drystone_cli.process_spec import ProcessSpec
from drystone_runtime.addresses import split_host_port
from drystone_runtime.config_sections import Settings
from drystone_runtime.entropy import SystemEntropy
from drystone_runtime.logs import configure
from drystone_runtime.supervisor import AlreadyRunning, ChildSpec, Supervisor, WatchSettings, listen_tcp, lock_store

log = logging.getLogger(__name__)
DOCS = Path(__file__).resolve().parents[4] / "docs" / "operations.md"
"""Where the documents lie when the store runs from its sources."""


def serve(directories: Sequence[Path], *, state: Path | None, settings: Settings, add_disks: bool = False) -> int:
    """Run a standalone store until it is told to stop; returns the exit code. `add_disks`: take in empty directories."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        layout = lay_out(directories, state=state, profile=settings.storage.profile)
    except LayoutError as error:
        raise Failure(str(error), "drystone serve --help") from error
    except OSError as error:
        raise _not_usable(error) from error
    configure(level=settings.log.level, style=settings.log.format, role="supervisor")
    host, port = split_host_port(settings.server.listen)
    # A new store is not begun when nobody could reach it. A known one is locked first: its processes may be just dying,
    # with the port still theirs, and "already serves" says more than "address in use".
    listener = None if layout.state.exists() else _listen(host, port)
    lock, sockets = _take(layout)
    listener = listener or _listen(host, port)
    try:
        credential = root_credential(layout.credential, given=settings.root, entropy=SystemEntropy())
    except CredentialError as error:
        raise Failure(str(error), "") from error
    port = listener.getsockname()[1]
    scheme = "https" if settings.server.tls_cert else "http"
    endpoint = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    spec = ProcessSpec(
        settings=settings,
        state=str(layout.state),
        disks=tuple(str(disk) for disk in layout.disks),
        add_disks=add_disks,
        endpoint=endpoint,
        listen_fd=listener.fileno(),
        admin_socket=str(sockets["admin"]),
        node_socket=str(sockets["node"]),
        background_socket=str(sockets["background"]),
        access_key=credential.access_key,
        secret_key=credential.secret_key,
    )
    supervisor = _supervisor(spec, layout, credential, lock)
    code = supervisor.run()
    layout.processes.unlink(missing_ok=True)
    return code


def _leave(*_: object) -> None:
    """Told to stop before anything runs."""
    raise SystemExit(OK)


def _lock(layout: Layout) -> int:
    try:
        return lock_store(layout.lock, children=lambda: _recorded(layout.processes))
    except AlreadyRunning as error:
        who = f"pid {error.pid}" if error.pid else "a process of unknown pid"
        raise Failure(f"another drystone ({who}) already serves {layout.state}", "stop it first, or use it") from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen_tcp(host, port)
    except OSError as error:
        shown = f"{f'[{host}]' if ':' in host else host}:{port}"
        step = "stop what listens there, or give another address with --listen HOST:PORT"
        raise Failure(f"cannot listen on {shown}: {error.strerror}", step) from error


def _take(layout: Layout) -> tuple[int, dict[str, Path]]:
    """The store's lock, and its sockets' paths; makes the directories that are not disks."""
    try:
        layout.make_state()
        sockets = {name: socket_path(layout.state, f"{name}.sock") for name in ("admin", "node", "background")}
        return _lock(layout), sockets
    except LayoutError as error:
        raise Failure(str(error), "drystone serve --help") from error
    except OSError as error:
        raise _not_usable(error) from error


def _not_usable(error: OSError) -> Failure:
    return Failure(f"{error.filename}: {error.strerror}", "make it writable for this user, or give another directory")


def _recorded(processes: Path) -> list[int]:
    """Pids of the children a supervisor wrote down."""
    try:
        return [int(one["pid"]) for one in json.loads(processes.read_text()) if one["role"] != "supervisor"]
    except (OSError, ValueError, KeyError):
        return []


def _supervisor(spec: ProcessSpec, layout: Layout, credential: RootCredential, lock: int) -> Supervisor:
    said: set[str] = set()
    started = {os.getpid(): int(time.time())}

    def on_ready(role: str, _starts: int) -> None:
        log.info("supervisor.child_serves", extra={"child": role})
        if role == "main" and "main" not in said:
            said.add("main")
            _greet(spec, layout, credential)

    def on_change(processes: list[tuple[str, int, int]]) -> None:
        listed = [
            {"role": role, "pid": pid, "restarts": restarts, "started": started.setdefault(pid, int(time.time()))}
            for role, pid, restarts in (("supervisor", os.getpid(), 0), *processes)
        ]
        temporary = layout.processes.with_name("processes.json.new")
        temporary.write_text(json.dumps(listed))
        temporary.rename(layout.processes)

    def child(role: str, *descriptors: int, needs: str = "") -> ChildSpec:
        command = (sys.executable, "-m", "drystone_cli.processes", role)
        return ChildSpec(role=role, command=command, stdin=spec.encode(), descriptors=(lock, *descriptors), needs=needs)

    settings = spec.settings
    return Supervisor(
        specs=(child("main", spec.listen_fd), child("background", needs="main")),
        settings=WatchSettings(
            silence=settings.supervisor.watchdog, start=settings.supervisor.start, drain=settings.server.drain
        ),
        on_ready=on_ready,
        on_change=on_change,
    )


def _greet(spec: ProcessSpec, layout: Layout, credential: RootCredential) -> None:
    """How to use it, on stderr; then the one line on stdout that says it serves."""
    url = spec.endpoint.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    count = len(spec.disks)
    lines = [
        f"Drystone {VERSION} on {count} disk{'s' if count != 1 else ''}, state in {layout.state}",
        f"  endpoint    {url}",
    ]
    lines.append(f"  access key  {credential.access_key}")
    if credential.file is None:
        lines.append("  secret key  as given by DRYSTONE_ROOT_SECRET_KEY")
        before = 'AWS_ACCESS_KEY_ID="$DRYSTONE_ROOT_ACCESS_KEY" AWS_SECRET_ACCESS_KEY="$DRYSTONE_ROOT_SECRET_KEY"'
    else:
        shown = credential.made and sys.stderr.isatty()
        note = f"(kept in {credential.file})"
        lines.append(
            f"  secret key  {credential.secret_key} {note}" if shown else f"  secret key  in {credential.file}"
        )
        before = f"AWS_SHARED_CREDENTIALS_FILE={credential.file}"
    lines.append(
        f"  try         {before} AWS_DEFAULT_REGION={spec.settings.server.region} aws --endpoint-url {url} s3 mb s3://first"
    )
    lines.append(f"  status      drystone status --state-dir {layout.state}")
    lines.append(f"  docs        {DOCS if DOCS.exists() else 'docs/operations.md'}")
    if len({os.stat(disk).st_dev for disk in spec.disks if os.path.isdir(disk)}) == 1:
        lines.append("  note        all disks are folders of one device: its loss is the loss of the store")
    _say(sys.stderr, "\n".join(lines))
    _say(sys.stdout, f"ready {spec.endpoint}")


def _say(stream: TextIO, text: str) -> None:
    """A store does not end because nobody listens to it."""
    try:
        os.write(stream.fileno(), f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError as error:
        log.warning("supervisor.nobody_reads", extra={"stream": stream.name, "error": error.strerror})
