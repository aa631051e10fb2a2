# SPDX-License-Identifier: Apache-2.0
"""Metadata rows and feed records: golden files of version 1, round trips, refusal of damage and of newer formats."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.errors import Damaged, Refused
from drystone_core.extents import BlobRef, PackedExtent, StripedExtent
from drystone_core.formats import feed, row_keys, row_parts, row_sections, rows, rowseal
from drystone_core.ids import (
    NULL_VERSION,
    BlobId,
    BucketId,
    ContentId,
    Key,
    Uid,
    UploadId,
    VersionId,
    VolumeId,
    WriteId,
)
from drystone_core.mutations import Outcome
from drystone_core.objects import Bucket, Checksum, ChecksumType, ObjectVersion, Part, Upload, Versioning

GOLDEN = Path(__file__).parent / "golden"
SMALL = BlobRef(BlobId(b"b" * 16), 4096, (PackedExtent(VolumeId(7), 8192, 640, 2, 64, 4096, 0xDEADBEEF),))
LARGE = BlobRef(BlobId(b"L" * 16), 1 << 24, (StripedExtent(VolumeId(8), 4096, 2 << 20, 2, 640, 2 << 20, 8 << 20),))
ORDER = row_keys.make_order(5, 3, b"randoms8")
KEY = Key("ключ/é".encode())
ADDRESS = row_keys.object_address(BucketId(77), KEY)
PART = Part(
    number=2,
    size=9,
    etag="0123456789abcdef" * 2,
    modified_ms=1_800_000_000_001,
    uid=Uid(b"p" * 16),
    checksum=Checksum("SHA256", "abc=", ChecksumType.COMPOSITE),
)
PLAIN = ObjectVersion(
    key=KEY,
    uid=Uid(b"u" * 16),
    version_id=NULL_VERSION,
    modified_ms=1_800_000_000_000,
    size=4096,
    etag="0123456789abcdef" * 2,
    headers={"content-type": "text/plain"},
    blobs=(SMALL,),
)
FULL = ObjectVersion(
    key=KEY,
    uid=Uid(b"U" * 16),
    version_id=VersionId(ORDER.hex()),
    modified_ms=1_800_000_000_000,
    size=1 << 40,
    etag="0123456789abcdef" * 2 + "-2",
    headers={"content-type": "text/plain", "expires": ""},
    metadata={"name": "Grüße", "n": "1"},
    storage_class="HOUSE",
    checksum=Checksum("NEWSUM", "v-2", ChecksumType.COMPOSITE),
    parts=(PART, PART),
    parts_count=2,
    blobs=(SMALL, LARGE),
    manifest=LARGE,
    content_id=ContentId(b"c" * 16),
    envelope=b"sealed",
    tags={"a": "b"},
)
MARKER = ObjectVersion(
    key=KEY, uid=Uid(ORDER), version_id=VersionId(ORDER.hex()), modified_ms=1_800_000_000_000, delete_marker=True
)
UPLOAD = Upload(
    key=KEY,
    upload_id=row_keys.make_upload_id(9, 1, b"randoms8"),
    initiated_ms=1_800_000_000_000,
    owner="123456789012",
    headers={"content-type": "x/y"},
    metadata={"m": "n"},
    storage_class="GLACIER",
    checksum_algorithm="CRC32C",
    checksum_type=ChecksumType.COMPOSITE,
    internal=True,
)
BUCKET = Bucket(
    bucket_id=BucketId(77),
    name="my-bucket",
    owner="123456789012",
    created_ms=1_800_000_000_000,
    region="us-east-1",
    generation=4,
    versioning=Versioning.SUSPENDED,
    config={"cors": b"<x>\0</x>"},
)
ENTRY = feed.FeedEntry(
    feed.Operation.PUT_OBJECT,
    BucketId(77),
    KEY,
    Uid(b"u" * 16),
    WriteId(b"w" * 24),
    feed.encode_outcome(Outcome(version_id=NULL_VERSION, modified_ms=5, etag="e")),
    [BlobId(b"1" * 16), BlobId(b"2" * 16)],
)


def written() -> dict[str, bytes]:
    """Every value, as encoded now."""
    current, version = row_keys.CURRENT, row_keys.VERSION
    upload = UploadId("ab" * 16)
    return {
        "row-object-plain-1.bin": rows.encode_object(current, ADDRESS, rows.StoredObject(PLAIN, ORDER, None)),
        "row-object-full-1.bin": rows.encode_object(version, ADDRESS, rows.StoredObject(FULL, ORDER, upload)),
        "row-marker-1.bin": rows.encode_object(current, ADDRESS, rows.StoredObject(MARKER, ORDER, None)),
        "row-part-1.bin": row_parts.encode_part(ADDRESS, b"s" * 18, PART),
        "row-upload-1.bin": row_parts.encode_upload(ADDRESS, UPLOAD),
        "row-bucket-1.bin": row_parts.encode_bucket(BUCKET),
        "row-place-1.bin": row_parts.encode_place(ADDRESS, Uid(b"u" * 16), row_parts.IN_VERSION, ORDER),
        "feed-record-1.bin": feed.encode_record(1_800_000_000_000, [ENTRY, ENTRY]),
    }


def test_bytes_of_version_one_do_not_change() -> None:
    """The golden files were written once; a change of bytes needs a new version, not new golden files."""
    for name, value in written().items():
        assert value == (GOLDEN / name).read_bytes(), name


def test_golden_metadata_decodes_to_what_was_written() -> None:
    """Readers of today read version 1."""
    golden = {name: (GOLDEN / name).read_bytes() for name in written()}
    stored = rows.decode_object(row_keys.CURRENT, ADDRESS, b"", golden["row-object-plain-1.bin"])
    assert stored == (PLAIN, ORDER, None)
    stored = rows.decode_object(row_keys.VERSION, ADDRESS, ORDER, golden["row-object-full-1.bin"])
    assert stored == (FULL, ORDER, "ab" * 16)
    assert rows.decode_object(row_keys.CURRENT, ADDRESS, b"", golden["row-marker-1.bin"]).version == MARKER
    assert row_parts.decode_part(ADDRESS, b"s" * 18, golden["row-part-1.bin"]) == PART
    upload_seq = bytes.fromhex(UPLOAD.upload_id)
    assert row_parts.decode_upload(ADDRESS, upload_seq, golden["row-upload-1.bin"]) == UPLOAD
    assert row_parts.decode_bucket(b"my-bucket", golden["row-bucket-1.bin"]) == BUCKET
    place = row_parts.decode_place(ADDRESS, Uid(b"u" * 16), golden["row-place-1.bin"])
    assert place == (row_parts.IN_VERSION, ORDER)
    assert feed.decode_record(golden["feed-record-1.bin"]) == (1_800_000_000_000, [ENTRY, ENTRY])


@given(st.integers(0), st.integers(0, 7))
def test_any_flipped_bit_of_a_row_is_damage(at: int, bit: int) -> None:
    """R11: no bit of a stored value can change unnoticed."""
    value = bytearray(rows.encode_object(row_keys.CURRENT, ADDRESS, rows.StoredObject(PLAIN, ORDER, None)))
    value[at % len(value)] ^= 1 << bit
    with pytest.raises(Damaged):
        rows.decode_object(row_keys.CURRENT, ADDRESS, b"", bytes(value))
    with pytest.raises(Damaged):
        rows.listed([((row_keys.CURRENT, ADDRESS, b""), bytes(value))], [])


@pytest.mark.parametrize("where", [(11, ADDRESS, b""), (10, ADDRESS + b"x", b""), (10, ADDRESS, b"x")])
def test_row_read_under_another_address_is_damage(where: tuple[int, bytes, bytes]) -> None:
    """R11: the checksum covers kind, key and seq."""
    value = rows.encode_object(row_keys.CURRENT, ADDRESS, rows.StoredObject(PLAIN, ORDER, None))
    with pytest.raises(Damaged):
        rowseal.unseal(*where, value)


def test_newer_rows_are_refused() -> None:
    """Unknown formats, must-flags and must-sections are refused; other unknown sections are skipped."""
    value = rows.encode_object(row_keys.CURRENT, ADDRESS, rows.StoredObject(PLAIN, ORDER, None))
    body = rowseal.unseal(row_keys.CURRENT, ADDRESS, b"", value)
    extra: list[bytes] = []
    row_sections.add_section(extra, 200, b"?")
    for newer in (b"\2" + body[1:], body[:1] + bytes([body[1] | 128]) + body[2:], body + b"".join(extra)):
        with pytest.raises(Damaged):
            sealed = rowseal.seal(row_keys.CURRENT, ADDRESS, b"", newer)
            rows.decode_object(row_keys.CURRENT, ADDRESS, b"", sealed)
    extra = []
    row_sections.add_section(extra, 100, b"?")
    sealed = rowseal.seal(row_keys.CURRENT, ADDRESS, b"", body + b"".join(extra))
    assert rows.decode_object(row_keys.CURRENT, ADDRESS, b"", sealed).version == PLAIN


def test_moved_row_keeps_its_body() -> None:
    """A version that becomes history or current again is sealed anew, not encoded anew."""
    value = rows.encode_object(row_keys.CURRENT, ADDRESS, rows.StoredObject(FULL, ORDER, None))
    history = rows.moved(value, kind=row_keys.VERSION, address=ADDRESS, seq=ORDER)
    assert rows.decode_object(row_keys.VERSION, ADDRESS, ORDER, history).version == FULL
    with pytest.raises(Damaged):
        rows.decode_object(row_keys.VERSION, ADDRESS, ORDER, value)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=4))
def test_text_maps_round_trip_or_are_refused(pairs: dict[str, str]) -> None:
    """Any text without NUL comes back; NUL is refused rather than misread."""
    if any("\0" in text for pair in pairs.items() for text in pair):
        with pytest.raises(Refused):
            row_sections.encode_map(pairs)
    elif pairs:
        assert row_sections.decode_map(row_sections.encode_map(pairs)) == pairs


@pytest.mark.parametrize("etag", ["", "abc", "0" * 31 + "G", "A" * 32, "0" * 32 + "-7", "x-1"])
def test_unusual_etags_come_back_as_they_were(etag: str) -> None:
    """What does not fit 16 raw bytes stands as text."""
    version = ObjectVersion(key=KEY, uid=Uid(b"u" * 16), version_id=NULL_VERSION, modified_ms=1, etag=etag)
    value = rows.encode_object(row_keys.CURRENT, ADDRESS, rows.StoredObject(version, ORDER, None))
    assert rows.decode_object(row_keys.CURRENT, ADDRESS, b"", value).version == version


def test_orders_and_upload_ids_sort_by_commit() -> None:
    """Newest version first, oldest upload first."""
    places = [(1, 0), (1, 1), (2, 0), (255, 0), (256, 3), (1 << 40, 0)]
    orders = [row_keys.make_order(*place, b"\xff" * 8) for place in places]
    uploads = [row_keys.make_upload_id(*place, b"\xff" * 8) for place in places]
    assert orders == sorted(orders, reverse=True) and uploads == sorted(uploads)
    assert row_keys.parse_version(orders[0].hex()) == orders[0]
    assert row_keys.parse_version("null") is None and row_keys.parse_version("AB" * 16) is None


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(),
        Outcome(version_id=VersionId("ab" * 16), delete_marker=True, modified_ms=7),
        Outcome(version_id=NULL_VERSION, modified_ms=7, upload_id=UploadId("cd" * 16), etag="e-2"),
    ],
)
def test_outcomes_round_trip(outcome: Outcome) -> None:
    """F2: what a repeat is answered with is what was answered."""
    assert feed.decode_outcome(feed.encode_outcome(outcome)) == outcome


def test_damaged_feed_record_is_noticed() -> None:
    """F3: a flipped bit or a cut record raises Damaged."""
    data = feed.encode_record(1, [ENTRY])
    for bad in (data[:-1], data[:3], data[:9] + bytes([data[9] ^ 1]) + data[10:]):
        with pytest.raises(Damaged):
            feed.decode_record(bad)
