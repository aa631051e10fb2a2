# SPDX-License-Identifier: Apache-2.0
"""Certificates by which services of a cell know one another: make them for a test or a first installation, show one.

`init` may be called again: it keeps the authority and what it issued, adds what is new, and with --renew issues anew.
Files: DIR/ca.crt, DIR/ca.key, DIR/KIND-NAME.crt, DIR/KIND-NAME.key; keys have mode 0600, and DIR 0700 when it is made here.
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from drystone_cli.exits import FAILED, OK, USAGE, Failure
from drystone_cli.terminal import Terminal
from drystone_core.identity import Identity, service_kind
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.certificate import Certificate, read_certificate

if TYPE_CHECKING:
    from drystone_runtime.authority import Authority

DEFAULT_NAME = "0"
MOST_DAYS = 3650


def identity_of(text: str, cell: str) -> Identity:
    """From KIND or KIND:NAME; Failure in words otherwise."""
    kind, _, name = text.partition(":")
    try:
        return Identity(cell=cell, kind=service_kind(kind), name=name or DEFAULT_NAME)
    except ValueError as error:
        raise Failure(str(error), "drystone certs init --help", USAGE) from error


def init(directory: Path, *, cell: str, services: Sequence[str], days: int, renew: bool, as_json: bool) -> int:
    """Make what is missing."""
    identities = [identity_of(text, cell) for text in services]
    if not 1 <= days <= MOST_DAYS:
        raise Failure(f"--days {days}: 1 to {MOST_DAYS}", "drystone certs init --help", USAGE)
    now = SystemClock().wall_us() // 1_000_000
    made = []
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(directory, cell, now)
        for identity in identities:
            stem = f"{identity.kind.value}-{identity.name}"
            cert, key = directory / f"{stem}.crt", directory / f"{stem}.key"
            new = renew or not cert.exists() or not key.exists()
            if new:
                issued = authority.issue(identity, now=now, days=days)
                _write(key, issued.key, 0o600)
                _write(cert, issued.cert, 0o644)
            until = read_certificate(cert.read_bytes()).not_after
            made.append(
                {"identity": identity.uri, "cert": str(cert), "key": str(key), "until": _day(until), "new": new}
            )
    except (OSError, ValueError) as error:
        raise Failure(f"{directory}: {error}", "give a directory of your own") from error
    ca = directory / "ca.crt"
    if as_json:
        print(json.dumps({"ok": True, "cell": cell, "ca": str(ca), "services": made}, ensure_ascii=False))
        return OK
    terminal = Terminal(sys.stdout)
    rows = [
        (str(one["identity"]), "issued" if one["new"] else "kept", str(one["until"]), str(one["cert"])) for one in made
    ]
    terminal.table(("IDENTITY", "", "UNTIL", "CERTIFICATE"), rows)
    terminal.line(f"authority: {ca}; whoever has {directory / 'ca.key'} can be every service of cell {cell}")
    return OK


def show(file: Path, *, as_json: bool) -> int:
    """Who and until when."""
    try:
        certificate = read_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Failure(f"{file}: {reason}", "give a PEM file with a certificate") from error
    identity, problem = _identity(certificate)
    left = certificate.not_after - SystemClock().wall_us() // 1_000_000
    begun = certificate.not_before <= SystemClock().wall_us() // 1_000_000
    valid = left >= 0 and begun
    if as_json:
        print(
            json.dumps(
                {
                    "ok": valid,
                    "identity": identity.uri if identity else None,
                    "server_name": identity.server_name if identity else None,
                    "problem": problem,
                    "dns_names": list(certificate.names),
                    "from": _day(certificate.not_before),
                    "until": _day(certificate.not_after),
                    "valid": valid,
                },
                ensure_ascii=False,
            )
        )
        return OK if valid else FAILED
    print(f"identity  {identity.uri if identity else problem}")
    if identity and problem:
        print(f"problem   {problem}")
    print(f"names     {', '.join(certificate.names) or 'none'}")
    print(f"valid     {_day(certificate.not_before)} to {_day(certificate.not_after)}: {_validity(left, begun)}")
    return OK if valid else FAILED


def _identity(certificate: Certificate) -> tuple[Identity | None, str]:
    if len(certificate.uris) != 1:
        return None, f"names {len(certificate.uris) or 'no'} identities: not a service's certificate"
    try:
        identity = Identity.parse(certificate.uris[0])
    except ValueError as error:
        return None, str(error)
    if identity.server_name not in certificate.names:
        return identity, f"lacks the DNS name {identity.server_name}: no client will accept it"
    return identity, ""


def _validity(left: int, begun: bool) -> str:
    if left < 0:
        return "expired"
    return f"{left // 86_400} days left" if begun else "not valid yet"


def _authority(directory: Path, cell: str, now: int) -> "Authority":
    from drystone_runtime.authority import Authority

    cert, key = directory / "ca.crt", directory / "ca.key"
    if cert.exists() != key.exists():
        missing = key if cert.exists() else cert
        raise Failure(
            f"{missing} is missing beside the other half of the authority", "return it, or begin in a new DIR"
        )
    if cert.exists():
        authority = Authority.load(cert.read_bytes(), key.read_bytes())
        if authority.cell != cell:
            raise Failure(
                f"{cert} is the authority of cell {authority.cell!r}", f"--cell {authority.cell}, or another DIR"
            )
        return authority
    authority = Authority.new(cell, now=now)
    _write(key, authority.issued.key, 0o600)
    _write(cert, authority.issued.cert, 0o644)
    return authority


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all; never readable by more than `mode` says."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
