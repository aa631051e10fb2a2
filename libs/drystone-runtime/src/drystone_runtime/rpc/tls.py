# SPDX-License-Identifier: Apache-2.0
"""A service's certificate: read from files, judged, renewed while serving.

Invariants
  T1  Both ends of a TLS connection show a certificate of the cell's authority; there is no other mode.
  T2  Files are taken into use only together and only when everything about them is in order: they fit one another, the
      authority vouches for them in both directions, they are valid now, and they name one identity of the right kind. At the
      start every problem is reported at once; later the old certificate stays in use and the log says why.
  T3  A renewed certificate names the identity the process started with: who somebody is does not change while he runs.
  T4  The private key stands in no log line, no repr and no error.
Verified with OpenSSL (this module) before BoringSSL (gRPC) uses them: OpenSSL says in words what is wrong.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc

from drystone_core.identity import Identity, ServiceKind
from drystone_core.ports import Clock
from drystone_runtime.rpc.certificate import Certificate, read_certificate
from drystone_runtime.rpc.refusal_log import RefusalLog

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
"""Between two looks whether the files changed; SIGHUP looks at once."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME."""
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files."""

    ca: str
    """Certificates of those who may vouch for a service of this cell; several while the authority changes."""
    cert: str
    """This service's certificate, with intermediate ones after it."""
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """What the files held, found to be in order."""

    ca: bytes
    cert: bytes
    key: bytes = field(repr=False)
    identity: Identity
    not_before: int
    """Unix time, seconds."""
    not_after: int
    """Unix time, seconds."""


class TlsRefused(Exception):
    """The files cannot be used: one sentence per problem, all of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(files: TlsFiles, *, kind: ServiceKind | None, now: int) -> TlsMaterial:
    """The files' content; TlsRefused with every problem. `kind`: what the service must be; `now`: Unix time, seconds."""
    problems: list[str] = []
    stamp = _stamp(files)
    ca, cert, key = (_read(path, what, problems) for path, what in _roles(files))
    certificate = identity = None
    if cert:
        try:
            certificate = read_certificate(cert)
        except ValueError as error:
            problems.append(f"{files.cert}: {error}")
    if certificate is not None:
        identity = _identity(files.cert, certificate, kind, problems)
        problems += _time_problems(files.cert, certificate, now)
    if certificate is not None and ca and key:
        in_time = certificate.not_before <= now <= certificate.not_after
        problems += _trust_problems(files, ca, in_time=in_time)
    if not problems and _stamp(files) != stamp:
        problems.append(f"{files.cert}: the files are just being replaced")
    if problems:
        raise TlsRefused(problems)
    assert certificate is not None
    assert identity is not None
    return TlsMaterial(
        ca=ca,
        cert=cert,
        key=key,
        identity=identity,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )


class Certificates:
    """The certificate of this process, as it is now."""

    def __init__(self, *, files: TlsFiles, kind: ServiceKind, clock: Clock) -> None:
        """Reads the files; TlsRefused when they cannot be used."""
        self._files, self._kind, self._clock = files, kind, clock
        self._stamp = _stamp(files)
        self.material = self.previous = load(files, kind=kind, now=self._now())
        """As they are now; as they were before the last renewal."""
        self._listeners: list[Callable[[], None]] = []
        self._refused: list[str] = []
        self._ageing = RefusalLog(clock=clock, log=log, every=3600.0)
        self._expired = RefusalLog(clock=clock, log=log, every=60.0)

    @property
    def identity(self) -> Identity:
        """Who this process is."""
        return self.material.identity

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the loop whenever the certificate was renewed."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """The opposite of `on_change`."""
        self._listeners.remove(listener)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server; every handshake uses the certificate of its time."""
        given = self.material

        def renewed() -> grpc.ServerCertificateConfiguration | None:  # on a thread of gRPC's, at every handshake
            nonlocal given
            if self.material is given:
                return None
            given = self.material
            return _configuration(given)

        fetcher: Any = renewed  # the stubs do not know that None means unchanged
        return grpc.dynamic_ssl_server_credentials(_configuration(given), fetcher, require_client_authentication=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a new channel: the certificate as it is now."""
        now = self.material
        return grpc.ssl_channel_credentials(now.ca, now.key, now.cert)

    async def run(self) -> None:
        """Look for renewed files for ever, and say when ours grows old."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.reload()
            self._speak_of_age()

    async def reload(self) -> bool:
        """Take renewed files into use; returns whether there were any."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, self._look)
        if isinstance(found, list):
            if found != self._refused:
                log.warning("rpc.certificates_not_reloaded", extra={"problems": found})
            self._refused = found
        if not isinstance(found, TlsMaterial):
            return False
        self.previous, self.material, self._refused = self.material, found, []
        log.info("rpc.certificates_reloaded", extra={"identity": str(found.identity), "until": day(found.not_after)})
        for listener in tuple(self._listeners):
            listener()
        return True

    def _look(self) -> TlsMaterial | list[str] | None:
        """Renewed material, what is wrong with it, or None when nothing changed. Blocks."""
        stamp = _stamp(self._files)
        if stamp == self._stamp and not self._refused:
            return None
        try:
            found = load(self._files, kind=self._kind, now=self._now())
        except TlsRefused as error:
            return error.problems
        if found.identity != self.identity:
            return [f"{self._files.cert}: names {found.identity}, this process is {self.identity}: start it anew"]
        self._stamp = stamp
        same = (found.ca, found.cert, found.key) == (self.material.ca, self.material.cert, self.material.key)
        return None if same and not self._refused else found

    def _speak_of_age(self) -> None:
        material = self.material
        left = material.not_after - self._now()
        fields = {"identity": str(material.identity), "until": day(material.not_after), "file": self._files.cert}
        if left < 0:
            self._expired.warn("rpc.certificate_expired", "", **fields)
        elif left < (material.not_after - material.not_before) / 5:
            self._ageing.warn("rpc.certificate_expires_soon", "", **fields)

    def _now(self) -> int:
        return self._clock.wall_us() // 1_000_000


def _roles(files: TlsFiles) -> tuple[tuple[str, str], ...]:
    return (files.ca, "rpc.tls_ca"), (files.cert, "rpc.tls_cert"), (files.key, "rpc.tls_key")


def _read(path: str, what: str, problems: list[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        problems.append(f"{what}: {path} cannot be read: {error.strerror}")
        return b""


def _identity(path: str, said: Certificate, kind: ServiceKind | None, problems: list[str]) -> Identity | None:
    if len(said.uris) != 1:
        count = len(said.uris) or "no"
        problems.append(f"{path}: names {count} identities; it needs exactly one URI spiffe://CELL/SERVICE/NAME")
        return None
    try:
        identity = Identity.parse(said.uris[0])
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return None
    if kind is not None and identity.kind is not kind:
        problems.append(f"{path}: is the certificate of {identity}; this process is a {kind.value}")
    if identity.server_name not in said.names:
        problems.append(f"{path}: lacks the DNS name {identity.server_name}, by which clients know what it is")
    return identity


def _time_problems(path: str, said: Certificate, now: int) -> list[str]:
    if now > said.not_after:
        return [f"{path}: has expired on {day(said.not_after)}: issue a new one"]
    if now < said.not_before:
        return [f"{path}: is not valid before {day(said.not_before)}: see that this machine's clock is right"]
    return []


def _trust_problems(files: TlsFiles, ca: bytes, *, in_time: bool) -> list[str]:
    """What a handshake of the certificate with itself says; times count unless the certificate's own are wrong already."""
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
    for context in contexts:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if not in_time:
            context.verify_flags |= _NO_CHECK_TIME
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, ValueError):
            return [f"{files.ca}: holds no PEM certificate that can be read"]
        try:
            context.load_cert_chain(files.cert, files.key, password="")
        except (ssl.SSLError, OSError):
            return [f"{files.key}: is not the key of {files.cert}, or is encrypted"]
    try:
        _shake_hands(*contexts)
    except ssl.SSLCertVerificationError as error:
        return [f"{files.ca}: does not vouch for {files.cert}: {error.verify_message}"]
    except ssl.SSLError as error:
        return [f"{files.cert}: cannot be used for TLS: {error.reason}"]
    return []


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(8):  # flights of a handshake, with room to spare
        for end in tuple(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not ends:
            return


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.cert)], material.ca)


def _stamp(files: TlsFiles) -> _Stamp:
    found = []
    for path, _ in _roles(files):
        try:
            stat = os.stat(path)
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def day(seconds: int) -> str:
    """A Unix time for people."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
