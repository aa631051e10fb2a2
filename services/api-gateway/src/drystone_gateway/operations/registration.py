# SPDX-License-Identifier: Apache-2.0
"""What names the blobs of a long PUT before its object does: an internal upload, renewed while the PUT lives.

A blob that stays unnamed beyond the floor's distance (a day) may be reclaimed (R7), so a PUT that takes long has each
finished blob named by an upload nobody sees. The commit that names the object removes it. When this process dies nobody
does: the metadata service ends internal uploads that were not renewed for hours.

Invariants
  N1  A registration is renewed every `renew_seconds` as long as the operation it belongs to holds it, whether bytes come
      or not, and no longer: the set of the living is weak, so that no path out of an operation can forget to leave it.
  N2  A renewal puts part 1 again as it is: rows say that the writer lives, and nothing else changes.
  N3  A registration that ended (its bucket is gone, or no renewal came through for hours) fails the PUT when it names the
      next blob; an object can still be named as long as all its blobs are above the floor, which the commit decides.
"""

import logging
from weakref import WeakSet

from drystone_core.errors import DrystoneError, ErrorCode, Refused, Unavailable
from drystone_core.extents import BlobRef
from drystone_core.ids import UploadId, WriteId, make_write_id
from drystone_core.mutations import AbortUpload, CreateUpload, PutPart
from drystone_core.objects import Part
from drystone_core.ports import Clock, Entropy
from drystone_core.services import MetadataService
from drystone_gateway.operations.naming import Naming

log = logging.getLogger(__name__)


class Renewals:
    """Makes registrations and renews the living ones. Keep `run()` running."""

    def __init__(self, *, clock: Clock, entropy: Entropy, every: float) -> None:
        """`every`: seconds between two renewals of each."""
        self._clock = clock
        self._entropy = entropy
        self._every = every
        self._living: WeakSet[Registration] = WeakSet()

    async def register(self, metadata: MetadataService, naming: Naming) -> "Registration":
        """A new one without blobs. Refused (NoSuchBucket), Busy and Unavailable as mutations are."""
        outcome = await metadata.mutate(
            CreateUpload(
                write_id=self.write_id(),
                bucket=naming.bucket,
                key=naming.key,
                owner=naming.owner,
                headers=naming.headers,
                metadata=naming.metadata,
                storage_class=naming.storage_class,
                internal=True,
                bucket_id=naming.bucket_id,
            )
        )
        assert outcome.upload_id is not None
        made = Registration(self, metadata, naming, outcome.upload_id)
        self._living.add(made)
        return made

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await self._clock.sleep(self._every)
            await self.renew_all()

    async def renew_all(self) -> None:
        """Each living registration once; one that cannot be renewed now is tried again at the next time."""
        for one in sorted(self._living, key=lambda registration: registration.upload_id):
            try:
                await one.renew()
            except Refused as refused:
                log.info("gateway.registration_gone", extra={"upload": one.upload_id, "code": refused.code.value})
                self._living.discard(one)
            except DrystoneError as error:
                log.warning("gateway.renewal_failed", extra={"upload": one.upload_id, "code": error.code.value})

    def write_id(self) -> WriteId:
        """For what the gateway does of its own accord: never a client's retry."""
        return make_write_id(self._clock.wall_us(), self._entropy.token(16))

    def modified_ms(self) -> int:
        """Unix milliseconds."""
        return self._clock.wall_us() // 1000


class Registration:
    """The internal upload of one PUT."""

    __slots__ = ("__weakref__", "_metadata", "_naming", "_parts", "_renewals", "upload_id")

    def __init__(self, renewals: Renewals, metadata: MetadataService, naming: Naming, upload_id: UploadId) -> None:
        self._renewals = renewals
        self._metadata = metadata
        self._naming = naming
        self._parts: list[Part] = []
        self.upload_id = upload_id

    async def add(self, ref: BlobRef) -> None:
        """Name one more blob. NoSuchBucket; Unavailable when the upload ended meanwhile (N3)."""
        part = Part(
            number=len(self._parts) + 1,
            size=ref.length,
            etag="0" * 32,
            modified_ms=self._renewals.modified_ms(),
            uid=self._naming.uid,
            blobs=(ref,),
        )
        self._parts.append(part)
        try:
            await self._put(part)
        except Refused as refused:
            if refused.code is not ErrorCode.NO_SUCH_UPLOAD:
                raise
            raise Unavailable(
                "the upload was not renewed for too long, and its blobs are not named any more"
            ) from refused

    async def renew(self) -> None:
        """Say that the writer lives (N2). Refused when it ended."""
        if self._parts:
            await self._put(self._parts[0])

    async def drop(self) -> None:
        """Nothing of it stays named; when this fails it ends by itself, hours later."""
        try:
            await self._metadata.mutate(
                AbortUpload(
                    write_id=self._renewals.write_id(),
                    bucket=self._naming.bucket,
                    key=self._naming.key,
                    upload_id=self.upload_id,
                )
            )
        except DrystoneError:
            pass

    async def _put(self, part: Part) -> None:
        await self._metadata.mutate(
            PutPart(
                write_id=self._renewals.write_id(),
                bucket=self._naming.bucket,
                key=self._naming.key,
                upload_id=self.upload_id,
                part=part,
                bucket_id=self._naming.bucket_id,
            )
        )
