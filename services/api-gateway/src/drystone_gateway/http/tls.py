# SPDX-License-Identifier: Apache-2.0
"""TLS from certificate files, renewed while serving.

Invariants
  T1  At least TLS 1.2; ALPN offers http/1.1 and nothing else.
  T2  A changed certificate is taken into the serving context only after it loaded, with its key, into a fresh one: a
      pair caught half-written never replaces a good one. Connections that exist keep theirs.
"""

import logging
import os
import ssl
from dataclasses import dataclass

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the certificate (with its chain) and its key."""

    certificate: str
    key: str


class TlsReloader:
    """The context of a server and the files it came from."""

    __slots__ = ("_files", "_stamp", "context")

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = _stamp(files)
        self.context = _fresh_context()
        self.context.load_cert_chain(files.certificate, files.key)

    def check(self) -> bool:
        """Load the files again if they changed; returns whether they were. Blocks: call it from a thread."""
        try:
            stamp = _stamp(self._files)
            if stamp == self._stamp:
                return False
            _fresh_context().load_cert_chain(self._files.certificate, self._files.key)
            self.context.load_cert_chain(self._files.certificate, self._files.key)
        except (OSError, ssl.SSLError) as error:
            log.warning("http.certificate_not_reloaded", extra={"error": str(error)})
            return False
        self._stamp = stamp
        log.info("http.certificate_reloaded")
        return True


def _fresh_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _stamp(files: TlsFiles) -> _Stamp:
    stats = (os.stat(files.certificate), os.stat(files.key))
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)
