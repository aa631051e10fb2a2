# SPDX-License-Identifier: Apache-2.0
"""Write ids: what makes a client's retry recognisable to whoever decides it.

A client that sends `amz-sdk-invocation-id` gets ids derived from it, equal for every attempt of one call; others get
random ones. The issue time is always now. One call may make several mutations (DeleteObjects, a long PUT): `step`
tells them apart. The header may be unsigned, as botocore leaves it: docs/adr/0303-unsigned-retry-identity.md.
"""

from hashlib import blake2b

from drystone_core.ids import WriteId, make_write_id
from drystone_core.ports import Clock, Entropy


class WriteIds:
    """The ids of one call."""

    __slots__ = ("_clock", "_entropy", "_identity")

    def __init__(self, *, clock: Clock, entropy: Entropy, identity: bytes) -> None:
        self._clock = clock
        self._entropy = entropy
        self._identity = identity
        """Empty: random ids."""

    def make(self, step: bytes = b"") -> WriteId:
        """The id of this call's mutation `step`."""
        identity = self._identity
        if not identity:
            return make_write_id(self._clock.wall_us(), self._entropy.token(16))
        if step:
            identity = blake2b(step, digest_size=16, key=identity).digest()
        return make_write_id(self._clock.wall_us(), identity)


def retry_identity(*, invocation: str, access_key: str, method: str, path: str, query: str, payload_hash: str) -> bytes:
    """16 bytes equal for every attempt of one client call; empty when the client names no call."""
    if not invocation:
        return b""
    text = "\0".join((access_key, invocation, method, path, payload_hash, query))
    return blake2b(text.encode("latin-1", "replace"), digest_size=16, person=b"drystone-write").digest()
