# SPDX-License-Identifier: Apache-2.0
"""Who gets to see the root secret: a terminal, once. Real processes, a real pseudo-terminal."""

import configparser
import os
import pty
import select
import signal
import stat
import subprocess
import time
from pathlib import Path

from drystone_testing.live import drystone_command


def serve(directory: Path, *, terminal: bool, **environment: str) -> str:
    """Everything a start says until it is ready and its drain; on a terminal, or into a pipe."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRYSTONE_ROOT")}
    process = subprocess.Popen(
        [*drystone_command(), "serve", str(directory), "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "DRYSTONE_LOG_LEVEL": "debug", "DRYSTONE_LOG_ACCESS": "all", **environment},
    )
    os.close(theirs)
    said, told, deadline = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # a terminal whose other side is closed
                break
            if not piece:
                break
            said += piece
            if not told and b"ready http" in said:
                told = True
                process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said.decode()


def secret_of(directory: Path) -> str:
    """From the file AWS tools read."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(directory / "state" / "root-credential")
    return parser["default"]["aws_secret_access_key"]


def test_a_terminal_sees_the_secret_at_the_first_start_only(tmp_path: Path) -> None:
    """Once; afterwards the file's path, a file for its owner only."""
    store = tmp_path / "store"
    first = serve(store, terminal=True)
    secret = secret_of(store)
    assert len(secret) == 40
    assert first.count(secret) == 1
    again = serve(store, terminal=True)
    assert secret not in again
    file = store / "state" / "root-credential"
    assert f"in {file}" in again
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret_of(store) == secret


def test_a_pipe_sees_only_where_the_secret_is(tmp_path: Path) -> None:
    """Logs are kept and shipped: not even at the first start, not even at debug level."""
    store = tmp_path / "store"
    said = serve(store, terminal=False)
    assert secret_of(store) not in said
    assert f"in {store / 'state' / 'root-credential'}" in said
    holders = [p for p in store.rglob("*") if p.is_file() and secret_of(store).encode() in p.read_bytes()]
    assert holders == [store / "state" / "root-credential"]


def test_a_credential_from_the_environment_is_neither_shown_nor_written(tmp_path: Path) -> None:
    """Not on a terminal, not in any file of the store."""
    store, secret = tmp_path / "store", "given-by-the-environment-0123456789"
    said = serve(store, terminal=True, DRYSTONE_ROOT_ACCESS_KEY="GIVENKEY", DRYSTONE_ROOT_SECRET_KEY=secret)
    assert "GIVENKEY" in said
    assert secret not in said
    assert [p for p in store.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()] == []
    assert not (store / "state" / "root-credential").exists()
