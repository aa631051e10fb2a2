# SPDX-License-Identifier: Apache-2.0
"""What `drystone` says to wrong input: one sentence per mistake, a next step, the right exit code, nothing made or harmed."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from drystone_testing.live import LiveStore, drystone_command


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    """One drystone command, without a terminal."""
    return subprocess.run(
        [*drystone_command(), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage: drystone"),
        (("serve",), "required: DIR"),
        (("serve", "x", "--lisen", "y"), "unrecognized arguments: --lisen y"),
        (("sreve",), "invalid choice: 'sreve'"),
        (("inspect",), "required: VERB"),
        (("serve", "x", "--profile", "fast"), "--profile: profile 'fast': expected 'rs-K-M'"),
        (("serve", "x", "--listen", "9000"), "--listen: '9000' is not HOST:PORT"),
        (("serve", "x", "--tls-cert", "/nowhere.pem"), "tls_cert and tls_key go together"),
        (("serve", "x", "--tls-cert", "/nowhere.pem", "--tls-key", "/no"), "--tls-key: /no cannot be read"),
        (("serve", "x", "--config", "/nowhere.toml"), "/nowhere.toml: cannot be read"),
        (("inspect", "object", "bucket/key"), "is not s3://BUCKET/KEY"),
        (("inspect", "shard", "/nowhere"), "/nowhere is not a file"),
        (("bench", "--size", "1GiB"), "at most 64MiB"),
        (("bench", "--connections", "0"), "connections"),
        (("bench", "--endpoint", "localhost"), "is not a URL"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_two(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """No traceback, and nothing is made."""
    done = run(*arguments, cwd=tmp_path, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
    assert done.returncode == 2
    assert words.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_mistake_of_file_environment_and_flags_is_told_at_once(tmp_path: Path) -> None:
    """By `serve` and by `config check`, each with where it stands."""
    file = tmp_path / "d.toml"
    file.write_text(
        '[server]\nlisen = "x"\nregion = "EU West"\n[storage]\nvolume_size = "8 GB"\n[metadata]\ngrace = "1m"\n'
    )
    expected = [
        f"{file}:server.lisen: unknown key; did you mean 'listen'?",
        f"{file}:server.region: 'EU West' is not a region",
        f"{file}:storage.volume_size: '8 GB' is not a size",
        f"{file}:metadata.grace: at least 15m",
        "DRYSTONE_LOG_LEVEL: 'loud' is not one of",
    ]
    checked = run("config", "check", "--config", str(file), "--json", DRYSTONE_LOG_LEVEL="loud")
    problems = json.loads(checked.stdout)["problems"]
    assert (checked.returncode, len(problems)) == (2, 5)
    served = run("serve", str(tmp_path / "s"), "--config", str(file), "--profile", "rs-1", DRYSTONE_LOG_LEVEL="loud")
    assert served.returncode == 2
    for words in expected:
        assert any(problem.startswith(words) for problem in problems), words
        assert words in served.stderr
    assert "--profile: profile 'rs-1'" in served.stderr
    assert not (tmp_path / "s").exists()


def test_directories_that_cannot_be_a_store_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """Foreign files, a file, a place nobody can write, too few disks for the profile: all are left as they were."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.txt").write_text("not yours")
    (tmp_path / "file").touch()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "report.txt").touch()
    for arguments, words in (
        ((mine,), f"{mine} holds other files (report.txt"),
        ((tmp_path / "file",), "is not a directory"),
        (("/proc/drystone",), "make it writable"),
        ((tmp_path / "a", tmp_path / "c", "--profile", "rs-4-2"), "needs at least 6 disks, 2 were given"),
        ((tmp_path / "a", tmp_path / "b", tmp_path / "c"), f"{tmp_path / 'b'} is not empty and has no"),
    ):
        done = run("serve", *map(str, arguments), "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in mine.iterdir()] == ["report.txt"]
    assert list((tmp_path / "a").iterdir()) == []


def test_a_port_in_use_is_told_before_anything_is_made(tmp_path: Path) -> None:
    """With the address and the flag."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", str(tmp_path / "s"), "--listen", address)
    assert done.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in done.stderr
    assert "--listen HOST:PORT" in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """Instead of a loop of restarts."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("no certificate")
    key.write_text("no key")
    done = run("serve", str(tmp_path / "s"), "--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
    assert done.returncode == 1
    assert "give PEM files that belong together" in done.stderr


def test_a_known_store_without_its_disks_is_refused_and_serves_again_with_them(tmp_path: Path) -> None:
    """All disks away must not look like a new store; nor may a new store take over the state of another."""
    store = LiveStore(tmp_path / "store")
    with store:
        pass
    disks, aside = tmp_path / "store" / "disks", tmp_path / "aside"
    disks.rename(aside)
    for _ in range(2):  # the directories it would make must not help the next start
        done = run("serve", str(tmp_path / "store"), "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        assert "mount its disks" in done.stderr
        assert "remove" in done.stderr
    others = [str(tmp_path / name) for name in ("x", "y")]
    state = str(tmp_path / "store" / "state")
    done = run("serve", *others, "--state-dir", state, "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "--state-dir" in done.stderr
    shutil.rmtree(disks)
    aside.rename(disks)
    with store:
        assert store.status()["health"] == "OK"
    done = run("serve", str(tmp_path / "store"), "--profile", "rs-3-2", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "fixed at its first start" in done.stderr


def test_status_of_nothing_is_exit_code_three(tmp_path: Path) -> None:
    """No store at all, and one that does not run."""
    nothing = run("status", str(tmp_path / "nowhere"))
    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert "there is no store" in nothing.stderr
    (tmp_path / "state").mkdir()
    stopped = run("status", str(tmp_path))
    assert stopped.returncode == 3
    assert "no store is running" in stopped.stderr
    assert f"drystone serve {tmp_path}" in stopped.stderr
