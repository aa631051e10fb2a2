# SPDX-License-Identifier: Apache-2.0
"""What runs beside the commits: layers into SQLite files, rebuilds, trust in files, retries, comparison.

Invariants
  K1  A file changes only while its member's `gate` is held, and only by layers in order or by a rebuild's steps.
  K2  Layers leave memory when every member's file has them (and that of a spare being made ready); who cannot keep up is
      dropped: memory is bounded.
  K3  A rebuild's step copies rows of a file that is at least as far as the new one: replaying the layers in order over
      such a copy ends in the exact state (changes are absolute), once the new file has passed the last source's index.
  K4  A distrusted file is set aside only when another member's passed quick_check; the last one serves what it can.
  K5  A rebuilt file counts as complete only when everything copied into it is fsynced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import apsw

from drystone_core.errors import Damaged, ErrorCode, Unavailable
from drystone_core.ports import Clock, Lane, Lanes
from drystone_metadata.store.embedded.chain import Chain
from drystone_metadata.store.embedded.compare import compare
from drystone_metadata.store.embedded.database import Applied
from drystone_metadata.store.embedded.handover import Handover
from drystone_metadata.store.embedded.member import COPY_START, Member, Standing
from drystone_metadata.store.embedded.overlay import Overlay, Stamp, after
from drystone_metadata.store.embedded.units import EmbeddedSettings, OnEvent, is_disk_fault
from drystone_metadata.store.ports import FeedRow, RowKey
from drystone_runtime.background import Background

END = RowKey(256, b"", b"")


class Keeper:
    """Owns the background tasks of one storage."""

    def __init__(
        self,
        *,
        chain: Chain,
        members: Sequence[Member],
        overlay: Overlay,
        lock: asyncio.Lock,
        settle: Callable[[], Awaitable[None]],
        lanes: Lanes,
        clock: Clock,
        settings: EmbeddedSettings,
        on_event: OnEvent,
    ) -> None:
        self._chain = chain
        self._members = members
        self._overlay = overlay
        self._lock = lock
        self._settle = settle
        self._lanes = lanes
        self._clock = clock
        self._settings = settings
        self._on_event = on_event
        self._background = Background(clock=clock)
        self._moved = asyncio.Event()
        """Set when a layer left memory or a member was dropped."""
        self.joining: Member | None = None
        """A spare whose file is made before it becomes a member (handover.py)."""
        self._space_wanting = False
        """The last write into some file failed for want of space."""
        self._verify_at = clock.monotonic() + min(settings.verify_first, settings.verify_every)
        self._verifying = False
        self.may_freeze = False
        """False while the growing layer holds records that are not on every member yet."""
        chain.want_prepared = self._want_prepared
        Handover(
            chain=chain, keeper=self, lock=lock, settle=settle, lanes=lanes, clock=clock, settings=settings,
            background=self._background,
        )  # fmt: skip

    def start(self) -> None:
        self._background.keep("metadata-keeper", self._tend)
        self._wake()

    async def stop(self, *, flush: bool) -> None:
        """End the tasks; with `flush` bring the files to the head. Closes everything."""
        await self._background.stop()
        members = [member for member in self._members if member.standing is Standing.MEMBER]
        if flush and self.may_freeze:
            self._overlay.freeze(self._chain.stamp)
            for member in members:
                if member.db is not None:
                    await self._apply(member)
        calls: list[tuple[Lane, Callable[[], None]]] = []
        for member in self._members:
            calls += [(member.unit.lane, member.journal.close), (member.unit.background, member.drop_db)]
        await self._lanes.scatter(calls, deadline=self._deadline())

    def say(self, name: str, **fields: Any) -> None:
        self._on_event(name, fields)

    # Layers into files

    async def freeze(self) -> None:
        """End the growing layer and have it applied. Under the commit lock."""
        self._freeze()

    @property
    def crowded(self) -> bool:
        """As many layers are in memory as may be (K2)."""
        return len(self._overlay.layers) > self._settings.layers_most

    async def room(self) -> None:
        """Wait until there is room for a layer; Unavailable when that takes too long (no space, slow disks)."""
        deadline = self._clock.monotonic() + self._settings.disk_deadline
        self.end_joining()
        while self.crowded:
            left = deadline - self._clock.monotonic()
            if self._space_wanting:
                raise Unavailable("no space for metadata", ErrorCode.INSUFFICIENT_STORAGE)
            if left <= 0:
                raise Unavailable("metadata files are too slow for the commits")
            self._moved.clear()
            try:
                async with asyncio.timeout(left):
                    await self._moved.wait()
            except TimeoutError:
                pass

    def note_joined(self) -> None:
        """New members begin here: their files hold what is frozen now and take in what follows."""
        if self._chain.joined:
            self._freeze()

    def _freeze(self) -> None:
        if not self.may_freeze:
            return
        self._overlay.freeze(self._chain.stamp)
        joined, self._chain.joined = self._chain.joined, []
        for member in joined:
            self._begin_rebuild(member, self._chain.stamp)
        self._wake()

    def begin_joining(self, spare: Member) -> None:
        """Make the spare's file as if it were a member, under the commit lock; it is `joining` until it fails to."""
        self._freeze()
        if self.may_freeze:
            self.joining = spare
            self._begin_rebuild(spare, self._chain.stamp)

    def end_joining(self) -> None:
        """The spare is a member now, or is not to become one: nothing is kept in memory for it any more."""
        self.joining = None
        self._drop_applied()

    async def catch_up(self, spare: Member) -> bool:
        """Bring the spare's file to the head, under the commit lock; False when it is not there, or not durably."""
        self._freeze()
        await self._apply(spare, self._settings.late_after)
        return spare is self.joining and spare.serves and spare.durable_index >= self._chain.index

    def _tended(self) -> list[Member]:
        """Whose files take in the layers."""
        members = [member for member in self._chain.set if member.standing is Standing.MEMBER]
        return [*members, self.joining] if self.joining is not None else members

    def _wake(self) -> None:
        for member in self._tended():
            if not member.flushing and member.db is not None:
                if member.applied is not None and self._overlay.frozen_after(member.applied.index):
                    member.flushing = True
                    self._background.once(f"metadata-flush-{member.disk_id}", self._flush(member))

    async def _flush(self, member: Member) -> None:
        try:
            await self._apply(member)
        finally:
            member.flushing = False
        self._drop_applied()

    async def _apply(self, member: Member, patience: float = 0.0) -> None:
        async with member.gate:
            applied = member.applied
            if member.db is None or applied is None or applied.index < self._overlay.base:
                return  # no file, or one that missed layers: only a rebuild helps
            layers = self._overlay.frozen_after(applied.index)
            if not layers:
                return
            steps: list[Applied] = []
            for layer in layers:
                stamp = layer.stamp or self._chain.stamp
                applied = replace(
                    applied,
                    index=stamp.index,
                    hash=stamp.hash,
                    term=stamp.term,
                    members=stamp.members,
                    state=layer.state,
                )
                steps.append(applied)
            try:
                member.durable_index = await self._lanes.run(
                    member.unit.background, partial(member.apply, layers, steps), deadline=self._deadline(patience)
                )
                member.applied = steps[-1]
                self._space_wanting = False
            except apsw.Error as error:
                await self._write_failed(member, error)
            except OSError as error:
                self._disk_failed(member, f"metadata file: {error!r}")

    def _drop_applied(self) -> None:
        applied = [member.applied.index for member in self._tended() if member.applied is not None]
        if applied:
            self._overlay.drop_applied(min(applied))
        self._moved.set()

    async def _write_failed(self, member: Member, error: apsw.Error) -> None:
        database = member.db
        if member is self.joining:
            self.end_joining()
        elif database is not None and not database.fault(error):
            self.say("metadata.space_wanting", disk=member.disk_id, error=str(error))
            self._space_wanting = True
            self._moved.set()
            try:
                await self._lanes.run(member.unit.background, member.release_reserve, deadline=self._deadline())
            except OSError as failure:
                self.say("metadata.reserve_failed", disk=member.disk_id, error=repr(failure))
        else:
            self._distrust(member, str(error))

    # Trust

    def serving(self) -> Member | None:
        """The member whose file reads come from."""
        best: Member | None = None
        for member in self._chain.set:
            if member.serves and member.applied is not None and member.applied.index >= self._overlay.base:
                if not member.distrusted and member.standing is Standing.MEMBER:
                    if not member.slow_until or member.slow_until <= self._clock.monotonic():
                        return member
                    best = member
                best = best or member
        return best

    def serving_or_raise(self) -> Member:
        member = self.serving()
        if member is None:
            raise Unavailable("no complete metadata member serves")
        return member

    def read_failed(self, member: Member, error: BaseException) -> None:
        """Returns when another member is to be asked; raises when there is none, or the failure is nobody's fault."""
        if isinstance(error, apsw.Error):
            if member.db is not None and not member.db.fault(error):
                raise Unavailable(f"metadata read: {error}") from error
            self._distrust(member, str(error))
            if self.serving() is member:
                raise Damaged(f"metadata file unreadable on the last member: {error}") from error
            return
        if not is_disk_fault(error) or not self._another(member):
            raise Unavailable(f"metadata read: {error!r}") from error
        if isinstance(error, TimeoutError):  # others answer for a while; what drops a member is lateness of commits
            member.slow_until = self._clock.monotonic() + self._settings.slow_for
            self.say("metadata.reads_slow", disk=member.disk_id)
            return
        self._disk_failed(member, f"read: {error!r}")

    def row_failed(self, member: Member) -> None:
        """A row does not fit its seal."""
        self._distrust(member, "a row fails its checksum")
        if self.serving() is member:
            raise Damaged("a metadata row fails its checksum on the last member")

    def _another(self, member: Member) -> bool:
        return any(
            one is not member
            and one.serves
            and not one.distrusted
            and one.standing is Standing.MEMBER
            and one.slow_until <= self._clock.monotonic()
            for one in self._chain.set
        )

    def _distrust(self, member: Member, why: str) -> None:
        if member.distrusted:
            return
        member.distrusted = True
        self.say("metadata.file_distrusted", disk=member.disk_id, reason=why)
        self._background.once(f"metadata-replace-{member.disk_id}", self._replace_file(member))

    def _disk_failed(self, member: Member, why: str) -> None:
        self._chain.drop(member, why)
        self._drop_applied()
        self._background.once("metadata-new-term", self._new_term())

    async def _new_term(self) -> None:
        async with self._lock:
            try:
                if self._chain.doubtful:
                    await self._settle()
            except Unavailable as error:
                self.say("metadata.read_only", reason=error.message)

    async def _replace_file(self, member: Member) -> None:
        """Rebuild a distrusted file, if another one is sound (K4)."""
        for other in list(self._chain.set):
            if other is member or not other.serves or other.distrusted or other.db is None:
                continue
            if not await self._lanes.run(other.unit.reading, other.db.quick_check):
                self._distrust(other, "quick_check failed")
                continue
            async with self._lock:
                if member.standing is Standing.MEMBER and self.may_freeze:
                    self._chain.joined.append(member)
                    self._freeze()
            return
        self.say("metadata.no_sound_file", disk=member.disk_id)

    # Rebuild

    def _begin_rebuild(self, member: Member, stamp: Stamp) -> None:
        applied = member.applied
        unbroken = applied is not None and applied.index >= self._overlay.base
        member.joined_term, member.joined_index = stamp.term, stamp.index
        if member.rebuilding and unbroken:
            return
        goes_on = unbroken and member.db is not None and not member.serves and not member.distrusted
        member.rebuilding = True
        member.rebuilds += 1
        if not goes_on:
            state = self._overlay.active.state
            applied = Applied(
                cluster="",
                disk=member.disk_id,
                index=stamp.index,
                hash=stamp.hash,
                term=stamp.term,
                members=stamp.members,
                state=state,
                copied=COPY_START,
            )
            member.applied = replace(applied, copied_index=stamp.index)
        self._background.once(
            f"metadata-rebuild-{member.disk_id}",
            self._rebuild(member, None if goes_on else member.applied, member.rebuilds),
        )

    async def _rebuild(self, member: Member, new: Applied | None, number: int) -> None:
        try:
            if new is not None:
                async with member.gate:
                    await self._lanes.run(
                        member.unit.background, partial(member.create_db, new), deadline=self._deadline()
                    )
                    member.distrusted = False
            self.say("metadata.rebuild_began", disk=member.disk_id)
            while (applied := member.applied) is not None and not applied.complete:
                if member not in self._tended() or member.rebuilds != number:
                    return
                if applied.copied is not None and applied.copied < END:
                    moved = await self._copy_step(member)
                elif applied.index < max(applied.copied_index, member.joined_index):
                    async with self._lock:
                        self._freeze()
                    moved = False
                else:
                    moved = await self._finish(member)
                if not moved:
                    self._wake()
                await self._clock.sleep(self._settings.copy_pause)
            await self._lanes.run(member.unit.background, member.forget_aside)
            self.say("metadata.rebuild_ended", disk=member.disk_id)
        except (apsw.Error, OSError) as error:
            self._disk_failed(member, f"rebuild: {error!r}")
        finally:
            member.rebuilding = member.rebuilding and member.rebuilds != number

    async def _finish(self, member: Member) -> bool:
        """All is copied and the layers have caught up: complete, once that is durable (K5)."""
        async with member.gate:
            database, applied = member.db, member.applied
            if database is None or applied is None or applied.copied is None:
                return False
            done = replace(applied, copied=None)
            call = partial(member.finish, done)
            if not await self._lanes.run(member.unit.background, call, deadline=self._deadline()):
                return False
            if done.index < member.joined_index:
                return False  # it became a member meanwhile
            member.applied, member.durable_index = done, done.index
            return True

    async def _copy_step(self, member: Member) -> bool:
        """Copy the next rows; False when no file is far enough to copy from."""
        async with member.gate:
            source, applied = self.serving(), member.applied
            if source is None or source.db is None or member.db is None or applied is None or applied.copied is None:
                return False
            if source.applied is None or source.applied.index < applied.index:
                return False
            limit, at = self._settings.copy_rows, applied.copied
            rows: list[tuple[RowKey, bytes]] = []
            feed: list[FeedRow] = []
            done: RowKey
            try:
                if at.kind == 0:
                    copied = int.from_bytes(at.seq, "big")
                    index, feed = await self._lanes.run(source.unit.reading, partial(source.db.feed, copied, limit))
                    full = len(feed) == limit
                    done = RowKey(0, b"", feed[-1].seq.to_bytes(8, "big")) if full else RowKey(1, b"", b"")
                else:
                    index, rows = await self._lanes.run(
                        source.unit.reading, partial(source.db.rows, at, END, limit, inline=False)
                    )
                    done = after(rows[-1][0]) if len(rows) == limit else END
            except (apsw.Error, OSError) as error:
                self.read_failed(source, error)
                return False
            step = replace(applied, copied=done, copied_index=max(applied.copied_index, index))
            await self._lanes.run(
                member.unit.background, partial(member.db.copy_in, rows, feed, step), deadline=self._deadline()
            )
            member.applied = step
            return True

    # Retries, comparison, housekeeping

    async def _tend(self) -> None:
        while True:
            await self._clock.sleep(self._settings.apply_interval)
            if self._overlay.active.size:
                async with self._lock:
                    self._freeze()
            self._wake()
            for member in self._chain.set:
                if member.distrusted and not member.rebuilding and member.standing is Standing.MEMBER:
                    await self._replace_file(member)
            if self._settings.verify_every and self._clock.monotonic() >= self._verify_at and not self._verifying:
                self._verify_at = self._clock.monotonic() + self._settings.verify_every
                self._background.once("metadata-verify", self._verify_quietly())
            if any(member.standing is Standing.FAILED for member in self._chain.set):
                now = self._clock.monotonic()
                for member in self._members:
                    if member.standing is Standing.FAILED:
                        if now - member.failed_at >= self._settings.retry_failed_after:
                            await self.readmit(member.disk_id)

    async def readmit(self, disk_id: str) -> bool:
        """Probe a failed disk; a spare from now on when it answers, used at once when members are wanting."""
        for member in self._members:
            if member.disk_id == disk_id and member.standing is Standing.FAILED and not member.rebuilding:
                member.failed_at = self._clock.monotonic()
                try:
                    await self._lanes.run(member.unit.background, member.probe, deadline=self._deadline())
                    await self._lanes.run(member.unit.background, member.drop_db, deadline=self._deadline())
                except OSError as error:
                    member.reason = f"still failing: {error!r}"
                    return False
                async with self._lock:
                    if member in self._chain.set:
                        self._chain.set = [one for one in self._chain.set if one is not member]
                        self._chain.doubtful = True
                    member.standing, member.reason, member.distrusted = Standing.SPARE, "", False
                await self._new_term()
                return True
        return False

    async def _verify_quietly(self) -> None:
        self._verifying = True
        try:
            await self.verify()
        except (apsw.Error, OSError, Unavailable) as error:
            self.say("metadata.verify_failed", error=repr(error))
        finally:
            self._verifying = False

    async def verify(self) -> list[str]:
        """See EmbeddedStorage.verify_members."""
        async with self._lock:
            self._freeze()
        members = [member for member in self._chain.set if member.serves and member.standing is Standing.MEMBER]
        differences, wrong = await compare(members, apply=self._apply, lanes=self._lanes)
        if differences:
            self.say("metadata.members_differ", ranges=len(differences), first=differences[0])
        for member in wrong:
            self._distrust(member, "differs from the other members")
        return differences

    def _want_prepared(self) -> None:
        self._background.once("metadata-prepare", self._prepare())

    async def _prepare(self) -> None:
        await self._chain.prepare_next()
        if self._chain.doubtful:
            await self._new_term()

    def _deadline(self, patience: float = 0.0) -> float:
        return self._clock.monotonic() + (patience or self._settings.disk_deadline)
