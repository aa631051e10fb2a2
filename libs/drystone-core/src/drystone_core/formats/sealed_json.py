# SPDX-License-Identifier: Apache-2.0
"""JSON documents that prove themselves: `kind`, `format` and a `check` over the rest. Pure.

Format    JSON with a `check` member, the SHA-256 of the others as canonical JSON (sorted keys, no spaces, ASCII).
Invariants
  I1  A document that does not verify is never taken for one that says something else.
  I2  A later format version is refused with its number, never guessed at.
"""

import hashlib
import json
from typing import Any

from drystone_core.ports import Buffer


def seal_json(kind: str, version: int, members: dict[str, Any]) -> bytes:
    """The file's bytes."""
    document = {"format": version, "kind": kind, **members}
    return (json.dumps({**document, "check": _digest(document)}, indent=1, ensure_ascii=True) + "\n").encode()


def open_json(data: Buffer, kind: str, version: int) -> dict[str, Any]:
    """The members; ValueError with a reason when it is none (I1, I2)."""
    try:
        found = json.loads(bytes(data))
    except ValueError as error:
        raise ValueError("not a JSON document") from error
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise ValueError(f"not a document of kind {kind!r}")
    said = found.get("format")
    if said != version:
        raise ValueError(f"is of format version {said!r}, this release reads {version}: use the release that wrote it")
    check = found.pop("check", None)
    if check != _digest(found):
        raise ValueError("its checksum does not fit: the file was damaged or edited")
    return found


def _digest(members: dict[str, Any]) -> str:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
