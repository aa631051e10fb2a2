# SPDX-License-Identifier: Apache-2.0
"""Bytes into blobs: receive, hash, store, and only then let them be named.

Invariants
  I1  What is returned is durable and was verified: length, SHA-256, Content-MD5, checksum and trailer all fit.
  I2  On any failure nothing is named: a writer that was begun is aborted, blobs already finished stay unnamed (or named
      by a registration that is dropped) and are reclaimed.
  I3  Every byte is hashed once by each algorithm needed, and a plain body is not copied in here.
  I4  A blob is never older than `long_put_seconds`, and what one piece takes to come, when it is first named: long
      bodies are cut there and registered (R7, registration.py). Parts are not: one that takes longer than the floor's
      distance (a day) is refused by the commit.
Paths  at most PACK_LIMIT bytes: hashed inline, one append.   Larger: pieces through a BlobWriter, hashed in helper
threads while the next bytes arrive.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from drystone_core.errors import ErrorCode, Refused
from drystone_core.extents import PACK_LIMIT, BlobRef
from drystone_core.formats.trailer import Trailer, encode_trailer
from drystone_core.objects import Checksum
from drystone_core.ports import Buffer
from drystone_core.services import BlobHeader, BlobWriter, SmallBlob
from drystone_gateway.operations.context import Gateway
from drystone_gateway.operations.hashing import BodyHashes
from drystone_gateway.operations.loans import Loan
from drystone_gateway.operations.naming import Naming
from drystone_gateway.operations.registration import Registration

NAME_BLOB = 2
"""BlobHeader.kind of a blob that only says that a name exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Durable, verified bytes that nothing names yet."""

    size: int
    etag: str
    checksum: Checksum
    blobs: tuple[BlobRef, ...]
    registered: Registration | None = None
    """What names the blobs until the object does, of a long PUT."""


class Source(Protocol):
    """Where bytes come from: a request's body, or another object."""

    size: int

    def at_once(self) -> Buffer | None: ...

    async def ready(self) -> None: ...

    async def receive(self, target: memoryview) -> int: ...

    def interrupt(self) -> None: ...

    async def finish(self) -> Mapping[str, str]: ...


async def ingest(gateway: Gateway, source: Source, hashes: BodyHashes, naming: Naming) -> Stored:
    """Store all of `source`. Refused when it is not what was promised; Busy and Unavailable from storage."""
    if source.size <= PACK_LIMIT:
        return await _ingest_small(gateway, source, hashes, naming)
    gateway.bodies.take()
    large = _LargeIngest(gateway, source, hashes, naming)
    try:
        return await large.run()
    except BaseException:
        await large.abandon()
        raise
    finally:
        gateway.bodies.give()


async def _ingest_small(gateway: Gateway, source: Source, hashes: BodyHashes, naming: Naming) -> Stored:
    data = source.at_once()
    if data is None:
        data = await _collect(gateway, source)
    size = len(data)
    if size != source.size:
        raise Refused(ErrorCode.INCOMPLETE_BODY)
    trailers = await source.finish()
    if size:
        hashes.update(data)
    checksum = hashes.verified(trailers)
    etag = hashes.etag()
    header = BlobHeader(
        bucket_id=naming.bucket_id,
        key=naming.key,
        uid=naming.uid,
        part=naming.part,
        kind=0 if size else NAME_BLOB,
        disk_class=naming.disk_class,
    )
    if not size and naming.part:
        return Stored(size=0, etag=etag, checksum=checksum, blobs=())
    trailer = _trailer(gateway, naming, size, etag, checksum)
    ref = await gateway.storage.append(SmallBlob(header=header, payload=data, trailer=trailer))
    return Stored(size=size, etag=etag, checksum=checksum, blobs=(ref,) if size else ())


async def _collect(gateway: Gateway, source: Source) -> Buffer:
    gateway.bodies.take()
    try:
        if source.size:
            await source.ready()
        whole = bytearray(source.size)
        count = await source.receive(memoryview(whole))
        if count != source.size:
            raise Refused(ErrorCode.INCOMPLETE_BODY)
        return whole
    finally:
        gateway.bodies.give()


def _trailer(gateway: Gateway, naming: Naming, size: int, etag: str, checksum: Checksum | None) -> bytes:
    return encode_trailer(
        Trailer(
            size=size,
            etag=etag,
            modified_ms=gateway.clock.wall_us() // 1000,
            storage_class=naming.storage_class,
            checksum=checksum,
            headers=naming.headers,
            metadata=naming.metadata,
        )
    )


class _LargeIngest:
    """One body of more than PACK_LIMIT bytes on its way into blobs."""

    __slots__ = (
        "_blobs",
        "_gateway",
        "_hashes",
        "_hashing",
        "_loan",
        "_naming",
        "_offset",
        "_registered",
        "_source",
        "_writer",
    )

    def __init__(self, gateway: Gateway, source: Source, hashes: BodyHashes, naming: Naming) -> None:
        self._gateway = gateway
        self._source = source
        self._hashes = hashes
        self._naming = naming
        self._writer: BlobWriter | None = None
        self._hashing: Awaitable[None] | None = None
        self._blobs: list[BlobRef] = []
        self._offset = 0
        self._registered: Registration | None = None
        self._loan = Loan(loop=asyncio.get_running_loop(), contended=self._contended)

    async def run(self) -> Stored:
        gateway, source, hashes = self._gateway, self._source, self._hashes
        cut_after = gateway.settings.long_put_seconds
        size, at = source.size, 0
        writer = self._begin(at)
        begun = gateway.clock.monotonic()
        while at < size:
            await source.ready()
            space = await writer.space()
            length = await self._fill(space, min(len(space), size - at))
            await writer.write(length)
            at += length
            if at < size and not self._naming.part and gateway.clock.monotonic() - begun > cut_after:
                await self._register(at)
                writer = self._begin(at)
                begun = gateway.clock.monotonic()
        self._loan.begin(writer.let_go)
        trailers = await source.finish()
        self._loan.stop()
        checksum = hashes.verified(trailers)
        etag = hashes.etag()
        ref = await writer.finish(_trailer(gateway, self._naming, size, etag, checksum))
        self._writer = None
        self._blobs.append(ref)
        return Stored(size=size, etag=etag, checksum=checksum, blobs=tuple(self._blobs), registered=self._registered)

    async def abandon(self) -> None:
        """Leave nothing behind that could be named."""
        self._loan.stop()
        hashing, self._hashing = self._hashing, None
        if hashing is not None:
            try:
                await hashing
            except Exception:  # the failure that brought us here is the one to report
                pass
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()
        if self._registered is not None:
            await self._registered.drop()

    def _begin(self, at: int) -> BlobWriter:
        naming = self._naming
        header = BlobHeader(
            bucket_id=naming.bucket_id,
            key=naming.key,
            uid=naming.uid,
            part=naming.part,
            offset=at,
            disk_class=naming.disk_class,
        )
        self._offset = at
        self._writer = writer = self._gateway.storage.writer(header, expected=self._source.size - at)
        return writer

    def _contended(self) -> bool:
        writer = self._writer
        return writer is not None and writer.contended()

    async def _fill(self, space: memoryview, length: int) -> int:
        """Receive up to `length` bytes into `space`: fewer when the loan is over. All are hashed when it returns.

        While a slice is being hashed the next bytes arrive; what came meanwhile becomes the next slice.
        """
        source, update, loan = self._source, self._hashes.update, self._loan
        submit, least = self._gateway.hashing.submit, self._gateway.settings.hash_slice
        hashed = at = 0
        loan.begin(source.interrupt)
        while at < length and not (loan.over and at):
            count = await source.receive(space[at : min(at + least, length)])
            if not count:
                if not loan.over:
                    raise Refused(ErrorCode.INCOMPLETE_BODY)
                if not at:  # framing alone has come
                    loan.begin(source.interrupt)
                    continue
            at += count
            loan.filled = at
            hashing = self._hashing
            if hashing is not None and (at == length or loan.over or _done(hashing)):
                await hashing
                hashing = self._hashing = None
            if hashing is None and hashed < at:
                self._hashing = submit(partial(update, space[hashed:at]))
                hashed = at
        last = self._hashing
        if last is not None:
            await last
            self._hashing = None
        loan.end()
        return at

    async def _register(self, at: int) -> None:
        """Finish the blob so far and name it by an internal upload of the same key (R7)."""
        gateway, naming, writer = self._gateway, self._naming, self._writer
        assert writer is not None
        ref = await writer.finish(_trailer(gateway, naming, at - self._offset, "", None))
        self._writer = None
        self._blobs.append(ref)
        if self._registered is None:
            self._registered = await gateway.renewals.register(gateway.metadata, naming)
        await self._registered.add(ref)


def _done(awaitable: Awaitable[None]) -> bool:
    done = getattr(awaitable, "done", None)
    return bool(done is None or done())
