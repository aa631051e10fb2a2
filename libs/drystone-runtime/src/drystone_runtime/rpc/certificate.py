# SPDX-License-Identifier: Apache-2.0
"""What an X.509 certificate says of its owner: names and validity.

Reads the few fields of DER it needs, because no library that reads X.509 stands on the serve path. It judges nothing: that
the certificate is genuine is TLS's business (both ends verify the chain before a byte of ours is read).

Source: RFC 5280 §4.1 (fields), §4.1.2.5 (times), §4.2.1.6 (names); X.690 §8, §10 (DER).
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _OBJECT_ID, _OCTETS, _UTC_TIME, _TIME = 0x30, 0x06, 0x04, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS, _URI = 0x82, 0x86
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
LIMIT = 64 * 1024
"""Bytes of one certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate."""

    uris: tuple[str, ...]
    names: tuple[str, ...]
    """DNS names."""
    not_before: int
    """Unix time, seconds."""
    not_after: int
    """Unix time, seconds."""


def read_certificate(pem: bytes) -> Certificate:
    """The first certificate of a PEM text; ValueError when there is none that can be read."""
    block = _PEM.search(pem)
    if block is None:
        raise ValueError("holds no PEM certificate")
    try:
        der = binascii.a2b_base64(block[1])
        if len(der) > LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")
        return _certificate(der)
    except (ValueError, StopIteration, IndexError) as error:
        raise ValueError(f"is not an X.509 certificate ({str(error) or 'cut off'})") from error


def _certificate(der: bytes) -> Certificate:
    signed = _one(_one(der, _SEQUENCE), _SEQUENCE)
    fields = [part for part in _parts(signed) if part[0] != _VERSION]
    # serial, algorithm, issuer, validity, subject, key, extensions
    times = [_time(tag, value) for tag, value in _parts(_expect(fields[3], _SEQUENCE))]
    uris, names = [], []
    for tag, value in fields[6:]:
        if tag != _EXTENSIONS:
            continue
        for _, extension in _parts(_one(value, _SEQUENCE)):
            parts = list(_parts(extension))
            if parts[0] == (_OBJECT_ID, _ALTERNATIVE_NAMES):
                for kind, name in _parts(_one(_expect(parts[-1], _OCTETS), _SEQUENCE)):
                    if kind == _URI:
                        uris.append(name.decode("ascii"))
                    elif kind == _DNS:
                        names.append(name.decode("ascii"))
    return Certificate(uris=tuple(uris), names=tuple(names), not_before=times[0], not_after=times[1])


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, value) of every element; nothing may be left over."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 3:
                raise ValueError("a length that is not DER")
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + length]
        at += length


def _one(data: bytes, tag: int) -> bytes:
    return _expect(next(_parts(data)), tag)


def _expect(part: tuple[int, bytes], tag: int) -> bytes:
    if part[0] != tag:
        raise ValueError(f"element {part[0]:#x} in place of {tag:#x}")
    return part[1]


def _time(tag: int, value: bytes) -> int:
    digits = value.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _TIME:
        raise ValueError(f"element {tag:#x} in place of a time")
    return int(datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
