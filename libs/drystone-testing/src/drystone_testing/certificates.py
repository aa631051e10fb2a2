# SPDX-License-Identifier: Apache-2.0
"""Real certificates for tests: a cell's authority in a directory, and certificates of every kind, good and bad."""

import time
from collections.abc import Sequence
from pathlib import Path

from drystone_core.identity import Identity, ServiceKind
from drystone_runtime.authority import DAY, Authority, Issued
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.tls import Certificates, TlsFiles


class TestCell:
    """One cell and its authority; files lie in `root`."""

    __test__ = False

    def __init__(self, root: Path, cell: str = "cell", *, authority: Authority | None = None) -> None:
        self.root, self.cell = root, cell
        root.mkdir(parents=True, exist_ok=True)
        self.authority = authority or Authority.new(cell, now=int(time.time()))
        self.ca = root / "ca.crt"
        self.ca.write_bytes(self.authority.issued.cert)
        self._count = 0

    def files(self, kind: ServiceKind, name: str = "0", *, days: int = 1) -> TlsFiles:
        """A good certificate."""
        identity = Identity(cell=self.cell, kind=kind, name=name)
        return self.put(self.authority.issue(identity, now=int(time.time()), days=days), f"{kind.value}-{name}")

    def files_with(
        self, uris: Sequence[str], names: Sequence[str], *, begins: int = -DAY, ends: int = DAY, stem: str = ""
    ) -> TlsFiles:
        """A certificate with just these names, valid from and to so many seconds from now."""
        now = int(time.time())
        issued = self.authority.issue_names(uris, names, not_before=now + begins, not_after=now + ends)
        self._count += 1
        return self.put(issued, stem or f"odd-{self._count}")

    def put(self, issued: Issued, stem: str) -> TlsFiles:
        """Write (or replace) a pair of files."""
        cert, key = self.root / f"{stem}.crt", self.root / f"{stem}.key"
        for path, content in ((key, issued.key), (cert, issued.cert)):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.write_bytes(content)
            fresh.chmod(0o600)
            fresh.replace(path)
        return TlsFiles(ca=str(self.ca), cert=str(cert), key=str(key))

    def certificates(self, kind: ServiceKind, name: str = "0") -> Certificates:
        """A good certificate, loaded."""
        return Certificates(files=self.files(kind, name), kind=kind, clock=SystemClock())
