# SPDX-License-Identifier: Apache-2.0
"""Formats on disks: golden files of version 1, round trips, and refusal of anything damaged, moved or newer."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.extents import BlobRef, PackedExtent, StripedExtent
from drystone_core.formats import blob_table, close_flag, disk_identity, free_map, manifest, record, shard, trailer
from drystone_core.formats import extents as extent_format
from drystone_core.ids import BlobId, BucketId, ClusterId, DiskId, Key, Uid, VolumeId
from drystone_core.objects import Checksum, ChecksumType, Part
from drystone_core.profiles import Profile
from drystone_core.stripes import geometry

GOLDEN = Path(__file__).parent / "golden"
NONCE = bytes(range(16))
VOLUME = VolumeId(0x1122334455667788)
HEADER = shard.ShardHeader(volume=VOLUME, slot=3, profile=Profile(4, 2), nonce=NONCE)
FLAG = close_flag.CloseFlag(volume=VOLUME, slot=3, stamp_us=1_700_000_000_000_000, end=1 << 30)
IDENTITY = disk_identity.DiskIdentity(
    cluster_id=ClusterId("ab" * 16),
    disk_id=DiskId("01" * 16),
    disk_class="ssd",
    created="2026-01-02T03:04:05Z",
    profile=Profile(4, 2),
    mounted=True,
)
PACKED = PackedExtent(VOLUME, 8192, 512, 2, 64, 4096, 0xDEADBEEF)
RUN = StripedExtent(VOLUME, 1 << 20, 2 << 20, 7, 4096, 2 << 20, 8 << 20)
SMALL = BlobRef(BlobId(b"b" * 16), 4096, (PACKED,))
LARGE = BlobRef(BlobId(b"c" * 16), 7 * (8 << 20) + 4096, (RUN, PACKED))
ENTRIES = [
    blob_table.BlobEntry(0, 3, 1, 64, 100, 20, 7, BlobId(b"x" * 16), BucketId(9), Key(b"a/b"), Uid(b"u" * 16), 0, 0),
    blob_table.BlobEntry(2, 1, 0, 0, 0, 9, 0, BlobId(b"y" * 16), BucketId(9), Key("é".encode()), Uid(b"v" * 16), 5, 8),
]
TABLE = b"".join(map(blob_table.encode_entry, ENTRIES))
SHAPE = geometry(fragment_length=131072 + 64, table_length=len(TABLE), page_aligned=False)
FREE = free_map.FreeMap(volume=VOLUME, slot=3, generation=5, records=frozenset({8192, 1 << 30, 20480}))
TRAILER = trailer.Trailer(
    size=4096,
    etag="0" * 32,
    modified_ms=1_700_000_000_000,
    storage_class="STANDARD_IA",
    checksum=Checksum("CRC64NVME", "AAAAAAAAAAA=", ChecksumType.FULL_OBJECT),
    headers={"content-type": "text/plain"},
    metadata={"colour": "grün"},
    tags={"a": "b"},
    content_id=b"i" * 16,
    envelope=b"sealed",
)
PARTS = [
    Part(
        number=number,
        size=5 << 20,
        etag=f"{number:032x}",
        modified_ms=number,
        uid=Uid(bytes([number]) * 16),
        checksum=Checksum("CRC32C", "AAAAAA==", ChecksumType.COMPOSITE) if number % 2 else None,
        blobs=(SMALL, LARGE),
    )
    for number in (1, 2, 5)
]


def head(offset: int = 8192, slot: int = 3) -> bytes:
    """A record's head and block CRCs."""
    return record.HeadEncoder(
        volume=VOLUME,
        k=4,
        m=2,
        nonce=NONCE,
        offset=offset,
        sequence=77,
        shape=SHAPE,
        table_length=len(TABLE),
        entries=2,
        digest=record.table_digest(TABLE, NONCE),
        piece=False,
    ).encode(slot, 70000, [1, 2])


GOLDENS = {
    "disk-identity-1.json": lambda: disk_identity.encode_identity(IDENTITY),
    "shard-header-1.bin": lambda: shard.encode_shard_header(HEADER)[:64],
    "close-flag-1.bin": lambda: close_flag.encode_close_flag(FLAG, NONCE)[:64],
    "record-head-1.bin": head,
    "blob-table-1.bin": lambda: TABLE,
    "blob-packed-1.bin": lambda: extent_format.encode_blob(SMALL),
    "blob-list-1.bin": lambda: extent_format.encode_blob(LARGE),
    "free-map-1.bin": lambda: free_map.encode_free_map(FREE, NONCE),
    "trailer-1.bin": lambda: trailer.encode_trailer(TRAILER),
    "manifest-1.bin": lambda: manifest.encode_manifest(PARTS)[:60] + manifest.encode_manifest(PARTS)[manifest.PAGE :],
}


@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_bytes_written_today_equal_version_1(name: str) -> None:
    """The golden file was written once; a change of bytes needs a new version, not a new golden file."""
    assert GOLDENS[name]() == (GOLDEN / name).read_bytes()


def test_golden_files_decode_to_what_was_written() -> None:
    """A reader of today understands version 1."""

    def golden(name: str) -> bytes:
        return (GOLDEN / name).read_bytes()

    assert disk_identity.decode_identity(golden("disk-identity-1.json")) == IDENTITY
    assert shard.decode_shard_header(golden("shard-header-1.bin")) == HEADER
    assert close_flag.decode_close_flag(golden("close-flag-1.bin"), NONCE) == FLAG
    assert blob_table.decode_table(golden("blob-table-1.bin"), 2) == ENTRIES
    assert extent_format.decode_blob(golden("blob-packed-1.bin")) == (SMALL, 46)
    assert extent_format.decode_blob(golden("blob-list-1.bin"))[0] == LARGE
    assert free_map.decode_free_map(golden("free-map-1.bin"), NONCE, volume=VOLUME, slot=3) == FREE
    assert trailer.decode_trailer(golden("trailer-1.bin")) == TRAILER
    assert manifest.decode_page(golden("manifest-1.bin")[60:]) == PARTS
    found = record.decode_head(golden("record-head-1.bin"), nonce=NONCE, volume=VOLUME, slot=3, offset=8192)
    assert found is not None
    assert (found.sequence, found.stored_length, found.entries, list(found.crcs)) == (77, 70000, 2, [1, 2, 0])
    assert (found.payload_at, found.span) == (SHAPE.payload_at, SHAPE.span)


def test_head_is_refused_anywhere_but_in_its_own_place() -> None:
    """R2: another volume, slot, offset or nonce; and any flipped bit."""
    good = head()
    place = {"nonce": NONCE, "volume": VOLUME, "slot": 3, "offset": 8192}
    assert record.decode_head(good, **place) is not None
    for change in ({"nonce": bytes(16)}, {"volume": VolumeId(1)}, {"slot": 2}, {"offset": 4096}):
        assert record.decode_head(good, **{**place, **change}) is None
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit >> 3] ^= 1 << (bit & 7)
        assert record.decode_head(bad, **place) is None
    for size in range(len(good)):
        assert record.decode_head(good[:size], **place) is None


@pytest.mark.parametrize(
    ("data", "decode"),
    [
        (shard.encode_shard_header(HEADER)[:48], shard.decode_shard_header),
        (trailer.encode_trailer(TRAILER), trailer.decode_trailer),
        (manifest.encode_manifest(PARTS)[: 20 + 24 + 16], manifest.decode_index),
        (manifest.encode_manifest(PARTS)[manifest.PAGE :], manifest.decode_page),
    ],
)
def test_any_flipped_bit_is_damaged(data: bytes, decode) -> None:  # type: ignore[no-untyped-def]
    """Never another value, never another exception."""
    good = decode(data)
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit >> 3] ^= 1 << (bit & 7)
        try:
            assert decode(bytes(bad)) == good
        except Damaged:
            continue
    for size in range(len(data) - 4):
        with pytest.raises(Damaged):
            decode(data[:size])


def test_newer_versions_and_unknown_flags_are_refused() -> None:
    """Must-understand: a reader that does not know a flag does not guess."""
    for at in (8, 10):
        body = bytearray(shard.encode_shard_header(HEADER)[:44])
        body[at] = 9
        size = struct.calcsize("<8sHHQBBBB16s")
        with pytest.raises(Damaged, match="later version"):
            shard.decode_shard_header(bytes(body[:size]) + struct.pack("<I", crc32c(bytes(body[:size]))) + bytes(8))
    with pytest.raises(Damaged):
        disk_identity.decode_identity(disk_identity.encode_identity(IDENTITY).replace(b'"format": 1', b'"format": 2'))
    for kind in (0, 3, 4, 255):
        with pytest.raises(Damaged, match="unknown kind"):
            extent_format.decode_blob(bytes([kind]) + extent_format.encode_blob(SMALL)[1:])


@pytest.mark.parametrize(
    "change", [{"cluster_id": "AB" * 16}, {"disk_id": 5}, {"mounted": "yes"}, {"profile": "rs-99-1"}, {"class": None}]
)
def test_identity_with_a_wrong_field_is_refused(change: dict) -> None:  # type: ignore[type-arg]
    """Each field is checked, by name."""
    document = json.loads(disk_identity.encode_identity(IDENTITY)) | change
    with pytest.raises(Damaged, match=next(iter(change))):
        disk_identity.decode_identity(json.dumps(document).encode())


def test_any_nonzero_close_sector_is_closed() -> None:
    """Fail safe: only zeros mean open."""
    assert not close_flag.is_closed(bytes(4096))
    sector = bytearray(close_flag.encode_close_flag(FLAG, NONCE))
    assert close_flag.is_closed(sector)
    sector[50] ^= 1
    assert close_flag.is_closed(sector) and close_flag.decode_close_flag(sector, NONCE) is None


def test_free_map_keeps_the_previous_generation_when_one_is_torn() -> None:
    """Two copies in turns; the newest whole one counts."""
    older = free_map.FreeMap(volume=VOLUME, slot=3, generation=4, records=frozenset({8192}))
    assert free_map.copy_offset(4) != free_map.copy_offset(5)
    torn = bytearray(free_map.encode_free_map(FREE, NONCE))
    torn[-1] ^= 1
    place = {"volume": VOLUME, "slot": 3}
    copies = [free_map.decode_free_map(each, NONCE, **place) for each in (free_map.encode_free_map(older, NONCE), torn)]
    assert free_map.newest(copies) == older
    assert free_map.decode_free_map(free_map.encode_free_map(FREE, NONCE), NONCE, volume=VOLUME, slot=2) is None


packed = st.builds(
    PackedExtent,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**31).map(lambda v: v * 4096),
    st.integers(0, 2**32 - 1),
    st.integers(0, 27),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
striped = st.builds(
    StripedExtent,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**31).map(lambda v: v * 4096),
    st.integers(0, 2**31).map(lambda v: v * 4096),
    st.integers(1, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**32 - 1),
    st.integers(1, 2**32 - 1),
)
refs = st.builds(
    BlobRef,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**63),
    st.lists(packed | striped, max_size=4).map(tuple),
)


@given(st.lists(refs, max_size=5), st.binary(max_size=5))
def test_blob_references_round_trip(blobs: list[BlobRef], tail: bytes) -> None:
    """Any list, from any position, and the next position is told."""
    data = extent_format.encode_blobs(blobs)
    assert extent_format.decode_blobs(b"pad" + data + tail, 3) == (tuple(blobs), 3 + len(data))
    for size in range(0, len(data), 7):
        with pytest.raises(Damaged):
            extent_format.decode_blobs(data[:size])


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), max_size=300), st.data())
def test_any_range_of_a_manifest_needs_the_index_and_its_pages(sizes: list[int], data: st.DataObject) -> None:
    """The pages the index names hold exactly the parts that cover the range; checked against the list."""
    blobs = tuple(LARGE for _ in range(40))
    parts = [
        Part(number=2 * place + 1, size=size, etag="00" * 16, modified_ms=0, uid=Uid(bytes(16)), blobs=blobs)
        for place, size in enumerate(sizes)
    ]
    encoded = manifest.encode_manifest(parts)
    assert manifest.decode_manifest(encoded) == parts
    index = manifest.decode_index(encoded[: manifest.PAGE])
    assert (index.size, index.parts, index.length) == (sum(sizes), len(sizes), len(encoded))
    if not parts:
        return
    start = data.draw(st.integers(0, sum(sizes) - 1))
    length = data.draw(st.integers(1, sum(sizes) - start))
    pages = index.pages_for(start, length)
    held: list[Part] = []
    for page in pages:
        low, size = index.place(page)
        held += manifest.decode_page(encoded[low : low + size])
    begin = index.offsets[pages[0]]
    assert begin <= start and begin + sum(part.size for part in held) >= start + length
    place = data.draw(st.integers(0, len(parts) - 1))
    page = index.page_for_part(parts[place].number)
    assert page is not None
    low, size = index.place(page)
    assert parts[place] in manifest.decode_page(encoded[low : low + size])


def test_one_byte_of_ten_thousand_parts_is_two_reads() -> None:
    """The index and one page."""
    parts = [
        Part(number=number, size=5 << 20, etag="00" * 16, modified_ms=0, uid=Uid(bytes(16)), blobs=(LARGE,))
        for number in range(1, 10_001)
    ]
    index = manifest.decode_index(manifest.encode_manifest(parts)[: manifest.PAGE])
    assert index.pages > 10
    assert all(len(index.pages_for(at * (5 << 20), 1)) == 1 for at in range(0, 10_000, 97))


def test_shard_names_round_trip_and_others_are_not_shards() -> None:
    """Sidecars and temporary files beside shard files are not taken for them."""
    assert shard.parse_shard_name(shard.shard_name(VOLUME, 3)) == (VOLUME, 3)
    for name in ("volumes/1122334455667788.3.new", "1122334455667788.3.free", "x.1", "112233445566778g.1", "1" * 16):
        assert shard.parse_shard_name(name) is None
