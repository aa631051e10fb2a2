# SPDX-License-Identifier: Apache-2.0
"""`drystone certs`: makes what services take, keeps keys to their owner, shows what a file says."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drystone_cli.main import main
from drystone_core.identity import ServiceKind
from drystone_runtime.authority import Authority
from drystone_runtime.rpc.tls import TlsFiles, load


def run(*arguments: object) -> int:
    """The verb, in this process."""
    with pytest.raises(SystemExit) as caught:
        main(["certs", *map(str, arguments)])
    return int(caught.value.code or 0)


def init(folder: Path, *more: object) -> int:
    """Two services of cell `eu`."""
    return run("init", folder, "--cell", "eu", "--service", "metadata:m0", "--service", "gateway", *more)


def test_init_makes_certificates_that_services_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An authority and a pair for each service; keys have mode 0600 and are not printed."""
    folder = tmp_path / "pki"
    assert init(folder, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["cell"], shown["ca"]) == (True, "eu", str(folder / "ca.crt"))
    assert [one["identity"] for one in shown["services"]] == ["spiffe://eu/metadata/m0", "spiffe://eu/gateway/0"]
    for one in shown["services"]:
        files = TlsFiles(ca=shown["ca"], cert=one["cert"], key=one["key"])
        assert load(files, kind=None, now=int(time.time())).identity.uri == one["identity"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        "ca.crt": "0o644",
        "ca.key": "0o600",
        "metadata-m0.crt": "0o644",
        "metadata-m0.key": "0o600",
        "gateway-0.crt": "0o644",
        "gateway-0.key": "0o600",
    }


def test_init_again_adds_and_keeps_and_renews_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The authority stays; so do keys, unless --renew says otherwise."""
    folder = tmp_path / "pki"
    assert init(folder) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert init(folder, "--service", "storage-node:a") == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) - set(before) == {"storage-node-a.crt", "storage-node-a.key"}
    assert {name: after[name] for name in before} == before
    capsys.readouterr()
    assert init(folder, "--renew", "--days", "7") == 0
    renewed = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = {name for name in after if renewed[name] != after[name]}
    assert changed == {"metadata-m0.crt", "metadata-m0.key", "gateway-0.crt", "gateway-0.key"}
    assert "PRIVATE" not in capsys.readouterr().out


def test_what_cannot_be_made_is_refused_with_a_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell of another name, half an authority, names that are none."""
    folder = tmp_path / "pki"
    assert init(folder) == 0
    assert run("init", folder, "--cell", "us", "--service", "gateway") == 1
    assert "is the authority of cell 'eu'" in capsys.readouterr().err
    for arguments, expected in (
        (("--cell", "eu", "--service", "gatway"), "not a kind of service: gateway, metadata"),
        (("--cell", "Eu", "--service", "gateway"), "not a cell's name"),
        (("--cell", "eu", "--service", "gateway:a b"), "not a service's name"),
        (("--cell", "eu", "--service", "gateway", "--days", "0"), "--days 0: 1 to 3650"),
        (("--cell", "eu"), "required: --service"),
    ):
        assert run("init", folder, *arguments) == 2
        assert expected in capsys.readouterr().err
    (folder / "ca.key").unlink()
    assert run("init", folder, "--cell", "eu", "--service", "gateway") == 1
    assert "ca.key is missing" in capsys.readouterr().err


def test_show_says_who_and_until_when(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people and as JSON; an expired one is exit code 1; a key is no certificate."""
    folder = tmp_path / "pki"
    assert init(folder) == 0
    capsys.readouterr()
    assert run("show", folder / "metadata-m0.crt") == 0
    text = capsys.readouterr().out
    for expected in ("spiffe://eu/metadata/m0", "metadata.eu.drystone.internal", "days left"):
        assert expected in text
    assert run("show", folder / "gateway-0.crt", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["identity"], shown["valid"], shown["problem"]) == ("spiffe://eu/gateway/0", True, "")

    authority = Authority.new("eu", now=int(time.time()))
    old = tmp_path / "old.crt"
    old.write_bytes(authority.issue_names(["spiffe://eu/gateway/0"], [], not_before=0, not_after=1).cert)
    assert run("show", old, "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["until"]) == (False, "1970-01-01T00:00:01Z")
    assert "lacks the DNS name" in shown["problem"]
    assert run("show", old) == 1
    assert "expired" in capsys.readouterr().out
    assert run("show", folder / "gateway-0.key") == 1
    assert "holds no PEM certificate" in capsys.readouterr().err
    assert run("show", tmp_path / "nowhere") == 1


def test_nothing_that_serves_imports_what_makes_certificates() -> None:
    """The store's processes, and all services."""
    script = (
        "import sys, drystone_cli.standalone, drystone_cli.standalone_rpc, drystone_cli.background, drystone_cli.certs\n"
        "for name in ('metadata', 'storage', 'lifecycle', 'replication'):\n"
        "    __import__(f'drystone_{name}.__main__')\n"
        "assert 'drystone_runtime.rpc.tls' in sys.modules\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'cryptography']\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_every_kind_can_be_issued(tmp_path: Path) -> None:
    """Also those whose process does not exist yet."""
    services = [part for kind in ServiceKind for part in ("--service", kind.value)]
    assert run("init", tmp_path, "--cell", "eu", *services) == 0
