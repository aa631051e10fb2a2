# SPDX-License-Identifier: Apache-2.0
"""Reads and verifies records of one shard file, for inspection: blocking calls, never on the loop.

Shows nothing of a volume's nonce (R2).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from drystone_core.crc import crc32c
from drystone_core.errors import Damaged
from drystone_core.extents import BLOCK, RECORD_ALIGN
from drystone_core.formats.blob_table import BlobEntry, decode_table
from drystone_core.formats.record import RecordHead, decode_head, head_length, looks_like_record, table_digest
from drystone_core.formats.shard import RECORDS_AT, SECTOR, ShardHeader, decode_shard_header
from drystone_core.ids import VolumeId
from drystone_core.ports import DiskFile
from drystone_core.stripes import HEAD_BYTES

_PROBE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReport:
    """One record as it was found."""

    offset: int
    head: RecordHead | None
    """None when the head does not verify."""
    entries: tuple[BlobEntry, ...]
    problem: str
    """Empty when head, table and payload verify."""


def read_at(file: DiskFile, offset: int, length: int) -> bytes:
    """Up to `length` bytes; fewer at the end of the file."""
    data = bytearray(length)
    return bytes(data[: file.preadv((memoryview(data),), offset)])


def read_header(file: DiskFile) -> ShardHeader:
    """Who this file is; Damaged when it is no shard file."""
    return decode_shard_header(read_at(file, 0, SECTOR))


def verify_record(
    file: DiskFile, *, nonce: bytes, volume: VolumeId, slot: int, offset: int, freed: bool = False
) -> RecordReport:
    """Head, table and every block of the payload (unless it was freed)."""
    first = read_at(file, offset, HEAD_BYTES)
    blocks = int.from_bytes(first[48:52], "little") if len(first) == HEAD_BYTES else 0
    data = read_at(file, offset, HEAD_BYTES + 4 * min(blocks, 4096))
    head = decode_head(data, nonce=nonce, volume=volume, slot=slot, offset=offset)
    if head is None:
        return RecordReport(offset=offset, head=None, entries=(), problem="no valid record header")
    table = read_at(file, offset + head_length(head.fragment_length), head.table_length)
    if table_digest(table, nonce) != head.table_digest:
        return RecordReport(offset=offset, head=head, entries=(), problem="the blob table does not verify")
    try:
        entries = tuple(decode_table(table, head.entries))
    except Damaged as error:
        return RecordReport(offset=offset, head=head, entries=(), problem=error.message)
    problem = "" if freed else _payload_problem(file, head)
    return RecordReport(offset=offset, head=head, entries=entries, problem=problem)


def records(file: DiskFile, header: ShardHeader) -> Iterator[RecordReport]:
    """Every record from the first on; where none verifies, the scan probes forward in steps of 4 KiB."""
    offset, end = RECORDS_AT, file.size()
    while offset < end:
        window = read_at(file, offset, min(_PROBE, end - offset))
        found = next((at for at in range(0, len(window), RECORD_ALIGN) if looks_like_record(window, at)), None)
        if found is None:
            offset += len(window) if len(window) else end
            continue
        report = verify_record(file, nonce=header.nonce, volume=header.volume, slot=header.slot, offset=offset + found)
        yield report
        offset += found + (report.head.span if report.head else RECORD_ALIGN)


def _payload_problem(file: DiskFile, head: RecordHead) -> str:
    bad = []
    for index, start in enumerate(range(0, head.stored_length, BLOCK)):
        length = min(BLOCK, head.stored_length - start)
        block = read_at(file, head.offset + head.payload_at + start, length)
        if len(block) < length or crc32c(block) != head.crcs[index]:
            bad.append(index)
    if not bad:
        return ""
    return f"{len(bad)} of {len(head.crcs)} blocks do not verify (first: block {bad[0]})"
