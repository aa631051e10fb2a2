# SPDX-License-Identifier: Apache-2.0
"""A node that asks for TLS, our certificate and a password: with all three the cell opens, without one it is refused."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drystone_core.errors import Unavailable
from drystone_metadata.store.ports import TabletId
from drystone_testing.cassandra_cell import open_test_cell, settings_for
from drystone_testing.cassandra_node import CassandraNode, missing

_SUBJECT = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj".split()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, for the loopback, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = [*_SUBJECT, f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[CassandraNode, Path]]:
    """A node of its own, and the folder of certificates."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    if shutil.which("openssl") is None:
        pytest.skip("the certificates are made by openssl, which is not installed")
    with tempfile.TemporaryDirectory(prefix="drystone-cassandra-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (cert, key), (ours, _), _ = (certificate(folder, who) for who in ("node", "ours", "stranger"))
        store = folder / "node-store.pem"
        store.write_text(key.read_text() + cert.read_text())
        more = f"""
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: true
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: {store}
  truststore: {ours}
"""
        node = CassandraNode(folder / "node", more=more)
        node.start()
        try:
            yield node, folder
        finally:
            node.stop()


async def test_tls_certificate_and_password_are_all_needed(secured: tuple[CassandraNode, Path]) -> None:
    """The cell works with all three; each one wrong or missing is refused with a sentence that names the place."""
    node, folder = secured
    good = {
        "username": "cassandra", "password": "cassandra", "tls_ca": str(folder / "node.pem"),
        "tls_certificate": str(folder / "ours.pem"), "tls_key": str(folder / "ours.key"),
    }  # fmt: skip
    async with asyncio.timeout(60):
        while True:
            try:
                cell = await open_test_cell(settings_for(node, **good))
                break
            except Unavailable:
                await asyncio.sleep(1)  # Cassandra makes its first user some seconds after it answers.
    await cell.storage.create(TabletId(b"t"), low=b"", high=b"", generation=1)
    assert (await cell.storage.take_over(TabletId(b"t"))).epoch == 1
    await cell.close()
    stranger = {"tls_certificate": str(folder / "stranger.pem"), "tls_key": str(folder / "stranger.key")}
    for wrong in (
        {"password": "guess"},
        {"username": "", "password": ""},
        {"tls_ca": str(folder / "stranger.pem")},
        {"tls_ca": "", "tls_certificate": "", "tls_key": ""},
        {"tls_certificate": "", "tls_key": ""},
        stranger,
    ):
        with pytest.raises(Unavailable, match=f"{node.address}:{node.port}") as refused:
            cell = await open_test_cell(settings_for(node, **(good | wrong), connect_timeout=3.0))
            await cell.close()
        assert "guess" not in refused.value.message
