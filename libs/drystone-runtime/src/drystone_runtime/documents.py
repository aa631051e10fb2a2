# SPDX-License-Identifier: Apache-2.0
"""Small files that are read and replaced as a whole. Blocking calls: run them where a disk may be waited for."""

from drystone_core.ports import Disk

DOCUMENT_LIMIT = 1 << 20
"""Bytes; a longer file is no document of ours."""
TEMPORARY = ".new"
"""Appended to a document's name while it is being written."""


def read_document(disk: Disk, name: str) -> bytes:
    """The whole small file, opened by its path; OSError."""
    file = disk.open(name)
    try:
        size = min(file.size(), DOCUMENT_LIMIT)
        into = bytearray(size)
        return bytes(into[: file.preadv([memoryview(into)], 0)])
    finally:
        file.close()


def write_document(disk: Disk, name: str, data: bytes) -> None:
    """Replace the file atomically; durable on return."""
    temporary = name + TEMPORARY
    try:
        disk.unlink(temporary)
    except FileNotFoundError:
        pass
    file = disk.open(temporary, create=True, exclusive=True)
    try:
        file.pwritev([data], 0, durable=True)
    finally:
        file.close()
    disk.rename(temporary, name)
