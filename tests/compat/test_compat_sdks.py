# SPDX-License-Identifier: Apache-2.0
"""SDKs of other languages, each a program that asserts every step itself and prints `ok`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from drystone_testing.compat_clients import CACHE, RunClient

HERE = Path(__file__).parent


def test_javascript_sdk_v3_does_its_whole_script(run_client: RunClient) -> None:
    """aws-sdk-js v3 on Node."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed")
    home = CACHE / "js"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "client.mjs"):
        shutil.copy(HERE / "js" / name, home / name)
    if not (home / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], check=True, cwd=home, timeout=600)
    assert run_client("node", home / "client.mjs").endswith("ok\n")


def test_java_sdk_v2_does_its_whole_script(run_client: RunClient) -> None:
    """AWS SDK for Java v2, built by Maven."""
    if shutil.which("mvn") is None or shutil.which("java") is None:
        pytest.skip("Java and Maven are not installed")
    home = CACHE / "java"
    shutil.copytree(HERE / "java", home, dirs_exist_ok=True)
    if not (home / "target" / "dependency").exists():
        build = ["mvn", "-q", "-B", "compile", "dependency:copy-dependencies"]
        subprocess.run(build, check=True, cwd=home, timeout=1200)
    classes = f"{home}/target/classes:{home}/target/dependency/*"
    assert run_client("java", "-cp", classes, "Client").endswith("ok\n")
