# SPDX-License-Identifier: Apache-2.0
"""`drystone-fences.json`: the greatest fencing token a storage node has seen of each election. Pure.

Format    docs/formats/fences.md (v1), a sealed JSON document (sealed_json).
"""

from collections.abc import Mapping

from drystone_core.formats.sealed_json import open_json, seal_json
from drystone_core.ids import ClusterId
from drystone_core.ports import Buffer

NAME = "drystone-fences.json"
KIND = "drystone fences"
VERSION = 1


def encode_fences(cell: ClusterId, tokens: Mapping[str, int]) -> bytes:
    """The file's bytes; `tokens` by election."""
    return seal_json(KIND, VERSION, {"cluster_id": cell, "tokens": dict(tokens)})


def decode_fences(data: Buffer, cell: ClusterId) -> dict[str, int]:
    """The tokens by election; ValueError with a reason when it is none of this cell's."""
    found = open_json(data, KIND, VERSION)
    if found.get("cluster_id") != cell:
        raise ValueError(f"is of cluster {found.get('cluster_id')!r}")
    tokens = found.get("tokens")
    if not isinstance(tokens, dict) or not all(type(token) is int and token >= 0 for token in tokens.values()):
        raise ValueError("names no tokens")
    return tokens
