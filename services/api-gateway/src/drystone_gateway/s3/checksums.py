# SPDX-License-Identifier: Apache-2.0
"""S3's additional checksums: algorithms, request parsing, composites of parts and full-object combination.

CRCs come from awscrt, SHA and MD5 from hashlib, XXHash from xxhash; all release the GIL on large pieces. Values are
base64 of the big-endian digest. MD5 as an *additional* checksum is distinct from Content-MD5 and the ETag.
Source: S3 user guide "Checking object integrity"; s3-surface §5 #15, #48.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import xxhash
from awscrt import checksums as crt  # type: ignore[import-untyped,unused-ignore]

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import Checksum, ChecksumType
from drystone_core.ports import Buffer

HEADER_PREFIX = "x-amz-checksum-"
FULL_OBJECT = ChecksumType.FULL_OBJECT
COMPOSITE = ChecksumType.COMPOSITE
DEFAULT_ALGORITHM = "CRC64NVME"
"""Computed when the client names none."""


class Hasher(Protocol):
    """An incremental checksum."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC as a hasher."""

    __slots__ = ("_function", "_size", "value")

    def __init__(self, function: Callable[[Buffer, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self.value = 0

    def update(self, data: Buffer, /) -> None:
        self.value = self._function(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(self._size, "big")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One checksum algorithm."""

    name: str
    """As in x-amz-checksum-algorithm and `Checksum.algorithm`."""
    size: int
    """Bytes of a digest."""
    new: Callable[[], Hasher]
    types: frozenset[ChecksumType]
    """What a multipart upload may ask for; the first choice is `default_type`."""
    default_type: ChecksumType
    """For a multipart upload that names the algorithm and no type."""
    combine: Callable[[int, int, int], int] | None = None
    """crc(a), crc(b), len(b) → crc(a+b)."""

    @property
    def header(self) -> str:
        """`x-amz-checksum-crc32`…: of requests, trailers and answers."""
        return HEADER_PREFIX + self.name.lower()

    @property
    def element(self) -> str:
        """`ChecksumCRC32`…: in XML."""
        return "Checksum" + self.name


def _both(name: str, size: int, function: Callable[..., int], combine: Callable[..., int]) -> Algorithm:
    return Algorithm(name, size, lambda: _Crc(function, size), frozenset({FULL_OBJECT, COMPOSITE}), COMPOSITE, combine)


def _hash(name: str, size: int, new: Callable[[], Hasher]) -> Algorithm:
    return Algorithm(name, size, new, frozenset({COMPOSITE}), COMPOSITE)


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        algorithm.name: algorithm
        for algorithm in (
            _both("CRC32", 4, crt.crc32, crt.combine_crc32),
            _both("CRC32C", 4, crt.crc32c, crt.combine_crc32c),
            Algorithm(
                "CRC64NVME",
                8,
                lambda: _Crc(crt.crc64nvme, 8),
                frozenset({FULL_OBJECT}),
                FULL_OBJECT,
                crt.combine_crc64nvme,
            ),
            _hash("SHA1", 20, lambda: hashlib.sha1(usedforsecurity=False)),
            _hash("SHA256", 32, hashlib.sha256),
            _hash("SHA512", 64, hashlib.sha512),
            _hash("MD5", 16, lambda: hashlib.md5(usedforsecurity=False)),
            _hash("XXHASH3", 8, xxhash.xxh3_64),
            _hash("XXHASH64", 8, xxhash.xxh64),
            _hash("XXHASH128", 16, xxhash.xxh3_128),
        )
    }
)
_BY_HEADER: Mapping[str, Algorithm] = MappingProxyType({a.header: a for a in ALGORITHMS.values()})
_NOT_VALUES = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-checksum-mode"})


@dataclass(frozen=True, slots=True)
class RequestedChecksum:
    """The additional checksum a PUT or UploadPart brings."""

    algorithm: Algorithm
    expected: str
    """Base64; empty when it comes in the trailer."""
    trailer: str = ""
    """Name of the trailing header that will hold it."""

    def with_trailers(self, trailers: Mapping[str, str]) -> "RequestedChecksum":
        """The same, with the value from the decoded trailers; InvalidRequest when it is malformed or missing."""
        if not self.trailer:
            return self
        value = trailers.get(self.trailer, "")
        _check_value(self.algorithm, value)
        return RequestedChecksum(self.algorithm, value)

    def verify(self, digest: bytes) -> None:
        """BadDigest unless the body's digest is the one announced."""
        if encode(digest) != self.expected:
            raise Refused(
                ErrorCode.BAD_DIGEST,
                f"The {self.algorithm.name} you specified did not match the calculated checksum.",
            )


def encode(digest: bytes) -> str:
    """Base64 as S3 shows it."""
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def requested_checksum(headers: Mapping[str, str]) -> RequestedChecksum | None:
    """The checksum of a request with a body, None when it names none.

    InvalidRequest: two of them, an unknown one, a malformed value, or disagreement with x-amz-sdk-checksum-algorithm.
    """
    found: RequestedChecksum | None = None
    for name, value in headers.items():
        if not name.startswith(HEADER_PREFIX) or name in _NOT_VALUES:
            continue
        algorithm = _BY_HEADER.get(name)
        if algorithm is None:
            raise Refused(ErrorCode.INVALID_REQUEST, f"The checksum header {name[:64]} is not known.")
        if found is not None:
            raise _multiple()
        _check_value(algorithm, value)
        found = RequestedChecksum(algorithm, value)
    for name in headers.get("x-amz-trailer", "").lower().split(","):
        name = name.strip()
        if not name.startswith(HEADER_PREFIX):
            continue
        algorithm = _BY_HEADER.get(name)
        if algorithm is None:
            raise Refused(ErrorCode.INVALID_REQUEST, "The value specified in the x-amz-trailer header is not supported")
        if found is not None:
            raise _multiple()
        found = RequestedChecksum(algorithm, "", name)
    claimed = headers.get("x-amz-sdk-checksum-algorithm")
    if claimed is not None:
        _check_agreement(claimed.upper(), found)
    return found


def completed_checksum(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """(algorithm, value) of the whole object that Complete expects, None when it names none.

    The value of a composite may have its `-N`. InvalidRequest: two of them, an unknown one, a malformed value.
    """
    found: tuple[str, str] | None = None
    for name, value in headers.items():
        if not name.startswith(HEADER_PREFIX) or name in _NOT_VALUES:
            continue
        algorithm = _BY_HEADER.get(name)
        if algorithm is None:
            raise Refused(ErrorCode.INVALID_REQUEST, f"The checksum header {name[:64]} is not known.")
        if found is not None:
            raise _multiple()
        _check_value(algorithm, value.partition("-")[0])
        found = algorithm.name, value
    return found


def _check_agreement(claimed: str, found: RequestedChecksum | None) -> None:
    if claimed not in ALGORITHMS:
        raise _unknown_algorithm()
    if found is None:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers"
            " were found.",
        )
    if found.algorithm.name != claimed:
        raise Refused(ErrorCode.INVALID_REQUEST, "Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _multiple() -> Refused:
    return Refused(
        ErrorCode.INVALID_REQUEST,
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )


def _unknown_algorithm() -> Refused:
    return Refused(
        ErrorCode.INVALID_REQUEST,
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types:"
        f" {sorted(ALGORITHMS)}",
    )


def _check_value(algorithm: Algorithm, value: str) -> None:
    if decode(value, algorithm.size) is None:
        raise Refused(ErrorCode.INVALID_REQUEST, f"Value for {algorithm.header} header is invalid.")


def decode(value: str, size: int) -> bytes | None:
    """The `size` raw bytes of a base64 text, None when it is anything else."""
    try:
        raw = base64.b64decode(value.encode("ascii"), validate=True)
    except ValueError:
        return None
    return raw if len(raw) == size else None


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """The 16 bytes of Content-MD5; None when absent; InvalidDigest when malformed."""
    text = headers.get("content-md5")
    if text is None:
        return None
    raw = decode(text, 16)
    if raw is None:
        raise Refused(ErrorCode.INVALID_DIGEST)
    return raw


def upload_checksum(headers: Mapping[str, str]) -> tuple[str, ChecksumType]:
    """(algorithm or "", type) fixed by CreateMultipartUpload; InvalidRequest for impossible combinations (#48)."""
    name = headers.get("x-amz-checksum-algorithm", "").upper()
    text = headers.get("x-amz-checksum-type", "").upper()
    if name and name not in ALGORITHMS:
        raise _unknown_algorithm()
    if text and text not in (FULL_OBJECT.value, COMPOSITE.value):
        raise Refused(ErrorCode.INVALID_REQUEST, "Value for x-amz-checksum-type header is invalid.")
    if not name:
        if text:
            raise Refused(
                ErrorCode.INVALID_REQUEST,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return "", FULL_OBJECT
    algorithm = ALGORITHMS[name]
    kind = ChecksumType(text) if text else algorithm.default_type
    if kind not in algorithm.types:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"The {kind.value} checksum type cannot be used with the {name.lower()} checksum algorithm.",
        )
    return name, kind


def composite(algorithm: str, parts: Iterable[str]) -> Checksum:
    """COMPOSITE over the parts' base64 checksums: base64(H(concatenated raw))-N."""
    chosen = ALGORITHMS[algorithm]
    hasher = chosen.new()
    count = 0
    for part in parts:
        hasher.update(_raw(chosen, part))
        count += 1
    return Checksum(algorithm, f"{encode(hasher.digest())}-{count}", COMPOSITE)


def full_object(algorithm: str, parts: Iterable[tuple[str, int]]) -> Checksum:
    """FULL_OBJECT of parts given as (base64 checksum, length): CRCs combine without reading a byte."""
    chosen = ALGORITHMS[algorithm]
    if chosen.combine is None:
        raise Refused(ErrorCode.INVALID_REQUEST, f"{algorithm} has no full-object form for multipart uploads.")
    total = 0
    for part, length in parts:
        total = chosen.combine(total, int.from_bytes(_raw(chosen, part), "big"), length)
    return Checksum(algorithm, encode(total.to_bytes(chosen.size, "big")), FULL_OBJECT)


def _raw(algorithm: Algorithm, value: str) -> bytes:
    raw = decode(value, algorithm.size)
    if raw is None:
        raise Refused(ErrorCode.INVALID_REQUEST, f"A part has no valid {algorithm.name} checksum.")
    return raw


def multipart_etag(etags: Iterable[str]) -> str:
    """md5(concatenated binary part MD5s)-N, without quotes, also for one part (#25)."""
    digest = hashlib.md5(usedforsecurity=False)
    count = 0
    for etag in etags:
        digest.update(bytes.fromhex(etag))
        count += 1
    return f"{digest.hexdigest()}-{count}"


def checksum_header(checksum: Checksum) -> bytes:
    """The answer's header lines for a stored checksum."""
    name = ALGORITHMS[checksum.algorithm].header
    return f"{name}: {checksum.value}\r\nx-amz-checksum-type: {checksum.type.value}\r\n".encode("ascii")
