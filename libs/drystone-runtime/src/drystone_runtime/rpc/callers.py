# SPDX-License-Identifier: Apache-2.0
"""Who is calling, and whether that is allowed: asked for every call before its handler runs.

Invariants
  W1  On a TLS port a caller is what its verified certificate says now: one identity, of our cell, within its validity.
      Connections outlive certificates, so the validity is judged at every call, not at the handshake alone.
  W2  On a unix socket the caller is OWNER, because the file's mode let it in; on a loopback port without TLS (a setting of
      tests) everybody on this machine is OWNER.
  W3  What is refused is said to the caller in one sentence, and in our log with the reason, seldom.
"""

import logging
from collections import OrderedDict
from typing import Any

from drystone_core.errors import ErrorCode, Refused
from drystone_core.identity import Identity
from drystone_core.ports import Clock
from drystone_runtime.rpc.certificate import read_certificate
from drystone_runtime.rpc.permissions import OWNER, allowed, open_to_anyone
from drystone_runtime.rpc.refusal_log import RefusalLog

log = logging.getLogger(__name__)
_KNOWN = 1024
"""Certificates remembered at once."""
_Known = tuple[Identity | None, str, int, int]
"""Identity, or None and why not; from and until when it is valid, Unix time in seconds."""


class OwnerDoor:
    """A unix socket, or the loopback of a test: OWNER, whoever it is."""

    def admit(self, method: str, context: Any) -> None:
        """Nothing when the call may go on; Refused (PeerDenied) otherwise."""
        if not allowed(method, OWNER):
            raise Refused(ErrorCode.PEER_DENIED, f"nobody may call {method}")


class TlsDoor:
    """A TLS port of one cell."""

    def __init__(self, *, cell: str, clock: Clock) -> None:
        self._cell, self._clock = cell, clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._refusals = RefusalLog(clock=clock, log=log)

    def admit(self, method: str, context: Any) -> None:
        """Nothing when the call may go on; Refused (PeerUnknown, PeerDenied) otherwise."""
        if open_to_anyone(method):
            return
        identity, reason = self._identify(context.auth_context())
        if identity is not None and allowed(method, identity.kind):
            return
        if identity is not None:
            code, reason = ErrorCode.PEER_DENIED, f"{identity} may not call {method}"
        else:
            code = ErrorCode.PEER_UNKNOWN
        self._refusals.warn("rpc.caller_refused", reason, reason=reason, method=method, peer=context.peer())
        raise Refused(code, reason)

    def _identify(self, said: Any) -> tuple[Identity | None, str]:
        pem = said.get("x509_pem_cert", (b"",))[0]
        known = self._known.get(pem)
        if known is None:
            known = self._known[pem] = _judge(pem, self._cell)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        identity, reason, not_before, not_after = known
        now = self._clock.wall_us() // 1_000_000
        if identity is not None and now > not_after:
            return None, f"the certificate of {identity} has expired"
        if identity is not None and now < not_before:
            return None, f"the certificate of {identity} is not valid yet"
        return identity, reason


def _judge(pem: bytes, cell: str) -> _Known:
    try:
        certificate = read_certificate(pem)
    except ValueError as error:
        return None, f"the caller's certificate {error}", 0, 0
    if len(certificate.uris) != 1:
        return (
            None,
            f"the caller's certificate names {len(certificate.uris) or 'no'} identities; one URI is needed",
            0,
            0,
        )
    try:
        identity = Identity.parse(certificate.uris[0])
    except ValueError as error:
        return None, f"the caller is nobody: {error}", 0, 0
    if identity.cell != cell:
        return None, f"{identity} is of another cell than {cell!r}", 0, 0
    return identity, "", certificate.not_before, certificate.not_after
