# SPDX-License-Identifier: Apache-2.0
"""How an installation is, as values: what `drystone status` shows and what the services' GetStatus answers."""

from dataclasses import dataclass
from enum import IntEnum

from drystone_core.profiles import Profile
from drystone_core.storage_classes import ShortClass, StorageClasses, short_classes


class Health(IntEnum):
    """In one word; greater is worse."""

    OK = 1
    WARN = 2
    """Everything is served, with less redundancy or room than wanted."""
    ERROR = 3
    """Something is refused or lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReason:
    """Why health is not OK."""

    code: str
    """Constant, e.g. DISK_FAILED."""
    severity: Health
    summary: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """One disk."""

    disk_id: str
    path: str
    state: str
    """healthy, suspect or failed."""
    total_bytes: int = 0
    """0 when unknown."""
    free_bytes: int = 0
    disk_class: str = ""
    """As its identity says; empty when unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubStatus:
    """How far the storage node's closed volumes were read through since the process started."""

    volumes: int = 0
    """Closed volumes."""
    verified: int = 0
    """Of these, read to the end at least once; damage in the others may not be known yet."""
    passes: int = 0
    """Times every closed volume was read."""
    bytes_read: int = 0
    slots_damaged: int = 0
    """Damaged slots that only scrubbing met."""
    stripes_incomplete: int = 0
    """Stripes of which fewer than k fragments are good: torn by a crash (never acknowledged), or lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPassStatus:
    """How far the present pass over all closed volumes is, or how the last one ended; it survives restarts."""

    running: bool = False
    """Begun and not ended, also while it waits for a process to be back."""
    began: int = 0
    """Unix seconds; 0 = there was none yet."""
    finished: int = 0
    """Unix seconds; 0 = not yet."""
    next_begins: int = 0
    """Unix seconds at which the next one begins by itself; 0 = never, or one is running."""
    volumes: int = 0
    """Closed volumes the pass covers; 0 until they are listed."""
    done: int = 0
    """Of these, looked at."""
    unclean: int = 0
    """Of these, with damage at their last look, or not read whole."""
    bytes_read: int = 0
    """Of volumes that are done."""
    slots_damaged: int = 0
    """Found by the pass, each time."""
    seconds_left: int = 0
    """At the pace so far; 0 = unknown, or nothing is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """A storage node's disks and volumes."""

    profile: str
    disks: tuple[DiskStatus, ...]
    open_volumes: int = 0
    closed_volumes: int = 0
    degraded_volumes: int = 0
    """With at least one slot missing or known to be damaged."""
    scrub: ScrubStatus = ScrubStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """What the process that serves S3 answered since it started."""

    connections: int = 0
    """Open now."""
    requests_now: int = 0
    """Being answered now."""
    connections_total: int = 0
    requests: int = 0
    """Begun."""
    answers_4xx: int = 0
    answers_5xx: int = 0
    answers_503: int = 0
    """Of these, told to try again: a limit was hit, or a service was not able to."""
    bytes_in: int = 0
    """Payload bytes of requests that ended."""
    bytes_out: int = 0
    """Bytes of answers that ended, heads included."""
    refused_connections: int = 0
    """Beyond the limit of connections, or while draining."""
    refused_requests: int = 0
    """Beyond the limit of requests answered at once."""
    refused_bodies: int = 0
    """Beyond the limit of bodies received at once."""
    refused_heads: int = 0
    """Not HTTP, or too much of it."""
    slow_clients: int = 0
    """Given up because they sent or took bytes too slowly."""
    broken_answers: int = 0
    """Connections reset because an answer could not be completed."""
    failures: int = 0
    """Requests that ended in an unexpected error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """One copy of the metadata."""

    path: str
    role: str
    """primary, follower or away."""
    head: int = 0
    """Sequence number of its last durable commit."""
    lag: int = 0
    """Commits its tables are behind its journal; replayed when it has to take over."""
    reason: str = ""
    """Why it is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimStatus:
    """What freeing has done since the process started."""

    running: bool = False
    passes: int = 0
    volumes_freed: int = 0
    stripes_freed: int = 0
    stripes_waiting: int = 0
    """Dead, within their grace period."""
    bytes_freed: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairStatus:
    """What repair has done since the process started, and what is left."""

    running: bool = False
    slots_pending: int = 0
    slots_repaired: int = 0
    bytes_pending: int = 0
    bytes_repaired: int = 0
    failures: int = 0
    endangered: int = 0
    """Volumes that would lose bytes with the next loss."""
    hopeless: int = 0
    """Slots of volumes with fewer than k readable ones now."""
    waiting: int = 0
    """Slots (at least so many) that are missing or damaged and cannot be rebuilt now: their disk may come back, or there is
    no disk to rebuild on."""
    unasked: tuple[str, ...] = ()
    """Storage nodes that could not be asked: what only they know is not counted."""
    seconds_left: int = 0
    """At the present rate; 0 = unknown, or nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process of the installation."""

    role: str
    """supervisor, main or background."""
    pid: int
    restarts: int = 0
    uptime_seconds: int = 0


@dataclass(frozen=True, slots=True)
class TabletCounts:
    """What a metadata process has to do."""

    tablets: int
    """That it owns now."""
    moves: int = 0
    """Of these, in the course of a split or a join."""
    changes: int = 0
    """Of buckets, which it knows of as the first tablet's owner and has not ended yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProcess:
    """One process of a cell whose services stand on their own."""

    role: str
    """gateway, metadata, storage-node, lifecycle or replication."""
    name: str
    endpoint: str
    zone: str = ""
    state: str = "serving"
    """serving or draining."""
    part: str = ""
    """What falls to it among its equals; empty = nothing."""
    clock_fault: str = ""
    """How its clock differs from most others', as it found itself; empty = it does not."""
    tablets: TabletCounts | None = None
    """Of a metadata process; None: another role, or it did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcMethodStatus:
    """Calls of one method to another service."""

    method: str
    """/package.Service/Method"""
    calls: int
    """That ended."""
    failures: int
    """Of these, with another status than OK."""
    seconds: float
    """That all of them took together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStatus:
    """One screen."""

    version: str
    cluster_id: str
    endpoint: str
    uptime_seconds: int
    node: NodeStatus
    metadata_writable: bool = True
    """False: names cannot be committed now, so every write is refused."""
    term: int = 0
    """Of the metadata's primary; it grows with each change of members."""
    background_answers: bool = True
    """False: the background process said nothing in time, so repair, reclaim and scrub are not known."""
    members: tuple[MemberStatus, ...] = ()
    reclaim: ReclaimStatus = ReclaimStatus()
    repair: RepairStatus = RepairStatus()
    processes: tuple[ProcessStatus, ...] = ()
    gateway: GatewayStatus = GatewayStatus()
    scrub_pass: ScrubPassStatus | None = None
    """None: the background process did not say."""
    cell: tuple[CellProcess, ...] = ()
    """The cell's processes; empty when the store is alone."""
    rpc: tuple[RpcMethodStatus, ...] = ()
    """Calls that the answering gateway made to other services since it started."""
    classes: StorageClasses = StorageClasses()
    """On which disks the objects of each storage class lie."""

    def reasons(self) -> tuple[HealthReason, ...]:
        """Everything that keeps health from OK, worst first."""
        found = [reason for disk in self.node.disks if (reason := _disk_reason(disk)) is not None]
        if not self.metadata_writable:
            found.append(
                HealthReason(
                    code="WRITES_REFUSED",
                    severity=Health.ERROR,
                    summary="no metadata process owns the names: writes wait, then are refused; reads go on"
                    if self.cell
                    else "too few healthy disks hold metadata: writes are refused, reads go on",
                    next_step="start a metadata process, or see why none is ready"
                    if self.cell
                    else "return or replace failed disks",
                )
            )
        if self.node.degraded_volumes:
            count = self.node.degraded_volumes
            found.append(
                HealthReason(
                    code="VOLUMES_DEGRADED",
                    severity=Health.WARN,
                    summary=f"{count} volume{'s lack' if count != 1 else ' lacks'} at least one fragment; all are readable",
                    next_step="repair runs by itself; return or replace the missing disk if it needs room",
                )
            )
        away = [member.path for member in self.members if member.role == "away"]
        if away:
            found.append(
                HealthReason(
                    code="METADATA_MEMBER_AWAY",
                    severity=Health.WARN,
                    summary=f"metadata has {len(self.members) - len(away)} of {len(self.members)} copies",
                    next_step=f"return or replace {', '.join(away)}",
                )
            )
        if not self.background_answers:
            found.append(
                HealthReason(
                    code="BACKGROUND_AWAY",
                    severity=Health.WARN,
                    summary="no replication process leads and answers: nothing is repaired just now"
                    if self.cell
                    else "the background process does not answer: nothing is repaired or freed just now",
                    next_step="start one, or see its log"
                    if self.cell
                    else "it is replaced by itself; when this stays, see `background` lines of the log",
                )
            )
        found += self._class_reasons()
        found += [_clock_reason(process) for process in self.cell if process.clock_fault]
        found += _repair_reasons(self.repair)
        return tuple(sorted(found, key=lambda reason: -reason.severity))

    def _class_reasons(self) -> list[HealthReason]:
        if not self.node.profile:
            return []
        disks = self.node.disks
        usable = [disk.disk_class for disk in disks if disk.state == "healthy"]
        every = [disk.disk_class for disk in disks]
        shorts = short_classes(self.classes, usable, every, Profile.parse(self.node.profile))
        return [_class_reason(short, ", ".join(self.classes.named(short.disk_class))) for short in shorts]

    def health(self) -> Health:
        """The worst of the reasons."""
        return max((reason.severity for reason in self.reasons()), default=Health.OK)


def _clock_reason(process: CellProcess) -> HealthReason:
    return HealthReason(
        code="CLOCK_WRONG",
        severity=Health.WARN,
        summary=f"{process.role} {process.name} says: {process.clock_fault.partition(':')[0]}",
        next_step="set the clock that is wrong (NTP); it is compared again by itself",
    )


def _class_reason(short: ShortClass, named: str) -> HealthReason:
    disks = f"{short.usable} disk{'s' if short.usable != 1 else ''} of class {short.disk_class} can be written"
    return HealthReason(
        code="CLASS_SHORT",
        severity=Health.ERROR if short.refused else Health.WARN,
        summary=f"{disks}, {short.needed} are needed: writes of {named} are refused"
        if short.refused
        else f"{disks}, of {short.wanted}: volumes of {named} are narrower",
        next_step=f"return or replace disks of class {short.disk_class}, or add some; other classes do not stand in",
    )


def _repair_reasons(repair: RepairStatus) -> list[HealthReason]:
    found = []
    if repair.hopeless:
        count = repair.hopeless
        found.append(
            HealthReason(
                code="VOLUMES_UNREADABLE",
                severity=Health.ERROR,
                summary=f"{count} slot{'s' if count != 1 else ''} cannot be rebuilt: too few of their volumes' disks are at hand",
                next_step="bring back the disks that are away; nothing is given up by itself",
            )
        )
    if repair.unasked:
        found.append(
            HealthReason(
                code="NODES_UNASKED",
                severity=Health.WARN,
                summary=f"repair cannot ask storage nodes {', '.join(repair.unasked)}: what only they know is not counted",
                next_step="see why they do not answer; when they are gone they are left out by themselves",
            )
        )
    if repair.failures:
        found.append(
            HealthReason(
                code="REPAIR_FAILED",
                severity=Health.WARN,
                summary=f"{repair.failures} rebuilds ended in an error since the process started",
                next_step="see the log for `repair.` events",
            )
        )
    return found


def _disk_reason(disk: DiskStatus) -> HealthReason | None:
    if disk.state == "failed":
        return HealthReason(
            code="DISK_FAILED",
            severity=Health.WARN,
            summary=f"disk {disk.path} is neither read nor written",
            next_step="return it, or put an empty directory or disk in its place: repair refills it",
        )
    if disk.state == "suspect":
        return HealthReason(
            code="DISK_SUSPECT",
            severity=Health.WARN,
            summary=f"disk {disk.path} failed, was late or slows the others down; nothing new is placed on it for a while",
            next_step="see the log for `disk.` events; replace it when this repeats",
        )
    if disk.total_bytes and disk.free_bytes < disk.total_bytes // 20:
        return HealthReason(
            code="DISK_NEARLY_FULL",
            severity=Health.WARN,
            summary=f"disk {disk.path} has less than 5 % free",
            next_step="delete data or add disks",
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentReport:
    """One fragment of one stripe, as an inspection found it."""

    slot: int
    disk: str
    """The disk's directory; empty when the slot is away."""
    state: str
    """ok, bad or away."""
    problem: str = ""
    file: str = ""
    """Path of the shard file; empty when the slot is away."""
    offset: int = 0
    """Where the fragment's bytes begin in the file."""
    length: int = 0
    """Stored bytes of the fragment; fewer than its share when it is all zeros or freed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeReport:
    """One stripe that holds bytes of an inspected object."""

    volume: str
    record: int
    profile: str
    form: str
    """packed or striped."""
    length: int
    """Object bytes it holds."""
    fragments: tuple[FragmentReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReport:
    """One object version and its fragments."""

    version_id: str
    size: int
    etag: str
    stripes: tuple[StripeReport, ...]
