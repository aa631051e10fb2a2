# SPDX-License-Identifier: Apache-2.0
"""Python clients, each a script under clients/ run in an environment of its own."""

from pathlib import Path

import pytest

from drystone_testing.compat_clients import RunClient, python_with

HERE = Path(__file__).parent
CLIENTS = {
    "boto3": ("boto3", "awscrt"),
    "minio": ("minio",),
    "s3fs": ("s3fs",),
    "pyarrow": ("pyarrow",),
    "duckdb": ("duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5"),
}


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_python_client_does_its_whole_script(name: str, run_client: RunClient) -> None:
    """The script asserts every step itself and prints `ok` at its end."""
    assert run_client(python_with(name, *CLIENTS[name]), HERE / "clients" / f"{name}_client.py").endswith("ok\n")
