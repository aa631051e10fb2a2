# SPDX-License-Identifier: Apache-2.0
"""The digests of one body: MD5 for the ETag, SHA-256 when signed, one S3 checksum; each byte once per algorithm.

Slices are cut into steps that stay in the cache, so all algorithms read warm bytes. `update` runs in any thread, one
call at a time. What promises agree on is computed once: a signed payload and `x-amz-checksum-sha256` share one SHA-256.
"""

import hashlib
import hmac
from collections.abc import Mapping

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import Checksum, ChecksumType
from drystone_core.ports import Buffer
from drystone_gateway.s3.checksums import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    Algorithm,
    Hasher,
    RequestedChecksum,
    content_md5,
    encode,
    requested_checksum,
)
from drystone_gateway.s3.payload import PayloadMode, SignedHash

_STEP = 128 * 1024
_HELD = 2047
"""Bytes up to which hashlib keeps the interpreter's lock: giving it up costs more than hashing a little."""
_SMALL = 16 * 1024
"""A body hashed in such steps, on the loop; a longer one lets the disks' threads go on meanwhile."""


class BodyHashes:
    """Digests in the making, and what they must come to."""

    __slots__ = (
        "_algorithm",
        "_all",
        "_checksum",
        "_content_md5",
        "_md5",
        "_promised",
        "_requested",
        "_sha256",
        "_signed",
    )

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        signed: str = "",
        content_md5: bytes | None = None,
        requested: RequestedChecksum | None = None,
    ) -> None:
        """`algorithm`: of the checksum to keep. `signed`: SHA-256 in hex that the signature covers, or empty.

        `requested` may ask for another algorithm: then both are computed.
        """
        self._md5: Hasher = hashlib.md5(usedforsecurity=False)
        self._all: list[Hasher] = [self._md5]
        self._sha256: Hasher | None = None
        self._signed = signed
        self._content_md5 = content_md5
        self._requested = requested
        self._algorithm = algorithm
        if signed:
            self._sha256 = hashlib.sha256()
            self._all.append(self._sha256)
        self._checksum = self._hasher(algorithm)
        self._promised = self._checksum
        if requested is not None and requested.algorithm is not algorithm:
            self._promised = self._hasher(requested.algorithm)

    def _hasher(self, algorithm: Algorithm) -> Hasher:
        if algorithm.name == "MD5":
            return self._md5
        if algorithm.name == "SHA256" and self._sha256 is not None:
            return self._sha256
        hasher = algorithm.new()
        self._all.append(hasher)
        return hasher

    def update(self, data: Buffer) -> None:
        """Hash the next bytes."""
        size = len(data)
        if size <= _SMALL:
            view = memoryview(data)
            steps = [view[at : at + _HELD] for at in range(0, size, _HELD)]
            for hasher in self._all:
                for step in steps:
                    hasher.update(step)
            return
        if size <= _STEP:
            for hasher in self._all:
                hasher.update(data)
            return
        view = memoryview(data)
        for at in range(0, size, _STEP):
            step = view[at : at + _STEP]
            for hasher in self._all:
                hasher.update(step)

    def etag(self) -> str:
        """MD5 in hex."""
        return self._md5.digest().hex()

    def verified(self, trailers: Mapping[str, str]) -> Checksum:
        """The checksum, after everything promised was compared.

        Refused: XAmzContentSHA256Mismatch, BadDigest, InvalidRequest (a malformed trailer).
        """
        if self._sha256 is not None and not hmac.compare_digest(self._sha256.digest().hex(), self._signed):
            raise Refused(
                ErrorCode.CONTENT_SHA256_MISMATCH,
                ClientComputedContentSHA256=self._signed,
                S3ComputedContentSHA256=self._sha256.digest().hex(),
            )
        if self._content_md5 is not None and self._md5.digest() != self._content_md5:
            raise Refused(ErrorCode.BAD_DIGEST, "The Content-MD5 you specified did not match what we received.")
        if self._requested is not None:
            self._requested.with_trailers(trailers).verify(self._promised.digest())
        return Checksum(self._algorithm.name, encode(self._checksum.digest()))

    def promised(self) -> Checksum | None:
        """The checksum the client brought, to be shown to it; None when it brought none."""
        if self._requested is None:
            return None
        return Checksum(self._requested.algorithm.name, encode(self._promised.digest()))


def body_hashes(headers: Mapping[str, str], payload: PayloadMode) -> BodyHashes:
    """Digests for a PUT: the checksum it brings, or the default one."""
    requested = requested_checksum(headers)
    return BodyHashes(
        algorithm=ALGORITHMS[DEFAULT_ALGORITHM] if requested is None else requested.algorithm,
        signed=payload.hex if isinstance(payload, SignedHash) else "",
        content_md5=content_md5(headers),
        requested=requested,
    )


def part_hashes(headers: Mapping[str, str], payload: PayloadMode, algorithm: str, kind: ChecksumType) -> BodyHashes:
    """Digests for a part of an upload that fixed `algorithm` (empty: none, so the default is kept and any is verified).

    A part that brings another algorithm than the one fixed is InvalidRequest, in a composite one that brings none
    too (#48).
    """
    requested = requested_checksum(headers)
    brought = "null" if requested is None else requested.algorithm.name
    if algorithm and brought != algorithm and not (requested is None and kind is ChecksumType.FULL_OBJECT):
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.lower()}, actual checksum Type:"
            f" {brought.lower()}",
        )
    return BodyHashes(
        algorithm=ALGORITHMS[algorithm or DEFAULT_ALGORITHM],
        signed=payload.hex if isinstance(payload, SignedHash) else "",
        content_md5=content_md5(headers),
        requested=requested,
    )


def document_hashes(headers: Mapping[str, str], payload: PayloadMode, *, checksum: bool = True) -> BodyHashes | None:
    """Digests of a request document, None when it promises nothing; `checksum`: x-amz-checksum-* speaks of the
    document, as a trailer always does (it may be all that protects an unsigned body)."""
    requested = requested_checksum(headers) if checksum or "x-amz-trailer" in headers else None
    md5 = content_md5(headers)
    signed = payload.hex if isinstance(payload, SignedHash) else ""
    if requested is None and md5 is None and not signed:
        return None
    return BodyHashes(
        algorithm=ALGORITHMS["CRC32C"] if requested is None else requested.algorithm,
        signed=signed,
        content_md5=md5,
        requested=requested,
    )


def needs_integrity(headers: Mapping[str, str]) -> None:
    """InvalidRequest without Content-MD5 or a checksum (#15)."""
    if requested_checksum(headers) is None and content_md5(headers) is None:
        raise Refused(
            ErrorCode.INVALID_REQUEST, "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
        )
