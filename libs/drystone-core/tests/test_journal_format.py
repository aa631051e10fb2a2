# SPDX-License-Identifier: Apache-2.0
"""The journal format: golden bytes, round trips, and nothing but true records read back."""

from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone_core.errors import Damaged
from drystone_core.formats.journal import (
    BLOCK,
    GENESIS,
    RecordKind,
    SegmentHeader,
    decode_batch,
    decode_create,
    decode_number,
    decode_records,
    decode_segment,
    decode_term,
    encode_batch,
    encode_create,
    encode_number,
    encode_record,
    encode_segment,
    encode_term,
    record_size,
)
from drystone_core.ids import DiskId

GOLDEN = Path(__file__).parent / "golden" / "journal-segment-1.bin"
MEMBERS = (DiskId("0a" * 16), DiskId("0b" * 16))
HEADER = SegmentHeader(cluster=b"C" * 16, term=7, segment=2, nonce=b"n" * 16, members=MEMBERS)
ROWS = [((1, b"bucket--key", b""), b"value" * 30), ((3, b"", b"\x00\xff"), b"")]
BATCH = {
    "head": 41,
    "batch_id": b"i" * 16,
    "floor_us": 1_700_000_000_000_000,
    "generation": 3,
    "puts": ROWS,
    "deletes": [(2, b"gone", b"s")],
    "feed": b"feed record",
}


def records(*payloads: tuple[RecordKind, bytes], header: SegmentHeader = HEADER, previous: bytes = GENESIS) -> bytes:
    """A segment file of these records, indices from 100."""
    out = [encode_segment(header)]
    at = BLOCK
    for number, (kind, payload) in enumerate(payloads):
        block, previous = encode_record(
            kind=kind,
            term=header.term,
            index=100 + number,
            segment=header.segment,
            offset=at,
            nonce=header.nonce,
            previous=previous,
            payload=payload,
        )
        assert len(block) == record_size(len(payload)) and len(block) % BLOCK == 0
        out.append(block)
        at += len(block)
    return b"".join(out)


def golden() -> bytes:
    """Every kind of record once."""
    return records(
        (RecordKind.TERM, encode_term(MEMBERS, "start")),
        (RecordKind.CREATE, encode_create(low=b"a", high=b"z", generation=3)),
        (RecordKind.EPOCH, encode_number(5)),
        (RecordKind.BATCH, encode_batch(**BATCH)),
        (RecordKind.TRIM, encode_number(17)),
        (RecordKind.BATCH, encode_batch(**{**BATCH, "head": 42, "feed": b"f" * 5000})),
        (RecordKind.DROP, b""),
    )


def test_golden_segment_is_what_the_encoder_writes() -> None:
    """Format 1 is frozen: the encoder's bytes are those of the golden file."""
    assert golden() == GOLDEN.read_bytes()


def test_golden_segment_reads_back() -> None:
    """Every record of the golden file decodes to what was written, chained."""
    data = GOLDEN.read_bytes()
    header = decode_segment(data[:BLOCK])
    assert header == HEADER
    found = decode_records(data, header)
    assert [record.kind for record in found] == [1, 3, 5, 2, 6, 2, 4]
    assert [record.index for record in found] == list(range(100, 107))
    assert [record.previous for record in found] == [GENESIS] + [record.hash for record in found[:-1]]
    assert decode_term(found[0].payload) == (MEMBERS, "start")
    assert decode_create(found[1].payload) == (b"a", b"z", 3)
    assert decode_number(found[2].payload) == 5
    batch = decode_batch(found[3].payload)
    assert {name: getattr(batch, name) for name in BATCH} == BATCH


def test_any_flipped_bit_removes_exactly_its_record() -> None:
    """No flip is believed: the record it hits is gone, the others stay."""
    data = GOLDEN.read_bytes()
    whole = decode_records(data, HEADER)
    for bit in range(BLOCK * 8, len(data) * 8, 97):
        broken = bytearray(data)
        broken[bit >> 3] ^= 1 << (bit & 7)
        found = decode_records(bytes(broken), HEADER)
        assert all(record in whole for record in found) and len(found) >= len(whole) - 1
    for bit in range(0, 170 * 8, 7):
        broken = bytearray(data[:BLOCK])
        broken[bit >> 3] ^= 1 << (bit & 7)
        if bit < (66 + 32 + 16) * 8:
            assert decode_segment(bytes(broken)) is None


@given(cut=st.integers(0, 40_000))
def test_torn_end_is_no_record(cut: int) -> None:
    """A file cut anywhere yields the records that are whole, in order."""
    data = golden()[:cut]
    found = decode_records(data, HEADER)
    assert found == decode_records(golden(), HEADER)[: len(found)]
    assert all(record_size(len(record.payload)) for record in found)


def test_recycled_content_is_no_record() -> None:
    """What an earlier use of the file left, in the same places, is not read under the new header."""
    data = golden()
    for other in (
        SegmentHeader(cluster=b"C" * 16, term=7, segment=2, nonce=b"m" * 16, members=MEMBERS),
        SegmentHeader(cluster=b"C" * 16, term=8, segment=2, nonce=b"n" * 16, members=MEMBERS),
        SegmentHeader(cluster=b"C" * 16, term=7, segment=3, nonce=b"n" * 16, members=MEMBERS),
    ):
        assert decode_records(encode_segment(other) + data[BLOCK:], other) == []


def test_record_copied_to_another_place_is_no_record() -> None:
    """A misdirected write, or a value that holds a copy of a record, is not believed."""
    data = golden()
    moved = data[:BLOCK] + bytes(BLOCK) + data[BLOCK:]
    assert decode_records(moved, HEADER) == []
    inside = records((RecordKind.BATCH, encode_batch(**{**BATCH, "feed": data})))
    assert len(decode_records(inside, HEADER)) == 1


def test_newer_format_is_told() -> None:
    """A version this code does not know raises instead of reading as absent."""
    block = bytearray(encode_segment(HEADER))
    block[9] = 2
    size = 66 + 32
    block[size : size + 16] = blake2b(block[:size], digest_size=16).digest()
    with pytest.raises(Damaged):
        decode_segment(bytes(block))


@given(
    puts=st.lists(
        st.tuples(
            st.tuples(st.integers(0, 255), st.binary(max_size=60), st.binary(max_size=20)), st.binary(max_size=99)
        )
    ),
    deletes=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60), st.binary(max_size=20))),
    feed=st.binary(max_size=50),
    batch_id=st.binary(max_size=16),
)
def test_batches_round_trip(puts: list, deletes: list, feed: bytes, batch_id: bytes) -> None:
    """What is encoded decodes to the same batch; a shortened payload never does."""
    payload = encode_batch(head=1, batch_id=batch_id, floor_us=2, generation=3, puts=puts, deletes=deletes, feed=feed)
    batch = decode_batch(payload)
    assert (batch.puts, batch.deletes, batch.feed, batch.batch_id) == (puts, deletes, feed, batch_id)
    with pytest.raises(Damaged):
        decode_batch(payload + b"x")
    with pytest.raises(Damaged):
        decode_batch(payload[:-1])


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(golden())
