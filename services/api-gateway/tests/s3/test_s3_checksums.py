# SPDX-License-Identifier: Apache-2.0
"""Checksums: known values, composites, combination, and how requests name them (s3-surface §5 #15, #25, #48)."""

import base64
import hashlib
import zlib

import pytest
from awscrt import checksums as crt
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_core.objects import Checksum, ChecksumType
from drystone_gateway.s3 import checksums

CHECK = b"123456789"
KNOWN = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "SHA1": hashlib.sha1(CHECK).hexdigest(),
    "SHA256": hashlib.sha256(CHECK).hexdigest(),
    "SHA512": hashlib.sha512(CHECK).hexdigest(),
    "MD5": hashlib.md5(CHECK).hexdigest(),
    "XXHASH64": crt.XXHash.compute_xxhash64(CHECK).hex(),
    "XXHASH3": crt.XXHash.compute_xxhash3_64(CHECK).hex(),
    "XXHASH128": crt.XXHash.compute_xxhash3_128(CHECK).hex(),
}


@pytest.mark.parametrize("name", sorted(checksums.ALGORITHMS))
def test_every_algorithm_gives_its_published_value_piece_by_piece(name):
    """Check values of the CRC catalogue, hashlib and a second XXHash; sizes and incremental use agree."""
    hasher = checksums.ALGORITHMS[name].new()
    hasher.update(memoryview(CHECK)[:4])
    hasher.update(CHECK[4:])
    assert hasher.digest().hex() == KNOWN[name]
    assert len(hasher.digest()) == checksums.ALGORITHMS[name].size


def test_xxhash_of_nothing_is_the_published_constant():
    """XXH3-64 and XXH64 of the empty string, from the xxHash specification."""
    assert checksums.ALGORITHMS["XXHASH3"].new().digest().hex() == "2d06800538d394c2"
    assert checksums.ALGORITHMS["XXHASH64"].new().digest().hex() == "ef46db3751d8e999"


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=6))
def test_pitfall_48_full_object_crcs_combine_to_the_crc_of_the_whole(parts):
    """Combining part CRCs gives the CRC of the concatenation, for empty parts too."""
    for name in ("CRC32", "CRC32C", "CRC64NVME"):
        pairs = []
        for part in parts:
            hasher = checksums.ALGORITHMS[name].new()
            hasher.update(part)
            pairs.append((checksums.encode(hasher.digest()), len(part)))
        whole = checksums.ALGORITHMS[name].new()
        whole.update(b"".join(parts))
        assert checksums.full_object(name, pairs) == Checksum(name, checksums.encode(whole.digest()))


def test_pitfall_48_composites_hash_the_raw_sums_and_count_them():
    """COMPOSITE is base64(H(raw sums))-N, also for one part."""
    sums = [base64.b64encode(zlib.crc32(part).to_bytes(4, "big")).decode() for part in (b"a", b"b")]
    raw = b"".join(base64.b64decode(value) for value in sums)
    expected = base64.b64encode(zlib.crc32(raw).to_bytes(4, "big")).decode() + "-2"
    assert checksums.composite("CRC32", sums) == Checksum("CRC32", expected, ChecksumType.COMPOSITE)
    assert checksums.composite("SHA256", [base64.b64encode(bytes(32)).decode()]).value.endswith("-1")


def test_pitfall_25_multipart_etags_count_even_one_part():
    """md5(binary md5s)-N for N = 1 too."""
    md5 = hashlib.md5(b"a").hexdigest()
    assert checksums.multipart_etag([md5]) == hashlib.md5(bytes.fromhex(md5)).hexdigest() + "-1"


def code_of(call, *args):
    with pytest.raises(Refused) as refused:
        call(*args)
    return refused.value.code


GOOD = base64.b64encode(bytes(4)).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-checksum-crc32": GOOD, "x-amz-checksum-crc32c": GOOD},
        {"x-amz-checksum-crc32": GOOD, "x-amz-trailer": "x-amz-checksum-crc32c"},
        {"x-amz-trailer": "x-amz-checksum-crc32, x-amz-checksum-sha1"},
        {"x-amz-checksum-crc99": GOOD},
        {"x-amz-trailer": "x-amz-checksum-crc99"},
        {"x-amz-checksum-crc32": "AAAA"},
        {"x-amz-checksum-crc32": "!!!!!!=="},
        {"x-amz-checksum-crc32": ""},
        {"x-amz-sdk-checksum-algorithm": "CRC32"},
        {"x-amz-sdk-checksum-algorithm": "CRC99", "x-amz-checksum-crc32": GOOD},
        {"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": GOOD},
    ],
)
def test_pitfall_48_a_request_names_one_well_formed_checksum(headers):
    """Two checksums, unknown ones, malformed values and disagreement are InvalidRequest."""
    assert code_of(checksums.requested_checksum, headers) is ErrorCode.INVALID_REQUEST


def test_requested_checksums_are_verified():
    """A header's or trailer's value is compared with the digest: BadDigest when it differs."""
    found = checksums.requested_checksum({"x-amz-checksum-crc32": GOOD, "x-amz-sdk-checksum-algorithm": "crc32"})
    found.verify(bytes(4))
    assert code_of(found.verify, b"1234") is ErrorCode.BAD_DIGEST
    trailing = checksums.requested_checksum({"x-amz-trailer": "X-Amz-Checksum-Crc32"})
    assert trailing.trailer == "x-amz-checksum-crc32"
    trailing.with_trailers({"x-amz-checksum-crc32": GOOD}).verify(bytes(4))
    assert code_of(trailing.with_trailers, {}) is ErrorCode.INVALID_REQUEST
    assert checksums.requested_checksum({"x-amz-checksum-mode": "ENABLED"}) is None


def test_pitfall_15_content_md5_is_checked_for_form():
    """Malformed Content-MD5 is InvalidDigest; absent is None."""
    md5 = hashlib.md5(b"x").digest()
    assert checksums.content_md5({"content-md5": base64.b64encode(md5).decode()}) == md5
    assert checksums.content_md5({}) is None
    for text in ("", "abc", base64.b64encode(md5[:15]).decode(), md5.hex(), "\xff"):
        assert code_of(checksums.content_md5, {"content-md5": text}) is ErrorCode.INVALID_DIGEST


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("", "", ("", "FULL_OBJECT")),
        ("crc32", "", ("CRC32", "COMPOSITE")),
        ("CRC32C", "FULL_OBJECT", ("CRC32C", "FULL_OBJECT")),
        ("CRC64NVME", "", ("CRC64NVME", "FULL_OBJECT")),
        ("CRC64NVME", "COMPOSITE", None),
        ("SHA256", "", ("SHA256", "COMPOSITE")),
        ("SHA1", "FULL_OBJECT", None),
        ("CRC99", "", None),
        ("CRC32", "PARTIAL", None),
        ("", "COMPOSITE", None),
    ],
)
def test_pitfall_48_algorithm_and_type_are_fixed_at_create(name, kind, expected):
    """Which type each algorithm allows, and its default."""
    headers = {}
    if name:
        headers["x-amz-checksum-algorithm"] = name
    if kind:
        headers["x-amz-checksum-type"] = kind
    if expected is None:
        assert code_of(checksums.upload_checksum, headers) is ErrorCode.INVALID_REQUEST
    else:
        assert checksums.upload_checksum(headers) == expected
