# SPDX-License-Identifier: Apache-2.0
"""Everything at once: random interleavings with unknown outcomes, retries and owners that change, judged afterwards.

After each run the rows are read raw: whatever happened in between, they must obey the invariants of the logic, and the
history of each key must be linearizable.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from drystone_core.errors import ErrorCode, Refused, Unavailable
from drystone_core.formats.row_keys import BUCKET_NAME, CURRENT, NAMED, NULL_AT, PART, UPLOAD, VERSION
from drystone_core.formats.row_parts import decode_part
from drystone_core.formats.rows import decode_object, object_head
from drystone_core.formats.rowseal import unseal
from drystone_core.ids import NULL_VERSION, Key, VersionId, WriteId
from drystone_core.mutations import (
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
    PutPart,
    SwapBlobs,
)
from drystone_core.objects import Part, Versioning
from drystone_core.services import BlobName
from drystone_metadata.store.memory import Fault
from drystone_metadata.store.ports import CELL_TABLET, RowKey
from drystone_testing.linearizability import NEVER, Kind, Operation, violation
from drystone_testing.metadata_rig import DAY_US, Rig

KEYS = (b"a", b"a/b", b"c")


class Arena:
    """A rig whose service is replaced now and then while callers go on."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig()
        self.events = 0
        self.history: list[Operation] = []
        self.task: asyncio.Task[None] | None = None
        self.uploads: list[Any] = []

    async def start(self) -> None:
        """A new owner on the same rows; the former one is told nothing."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            clock, entropy = self.rig.clock, self.rig.entropy
            self.rig = Rig(self.rig.tablets, clock)
            entropy.count += 1_000_000
            self.rig.entropy.count = entropy.count
        commit = self.rig.storage.commit

        async def faulty(*args: Any) -> Any:
            for _ in range(self.rng.randrange(3)):
                await asyncio.sleep(0)
            self.rig.faults["commit"] = [
                self.rng.choice([Fault.NONE] * 8 + [Fault.UNKNOWN_BEFORE, Fault.UNKNOWN_AFTER])
            ]
            if self.rng.random() < 0.05:
                self.rig.faults["state"] = [Fault.UNAVAILABLE]
            return await commit(*args)

        self.rig.storage.commit = faulty  # type: ignore[method-assign]
        self.rig.faults.clear()
        await self.rig.service.start()
        self.task = asyncio.create_task(self.rig.service.run())

    def now(self) -> float:
        self.events += 1
        return float(self.events)

    async def call(self, change: Any, *, patience: int = 6) -> Outcome | Refused | None:
        """As an SDK: again under the same identity while the outcome is unknown; None when it stays so."""
        for _ in range(patience):
            self.rig.clock.now_us += 1000
            change = replace(change, write_id=WriteId(self.rig.id()[:8] + change.write_id[8:]))
            try:
                return await self.rig.service.mutate(change)
            except Refused as refused:
                return refused
            except (Unavailable, asyncio.CancelledError):
                await asyncio.sleep(0)
        return None

    async def register(self, key: bytes) -> None:
        """One call of a register's history."""
        rig, rng = self.rig, self.rng
        dice, called = rng.random(), self.now()
        made = Operation(key=key.decode(), kind=Kind.READ, called=called)
        if dice < 0.35:
            with suppress(Unavailable):
                value = None
                with suppress(Refused):
                    found = await rig.service.object("bkt", Key(key))
                    value = None if found.delete_marker else found.etag
                self.history.append(replace(made, returned=self.now(), value=value))
            return
        if dice < 0.5:
            kind, change, value = Kind.DELETE, DeleteObject(write_id=rig.id(), bucket="bkt", key=Key(key)), None
            expected = None
        else:
            expected = next((h.value for h in reversed(self.history) if h.key == key.decode() and h.value), "none")
            kind = rng.choice([Kind.PUT, Kind.CREATE, Kind.REPLACE])
            conditions = {
                Kind.PUT: Preconditions(),
                Kind.CREATE: Preconditions(if_none_match=True),
                Kind.REPLACE: Preconditions(if_match=expected),
            }[kind]
            change = rig.put(key, conditions=conditions)  # type: ignore[assignment]
            value = change.etag  # type: ignore[attr-defined]
        answer = await self.call(change, patience=rng.choice((1, 6)))
        refused = isinstance(answer, Refused)
        if refused:
            assert answer.code in (ErrorCode.PRECONDITION_FAILED, ErrorCode.NO_SUCH_KEY)
        returned = NEVER if answer is None else self.now()
        self.history.append(
            replace(made, kind=kind, returned=returned, value=value, expected=expected, refused=refused)
        )


def rows_of(rig: Rig, kind: int) -> dict[RowKey, bytes]:
    return {row: value for row, value in rig.tablets.tablets[CELL_TABLET].rows.items() if row.kind == kind}


def check_rows(rig: Rig) -> None:
    """The logic's invariants (O1, O2, U1, N1), read from the rows themselves."""
    buckets = {row.key for row in rows_of(rig, BUCKET_NAME)}
    current, versions = rows_of(rig, CURRENT), rows_of(rig, VERSION)
    named, nulls = rows_of(rig, NAMED), rows_of(rig, NULL_AT)
    assert {row.key[:8] for row in current} <= buckets
    for row, value in versions.items():
        assert RowKey(CURRENT, row.key) in current
        head = object_head(VERSION, row.key, row.seq, value)
        assert head.order == row.seq
        assert RowKey(NAMED, row.key, head.uid) in named
        assert row.seq > object_head(CURRENT, row.key, b"", current[RowKey(CURRENT, row.key)]).order
        if head.null:
            assert unseal(NULL_AT, row.key, b"", nulls[RowKey(NULL_AT, row.key)]) == row.seq
    for row, value in nulls.items():
        order = unseal(NULL_AT, row.key, b"", value)
        assert object_head(VERSION, row.key, order, versions[RowKey(VERSION, row.key, order)]).null
        assert not object_head(CURRENT, row.key, b"", current[RowKey(CURRENT, row.key)]).null
    uploads = {(row.key, row.seq) for row in rows_of(rig, UPLOAD)}
    for row, value in rows_of(rig, PART).items():
        if row.key[:8] not in buckets:
            continue  # left behind by a deleted bucket, to be swept
        assert (row.key, row.seq[:16]) in uploads
        assert RowKey(NAMED, row.key, decode_part(row.key, row.seq, value).uid) in named


@pytest.mark.parametrize("seed", range(10))
async def test_registers_are_linearizable_under_unknown_outcomes_and_changing_owners(seed: int) -> None:
    """R1, R6: clients that give up or repeat, commits of unknown outcome, five owners one after the other."""
    arena = Arena(seed)
    await arena.start()
    assert await arena.call(
        CreateBucket(write_id=arena.rig.id(), bucket="bkt", owner="1" * 12, region="r"), patience=99
    )

    async def client() -> None:
        for _ in range(40):
            await arena.register(arena.rng.choice(KEYS))
            await asyncio.sleep(0)

    clients = [asyncio.ensure_future(client()) for _ in range(4)]
    while not all(one.done() for one in clients):
        for _ in range(arena.rng.randrange(20, 120)):
            await asyncio.sleep(0)
        await arena.start()
    await asyncio.gather(*clients)
    assert len(arena.history) > 100
    assert violation(arena.history) is None, seed
    check_rows(arena.rig)
    if arena.task is not None:
        arena.task.cancel()


async def storm(arena: Arena, *, versioned: bool) -> None:
    """One client that does anything to anything."""
    for _ in range(50):
        rig, rng = arena.rig, arena.rng
        key, dice = rng.choice(KEYS), rng.random()
        base: dict[str, Any] = {"write_id": rig.id(), "bucket": "bkt", "key": Key(key)}
        if dice < 0.2:
            await arena.call(rig.put(key))
        elif dice < 0.3:
            await arena.call(DeleteObject(**base))
        elif dice < 0.45:
            with suppress(Refused, Unavailable):
                page = await rig.service.list_versions("bkt")
                which = rng.choice([row.version_id for row in page.versions] or [NULL_VERSION])
                await arena.call(DeleteObject(**base, version_id=VersionId(which)))
        elif dice < 0.5 and versioned:
            state = rng.choice((Versioning.ENABLED, Versioning.SUSPENDED))
            await arena.call(ConfigureBucket(write_id=rig.id(), bucket="bkt", versioning=state))
        elif dice < 0.58:
            made = await arena.call(CreateUpload(**base, owner="1" * 12, headers={}, metadata={}))
            if isinstance(made, Outcome):
                arena.uploads.append((Key(key), made.upload_id))
        elif dice < 0.75 and arena.uploads:
            base["key"], upload = rng.choice(arena.uploads)
            part = Part(
                number=rng.randrange(1, 4), size=10, etag="ab" * 16, modified_ms=0, uid=rig.uid(), blobs=(rig.blob(),)
            )
            await arena.call(PutPart(**base, upload_id=upload, part=part))
        elif dice < 0.85 and arena.uploads:
            base["key"], upload = rng.choice(arena.uploads)
            with suppress(Refused, Unavailable):
                parts = (await rig.service.list_parts("bkt", base["key"], upload)).parts
                await asyncio.sleep(0)
                chosen = tuple(CompletePart(number=p.number, etag=p.etag, uid=p.uid) for p in parts)
                await arena.call(
                    CompleteUpload(
                        **base,
                        upload_id=upload,
                        uid=rig.uid(),
                        parts=chosen,
                        etag="cd" * 16 + "-1",
                        size=10 * len(parts),
                    )
                )
        elif dice < 0.9 and arena.uploads:
            base["key"], upload = rng.choice(arena.uploads)
            await arena.call(AbortUpload(**base, upload_id=upload))
        elif dice < 0.96:
            with suppress(Refused, Unavailable):
                found = await rig.service.object("bkt", Key(key))
                await asyncio.sleep(0)
                if found.blobs:
                    with suppress(Exception):
                        old = tuple(ref.blob_id for ref in found.blobs)
                        new = tuple(rig.blob() for _ in old)
                        await rig.service.mutate(SwapBlobs(**base, uid=found.uid, old=old, new=new))
        else:
            await arena.call(DeleteBucket(write_id=rig.id(), bucket="bkt"))
            await arena.call(CreateBucket(write_id=rig.id(), bucket="bkt", owner="1" * 12, region="r"))
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(6))
async def test_rows_keep_their_invariants_in_a_storm(seed: int) -> None:
    """Uploads against aborts and completes, versions, null versions and markers, swaps, buckets that go and come back."""
    arena = Arena(1000 + seed)
    await arena.start()
    await arena.call(CreateBucket(write_id=arena.rig.id(), bucket="bkt", owner="1" * 12, region="r"), patience=99)
    clients = [asyncio.ensure_future(storm(arena, versioned=seed % 3 > 0)) for _ in range(4)]
    while not all(one.done() for one in clients):
        for _ in range(arena.rng.randrange(50, 300)):
            await asyncio.sleep(0)
        await arena.start()
    await asyncio.gather(*clients)
    rig = arena.rig
    del rig.storage.commit  # type: ignore[method-assign]
    rig.faults.clear()
    check_rows(rig)
    async for _ in rig.service.upkeep._sweeper.steps():
        check_rows(rig)
    rig.clock.now_us += 2 * DAY_US
    for _ in range(9):
        await arena.call(rig.put(b"floor"))
    for kind in (CURRENT, VERSION):
        for row, value in rows_of(rig, kind).items():
            version = decode_object(kind, row.key, row.seq, value).version
            bucket = int.from_bytes(row.key[:8], "big")
            for ref in version.blobs:
                # Parts keep the uid their blobs were appended under; a single PUT's blobs carry the object's.
                uids = [part.uid for part in version.parts] or [version.uid]
                names = [BlobName(ref.blob_id, bucket, version.key, uid, 0, 0) for uid in uids]  # type: ignore[arg-type]
                assert await rig.service.dead_blobs(names) == [False] * len(names)
    if arena.task is not None:
        arena.task.cancel()
