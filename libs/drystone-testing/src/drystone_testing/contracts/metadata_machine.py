# SPDX-License-Identifier: Apache-2.0
"""LocalMetadata over any TabletStorage against the reference model, as a Hypothesis state machine.

Subclass `MetadataMachine` with `make_world`, and take `TestCase` from it. Batches are sent at once, so they share a
commit; the order of a batch's futures is the order it is decided in. A batch answered Unavailable is sent again,
unchanged: by R1 it is then applied once, whatever became of it the first time.
"""

import asyncio
import contextlib
import copy
from dataclasses import replace
from typing import Any, Protocol

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from drystone_core.errors import DrystoneError, Unavailable
from drystone_core.extents import BlobRef, PackedExtent
from drystone_core.ids import BlobId, Key, Uid, UploadId, VersionId, VolumeId, WriteId, make_blob_id, make_write_id
from drystone_core.mutations import (
    NO_CONDITIONS,
    AbortUpload,
    CompletePart,
    CompleteUpload,
    ConfigureBucket,
    CreateBucket,
    CreateUpload,
    DeleteBucket,
    DeleteObject,
    Outcome,
    Preconditions,
    PutObject,
    PutPart,
    ReplaceMetadata,
    SwapBlobs,
)
from drystone_core.objects import Checksum, ObjectVersion, Part, Versioning
from drystone_core.services import BlobName
from drystone_metadata.model import Model, group
from drystone_metadata.service import LocalMetadata
from drystone_metadata.store.ports import CELL_TABLET, TabletStorage
from drystone_testing.sim_world import CountingEntropy, SteppedClock

KEYS = [Key(key) for key in (b"a", b"a/", b"a/b", b"a//b", b"a/b/c", b"b", b"b\x00c", b"\xc3\xa9", b"~")]
_OFTEN = st.sampled_from([*KEYS[:1] * 8, *KEYS[2:3] * 4, *KEYS])
"""Few keys often, so that they gather versions."""
BUCKETS = ["one", "two"]
HOUR_US = 3_600_000_000


class MachineWorld(Protocol):
    """What a machine runs on."""

    async def start(self) -> TabletStorage: ...

    async def crash(self) -> None:
        """The storage started last ends; acknowledged commits stay."""
        ...

    def plan(self, faults: list[str]) -> None:
        """What the next commits meet: names of drystone_metadata.store.memory.Fault (or ignored)."""
        ...


_CONDITIONS = st.sampled_from(["", "", "", "none-match", "match", "wrong", "star", "size", "time"])
INTENTS = st.one_of(
    st.tuples(st.just("put"), _OFTEN, _CONDITIONS),
    st.tuples(st.just("put"), _OFTEN, st.just("")),
    st.tuples(st.just("delete"), _OFTEN, _CONDITIONS),
    st.tuples(st.just("delete_version"), _OFTEN, st.integers(-2, 4)),
    st.tuples(st.just("configure"), st.sampled_from([Versioning.ENABLED, Versioning.ENABLED, Versioning.SUSPENDED])),
    st.tuples(st.just("replace"), _OFTEN, st.booleans()),
    st.tuples(st.just("onto"), _OFTEN, st.integers(0, 2)),
    st.tuples(st.just("upload"), st.sampled_from(KEYS[:1]), st.booleans()),
    st.tuples(st.just("part"), st.integers(0, 5), st.integers(1, 4)),
    st.tuples(st.just("complete"), st.integers(0, 5), st.sampled_from(["", "", "manifest", "order", "uid", "empty"])),
    st.tuples(st.just("abort"), st.integers(0, 5)),
    st.tuples(st.just("registered"), st.integers(0, 5)),
    st.tuples(st.just("swap"), _OFTEN, st.integers(0, 3), st.booleans()),
    st.tuples(st.just("create_bucket"), st.sampled_from(["1" * 12, "2" * 12])),
    st.tuples(
        st.just("delete_bucket"),
    ),
)
_FAULTS = st.lists(
    st.sampled_from(["none", "none", "none", "stale", "unknown_before", "unknown_after", "lost_before", "lost_after"]),
    max_size=2,
)


class MetadataMachine(RuleBasedStateMachine):
    """The rules; every rule ends with model and service in the same state."""

    def make_world(self) -> MachineWorld:
        """Subclasses: a fresh storage."""
        raise AssertionError("a machine needs a world")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock, self.entropy = SteppedClock(), CountingEntropy()
        self.model = Model()
        self.world = self.make_world()
        self.done: list[tuple[Any, Outcome]] = []
        self.finished: list[tuple[str, Key, UploadId]] = []
        self.names: dict[BlobId, tuple[str, BlobName]] = {}
        self.service: LocalMetadata
        self.task: asyncio.Task[None]
        self.run(self._start())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    async def _start(self) -> None:
        storage = await self.world.start()
        self.service = LocalMetadata(storage=storage, tablet=CELL_TABLET, clock=self.clock, entropy=self.entropy)
        await self.service.start()
        self.task = asyncio.create_task(self.service.run())
        await asyncio.sleep(0)

    async def _stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.world.crash()

    def teardown(self) -> None:
        self.world.plan([])
        for bucket in BUCKETS:
            self.compare_versions(bucket)
            self.compare_listing(bucket, b"", b"/", b"", 3)
        self.compare_dead_blobs()
        self.run(self._stop())
        self.loop.close()

    @initialize(versioned=st.integers(0, 3))
    def first_buckets(self, versioned: int) -> None:
        self._batch([CreateBucket(write_id=self._id(), bucket=name, owner="1" * 12, region="r") for name in BUCKETS])
        if versioned:
            self._batch([ConfigureBucket(write_id=self._id(), bucket="one", versioning=Versioning.ENABLED)])

    @rule(
        bucket=st.sampled_from(["one", "one", "one", "two"]),
        intents=st.lists(INTENTS, min_size=1, max_size=6),
        faults=_FAULTS,
    )
    def batch(self, bucket: str, intents: list[tuple[Any, ...]], faults: list[str]) -> None:
        """Mutations sent at once."""
        self.clock.now_us += 300_000
        changes = [change for intent in intents if (change := self._change(bucket, *intent)) is not None]
        self._batch(changes, faults)

    @rule(which=st.integers(0, 1000))
    def repeat(self, which: int) -> None:
        """R1: a repeat of a mutation that had an effect gets the first outcome and changes nothing."""
        since = self.clock.now_us - 600_000_000
        recent = [(m, o) for m, o in self.done if int.from_bytes(m.write_id[:8], "big") > since]
        if recent:
            change, outcome = recent[which % len(recent)]
            again = replace(change, write_id=WriteId(self._id()[:8] + change.write_id[8:]))
            assert self.run(self._send([again])) == [outcome]

    @rule(minutes=st.sampled_from([0, 20, 25 * 60]))
    def restart(self, minutes: int) -> None:
        """The process ends without warning; another takes over, perhaps much later."""
        self.run(self._stop())
        self.clock.now_us += minutes * 60_000_000
        self.run(self._start())

    @rule(bucket=st.sampled_from(BUCKETS))
    def compare_versions(self, bucket: str) -> None:
        """Every version of every key, by id and as current."""
        if bucket not in self.model.buckets:
            assert self._code(self.service.bucket(bucket)) == "NoSuchBucket"
            return
        known = self.model.buckets[bucket]
        assert self.run(self.service.bucket(bucket)).versioning is known.versioning
        for key in KEYS:
            versions = known.keys.get(key, [])
            if not versions:
                assert self._code(self.service.object(bucket, key)) == "NoSuchKey"
            for at, version in enumerate(versions):
                found = self.run(self.service.object(bucket, key, version.version_id if at else None))
                assert replace(found, uid=version.uid) == version
                assert version.delete_marker or found.uid == version.uid
            for absent in (VersionId("0" * 32), VersionId("null")):
                if absent not in [version.version_id for version in versions]:
                    assert self._code(self.service.object(bucket, key, absent)) == "NoSuchVersion"

    @rule(
        bucket=st.sampled_from(BUCKETS),
        prefix=st.sampled_from([b"", b"", b"a", b"a/", b"b", b"zz"]),
        delimiter=st.sampled_from([b"", b"/", b"/", b"//", b"b"]),
        after=st.sampled_from([b"", b"", b"a", b"a/", b"a/b", b"a/b/", b"b", b"~~"]),
        limit=st.integers(0, 10),
    )
    def compare_listing(self, bucket: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int) -> None:
        """One page equals the model's, and following the pages gives the whole."""
        if bucket not in self.model.buckets:
            return
        page = self.run(self.service.list_objects(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit))
        wanted = self.model.list_keys(bucket, prefix, delimiter, after, limit)
        assert ([row.key for row in page.objects], page.common_prefixes, page.truncated, page.next_after) == wanted
        for row in page.objects:
            current = self.model.buckets[bucket].current(row.key)
            assert current is not None and (row.size, row.etag, row.modified_ms) == (
                current.size,
                current.etag,
                current.modified_ms,
            )
            assert row.checksum_algorithm == (current.checksum.algorithm if current.checksum else "")
        self._follow_versions(bucket, prefix, delimiter, max(limit, 1))
        self._follow_uploads(bucket, prefix, delimiter, max(limit, 1))

    def _follow_versions(self, bucket: str, prefix: bytes, delimiter: bytes, limit: int) -> None:
        seen: list[tuple[bytes, str, bool]] = []
        key, version = b"", ""
        while True:
            page = self.run(
                self.service.list_versions(
                    bucket, prefix=prefix, delimiter=delimiter, after_key=key, after_version=version, limit=limit
                )
            )
            part = [(row.key, row.version_id, row.is_latest) for row in page.versions]
            seen += sorted([*part, *[(p, "", False) for p in page.common_prefixes]], key=lambda entry: entry[0])
            assert len(page.versions) + len(page.common_prefixes) <= limit
            if not page.truncated:
                break
            key, version = page.next_key, page.next_version
        assert seen == self.model.list_versions(bucket, prefix, delimiter)

    def _follow_uploads(self, bucket: str, prefix: bytes, delimiter: bytes, limit: int) -> None:
        seen: list[tuple[bytes, str]] = []
        key, upload = b"", ""
        while True:
            page = self.run(
                self.service.list_uploads(
                    bucket, prefix=prefix, delimiter=delimiter, after_key=key, after_upload=upload, limit=limit
                )
            )
            seen += [(row.key, row.upload_id) for row in page.uploads] + [(p, "") for p in page.common_prefixes]
            if not page.truncated:
                break
            key, upload = page.next_key, page.next_upload or ""
        wanted = {
            (text, "" if common else upload_id)
            for upload_id, up in self.model.buckets[bucket].uploads.items()
            if not up.create.internal and up.create.key.startswith(prefix)
            for text, common in [group(up.create.key, prefix, delimiter)]
        }
        assert len(seen) == len(wanted) and set(seen) == wanted
        for upload_id, up in self.model.buckets[bucket].uploads.items():
            page = self.run(self.service.list_parts(bucket, up.create.key, upload_id, after=1, limit=2))
            assert page.parts == [up.parts[number] for number in sorted(up.parts) if number > 1][:2]

    @rule()
    def compare_dead_blobs(self) -> None:
        """A day later a blob is dead exactly when nothing names it (R7), once cell time has made up for the time off."""
        self.clock.now_us += self.clock.now_us - self.service.committer.cell_us()
        assert abs(self.service.committer.cell_us() - self.clock.now_us) < 1_000_000
        self.clock.now_us += 25 * HOUR_US
        self._batch([CreateBucket(write_id=self._id(), bucket="floor", owner="1" * 12, region="r")])
        self._batch([DeleteBucket(write_id=self._id(), bucket="floor")])
        names = list(self.names.values())
        dead = self.run(self.service.dead_blobs([name for _, name in names]))
        for (bucket, name), is_dead in zip(names, dead, strict=True):
            assert is_dead is not self._is_named(bucket, name), (bucket, name)

    def _is_named(self, bucket: str, name: BlobName) -> bool:
        known = self.model.buckets.get(bucket)
        if known is None or self.run(self.service.bucket(bucket)).bucket_id != name.bucket_id:
            return False
        if name.blob_id in self.model.named(bucket):
            return True
        whole = known.part_of.get(name.uid)
        return any(
            version.uid == whole and version.manifest is not None
            for versions in known.keys.values()
            for version in versions
        )

    def _batch(self, changes: list[Any], faults: list[str] | None = None) -> None:
        """Send, send again what was not answered, and compare each answer with the model's."""
        self.world.plan(faults or [])
        answers = self.run(self._send(changes))
        if any(isinstance(answer, Unavailable) for answer in answers):
            assert all(isinstance(answer, Unavailable) for answer in answers)
            self.world.plan([])
            answers = self.run(self._send(changes))
            self._compare_again(changes, answers)
            return
        for change, answer in zip(changes, answers, strict=True):
            self._compare(change, answer)

    def _compare_again(self, changes: list[Any], answers: list[Outcome | BaseException]) -> None:
        """Of a batch sent twice: what had no effect the first time may have been decided anew, after what had (W3)."""
        anew = []
        for change, answer in zip(changes, answers, strict=True):
            given = answer if isinstance(answer, Outcome) else Outcome()
            trial = copy.deepcopy(self.model)
            try:
                wanted: Any = trial.apply(change, given)
            except DrystoneError as error:
                wanted = error
            agrees = (
                wanted == answer
                if isinstance(wanted, Outcome)
                else isinstance(answer, DrystoneError) and answer.code == wanted.code
            )
            if agrees or (isinstance(wanted, Outcome) and trial.buckets != self.model.buckets):
                self._compare(change, answer)
            else:
                anew.append((change, answer))
        for change, answer in anew:
            self._compare(change, answer)

    def _compare(self, change: Any, answer: Outcome | BaseException) -> None:
        given = answer if isinstance(answer, Outcome) else Outcome()
        key = getattr(change, "key", None)
        known = self.model.buckets.get(change.bucket)
        before = known.keys.get(key, []) if known and key else []
        oldest_allowed = before[0].modified_ms if before else 0
        try:
            wanted: Any = self.model.apply(change, given)
        except DrystoneError as error:
            assert isinstance(answer, DrystoneError), (change, answer, error)
            assert (type(answer), answer.code) == (type(error), error.code), change
            return
        assert answer == wanted, change
        if given.modified_ms and not isinstance(change, PutPart | CreateUpload):
            assert given.modified_ms >= oldest_allowed
        if isinstance(change, CompleteUpload):
            self.finished.append((change.bucket, change.key, change.upload_id))
        elif not isinstance(change, DeleteObject):
            self.done.append((change, given))

    async def _send(self, changes: list[Any]) -> list[Any]:
        return await asyncio.gather(*[self.service.mutate(change) for change in changes], return_exceptions=True)

    def _code(self, work: Any) -> str:
        try:
            self.run(work)
        except DrystoneError as error:
            return str(error.code)
        return ""

    def _id(self) -> WriteId:
        return make_write_id(self.clock.now_us, self.entropy.token(16))

    def _blob(self, bucket: str, key: Key, uid: Uid, part: int = 0) -> BlobRef:
        blob = make_blob_id(self.clock.now_us, self.entropy.token(8))
        if bucket in self.model.buckets:
            bucket_id = self.run(self.service.bucket(bucket)).bucket_id
            self.names[blob] = (bucket, BlobName(blob, bucket_id, key, uid, part, 0))
        return BlobRef(blob, 100, (PackedExtent(VolumeId(1), 4096, 640, 0, 0, 100, 7),))

    def _conditions(self, bucket: str, key: Key, name: str) -> Preconditions:
        known = self.model.buckets.get(bucket)
        current = known.current(key) if known else None
        etag = current.etag if current else "0" * 32
        match name:
            case "none-match":
                return Preconditions(if_none_match=True)
            case "match":
                return Preconditions(if_match=etag)
            case "wrong":
                return Preconditions(if_match="f" * 32)
            case "star":
                return Preconditions(if_match="*")
            case "size":
                return Preconditions(if_match_size=current.size if current else 5)
            case "time":
                return Preconditions(if_match_modified_ms=current.modified_ms // 1000 * 1000 if current else 5)
        return NO_CONDITIONS

    def _change(self, bucket: str, what: str, *rest: Any) -> Any:
        """The mutation an intent means, given what the model knows."""
        common: dict[str, Any] = {"write_id": self._id(), "bucket": bucket}
        known = self.model.buckets.get(bucket)
        if what in ("part", "complete", "abort", "registered"):
            uploads = list(known.uploads.items()) if known else []
            if what == "complete" and rest[0] == 0 and (old := [f for f in self.finished if f[0] == bucket]):
                return self._complete_again(common, *old[-1][1:])
            if not uploads:
                return None
            upload_id, upload = uploads[rest[0] % len(uploads)]
            common |= {"key": upload.create.key}
            return getattr(self, f"_{what}")(common, bucket, upload_id, upload, *rest[1:])
        match what, rest:
            case "put", (key, conditions):
                return self._put(common | {"conditions": self._conditions(bucket, key, conditions)}, bucket, key)
            case "delete", (key, conditions):
                return DeleteObject(**common, key=key, conditions=self._conditions(bucket, key, conditions))
            case "delete_version", (key, at):
                versions = known.keys.get(key, []) if known else []
                ids = ["null", *[version.version_id for version in versions]]
                chosen = ids[at] if 0 <= at < len(ids) else "7" * 32
                return DeleteObject(**common, key=key, version_id=VersionId(chosen))
            case "configure", (versioning,):
                return ConfigureBucket(**common, versioning=versioning)
            case "onto", (key, wrong):
                seen = (known.current(key) if known else None) or ObjectVersion(
                    key=key, uid=Uid(bytes(16)), version_id=VersionId(""), modified_ms=0
                )
                uid, at = Uid(bytes(16)) if wrong == 1 else seen.uid, seen.modified_ms - (wrong == 2)
                return self._put(common | {"expected_uid": uid, "expected_ms": at}, bucket, key)
            case "replace", (key, right):
                current = known.current(key) if known else None
                uid = current.uid if current and right else Uid(bytes(16))
                return ReplaceMetadata(**common, key=key, expected_uid=uid, headers={"x": "y"}, metadata={"n": "é"})
            case "upload", (key, internal):
                return CreateUpload(
                    **common, key=key, owner="1" * 12, headers={"h": "1"}, metadata={"m": "2"}, internal=internal
                )
            case "swap", (key, at, fresh):
                return self._swap(common, bucket, key, at, fresh)
            case "create_bucket", (owner,):
                return CreateBucket(**common, owner=owner, region="r")
            case _:
                return DeleteBucket(**common)

    def _put(self, common: dict[str, Any], bucket: str, key: Key) -> PutObject:
        uid = Uid(self.entropy.token(16))
        blobs = (self._blob(bucket, key, uid),) if uid[-1] % 4 else ()
        return PutObject(
            **common,
            key=key,
            uid=uid,
            size=100 * len(blobs),
            etag=uid.hex(),
            headers={"content-type": "text/plain"},
            metadata={"k": "v"} if uid[-1] % 2 else {},
            blobs=blobs,
            storage_class="STANDARD" if uid[-1] % 3 else "HOUSE_CLASS",
            checksum=Checksum("CRC32", "AAAA") if uid[-1] % 5 else None,
            tags={"t": "u"} if uid[-1] % 7 == 0 else {},
        )

    def _part(self, common: dict[str, Any], bucket: str, upload_id: UploadId, upload: Any, number: int) -> PutPart:
        uid = Uid(self.entropy.token(16))
        blobs = (self._blob(bucket, upload.create.key, uid, number), self._blob(bucket, upload.create.key, uid, number))
        part = Part(number=number, size=200, etag=uid.hex(), modified_ms=0, uid=uid, blobs=blobs)
        return PutPart(**common, upload_id=upload_id, part=part)

    def _complete(
        self, common: dict[str, Any], bucket: str, upload_id: UploadId, upload: Any, how: str
    ) -> CompleteUpload:
        uid = Uid(self.entropy.token(16))
        chosen = [] if how == "empty" else sorted(upload.parts.values(), key=lambda part: part.number)[:3]
        parts = [CompletePart(number=part.number, etag=part.etag, uid=part.uid) for part in chosen]
        if how == "order":
            parts.reverse()
        if how == "uid" and parts:
            parts[0] = replace(parts[0], uid=uid)
        manifest = self._blob(bucket, upload.create.key, uid) if how == "manifest" else None
        return CompleteUpload(
            **common,
            upload_id=upload_id,
            uid=uid,
            parts=tuple(parts),
            etag=f"{uid.hex()}-{len(parts)}",
            size=200 * len(parts),
            checksum=Checksum("CRC64NVME", "BBBB"),
            manifest=manifest,
        )

    def _complete_again(self, common: dict[str, Any], key: Key, upload_id: UploadId) -> CompleteUpload:
        uid = Uid(self.entropy.token(16))
        part = CompletePart(number=1, etag="e", uid=uid)
        return CompleteUpload(**common, key=key, upload_id=upload_id, uid=uid, parts=(part,), etag="x-1", size=0)

    def _abort(self, common: dict[str, Any], _bucket: str, upload_id: UploadId, _upload: Any) -> AbortUpload:
        return AbortUpload(**common, upload_id=upload_id)

    def _registered(self, common: dict[str, Any], bucket: str, upload_id: UploadId, upload: Any) -> PutObject:
        uid = Uid(self.entropy.token(16))
        own = self._blob(bucket, upload.create.key, uid)
        return PutObject(
            **common, uid=uid, size=100, etag=uid.hex(), headers={}, metadata={}, blobs=(own,), registered=upload_id
        )

    def _swap(self, common: dict[str, Any], bucket: str, key: Key, at: int, fresh: bool) -> SwapBlobs:
        known = self.model.buckets.get(bucket)
        versions = known.keys.get(key, []) if known else []
        filled = [
            version for version in versions if version.blobs and all(ref.blob_id in self.names for ref in version.blobs)
        ]  # not those put into a bucket that the same batch made: their bucket's id was not known
        uid, old = Uid(bytes(16)), (BlobId(bytes(16)),)
        if filled:
            version = filled[at % len(filled)]
            blob = version.blobs[at % len(version.blobs)].blob_id
            uid, old = self.names[blob][1].uid, (blob,) if fresh else (BlobId(bytes(16)),)
        return SwapBlobs(**common, key=key, uid=uid, old=old, new=(self._blob(bucket, key, uid),))
