# SPDX-License-Identifier: Apache-2.0
"""CRC32C of stored bytes: whole buffers and the 64 KiB blocks of a fragment.

Block i of a fragment covers bytes [i * BLOCK, min((i + 1) * BLOCK, stored length)); bytes beyond the stored length are
zeros by definition and have no checksum. CRC32C (Castagnoli) as in RFC 3720; awscrt runs it at ~50 GB/s.
"""

from collections.abc import Callable

import awscrt.checksums  # type: ignore[import-untyped]

from drystone_core.extents import BLOCK
from drystone_core.ports import Buffer

crc32c: Callable[..., int] = awscrt.checksums.crc32c
"""(data, previous=0) → CRC32C of `data`, continuing from `previous`. Called directly: it is on every path."""


def block_crcs(data: Buffer) -> list[int]:
    """One CRC32C per BLOCK bytes of `data`, the last block may be short."""
    size = len(data)
    if size <= BLOCK:
        return [crc32c(data)] if size else []
    view = memoryview(data)
    return [crc32c(view[at : at + BLOCK]) for at in range(0, size, BLOCK)]
