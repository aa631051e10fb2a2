# SPDX-License-Identifier: Apache-2.0
"""A whole cell on one machine, every service a process of its own: three etcd members, Cassandra, and Drystone's own.

    python -m drystone_testing.cluster DIR

starts it in the foreground (`make cluster`); a later start on the same DIR goes on where it was. Tests start, stop, kill and
pause its processes by name. TLS between all services; ports are free ones, kept in DIR/cluster.json.
"""

import argparse
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drystone_testing.cassandra_node import CassandraNode
from drystone_testing.cassandra_node import missing as missing_cassandra
from drystone_testing.cassandra_ring import CassandraRing
from drystone_testing.etcd_servers import MISSING, EtcdServers, find_etcd, free_ports
from drystone_testing.live import drystone_command
from drystone_testing.mounted_disks import MountedDisks
from drystone_testing.moved_clock import move
from drystone_testing.network import Network
from drystone_testing.service_process import START_SECONDS, Service

CELL = "local"
ROLES = ("metadata", "storage-node", "gateway", "lifecycle", "replication")
"""In the order of their start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many of each."""

    gateways: int = 2
    metadata: int = 2
    nodes: int = 6
    disks_each: int = 1
    lifecycle: int = 1
    replication: int = 1
    etcd: int = 3
    zones: int = 3
    disk_classes: Mapping[str, str] = field(default_factory=dict)
    """Pattern of a directory (`*/disk-2`) → class of the disk."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Storage class → class of the disks it lies on."""
    profile: str = "rs-4-2"
    session: str = "4s"
    """A process that is silent for so long counts as gone."""
    durable_etcd: bool = False
    tablet_rows: int = 100_000
    """A tablet with more rows is split."""
    namespaces: bool = False
    """Each metadata process and storage node is a host of its own that can be cut off (needs root)."""
    ring: bool = False
    """Cassandra is three nodes with a copy of every row on each."""
    disk_size: str = ""
    """Each disk is a file system of its own of this size that can be taken away (needs root); empty: a directory."""
    moved_clocks: bool = False
    """The wall clock of each process can be moved (`Cluster.move_clock`)."""
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Of every process, beside what is set here: section → key → value."""

    def count(self, role: str) -> int:
        """Of a role's processes."""
        counts = {
            "gateway": self.gateways, "metadata": self.metadata, "storage-node": self.nodes,
            "lifecycle": self.lifecycle, "replication": self.replication,
        }  # fmt: skip
        return counts[role]


def missing_etcd() -> str | None:
    """Why no etcd can be started here."""
    return None if find_etcd() else MISSING


class Cluster:
    """The cell. `start()` once; processes by name in `services`."""

    def __init__(
        self,
        root: Path,
        shape: Shape | None = None,
        *,
        s3_ports: Sequence[int] = (),
        credential: tuple[str, str] | None = None,
    ) -> None:
        """`credential`: access key and secret key of root; else random ones, kept in `root`."""
        self.root, self.shape = root.absolute(), shape or Shape()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._remembered(s3_ports)
        self._known = known["ports"]
        self.access_key, self.secret_key = credential or (str(known["access_key"]), str(known["secret_key"]))
        shape = self.shape
        self.network = Network() if shape.namespaces else None
        self._address = self.network.gateway if self.network else "127.0.0.1"
        """Of whatever is no host of its own."""
        self.etcd = EtcdServers(
            self.root / "etcd",
            shape.etcd,
            ports=self._known["etcd"],
            durable=shape.durable_etcd,
            address=self.network.other if self.network else self._address,
        )
        self.ring = CassandraRing(self.root / "cassandra") if shape.ring else None
        self.cassandra = (
            self.ring.members[0]
            if self.ring
            else CassandraNode(
                self.root / "cassandra",
                address=self._address,
                port=self._known["cassandra"][0],
                storage_port=self._known["cassandra"][1],
            )
        )
        """The only one, or the first of the ring."""
        self.services: dict[str, Service] = {}
        for role in ROLES:
            for index in range(shape.count(role)):
                one = self._service(role, index)
                self.services[one.name] = one
        self.mounts = self._mounts() if shape.disk_size else None
        """The disks that can be taken away, in the order of `disk_paths`."""

    @property
    def endpoints(self) -> list[str]:
        """Of the gateways' S3."""
        return [f"http://127.0.0.1:{port}" for port in self._known["s3"][: self.shape.gateways]]

    @property
    def s3_ports(self) -> list[int]:
        """Of the gateways' S3, on the loopback."""
        return list(self._known["s3"][: self.shape.gateways])

    def owner(self) -> Service:
        """The metadata process that owns the names, as a gateway sees it."""
        owners = [one["name"] for one in self.status()["cell"] if one["part"] == "owns the names"]
        return self.services[owners[0]]

    def status(self) -> dict[str, Any]:
        """What `drystone status --json` says through the first gateway that runs."""
        alive = next(one for one in self.of("gateway") if one.alive)
        command = [*drystone_command(), "status", "--state-dir", str(self.root / alive.name / "state"), "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if ran.returncode not in (0, 1):
            raise RuntimeError(f"drystone status: {ran.stderr}")
        answer: dict[str, Any] = json.loads(ran.stdout)
        return answer

    def said(self, role: str, event: str) -> int:
        """How often processes of a role have logged an event so far."""
        mark = f'"event": "{event}"'
        return sum(one.log.read_text(errors="replace").count(mark) for one in self.of(role) if one.log.exists())

    def of(self, role: str) -> list[Service]:
        """The processes of a role."""
        return [one for one in self.services.values() if one.role == role]

    def start(self, *, say: Callable[[str], None] = lambda text: None) -> "Cluster":
        """Everything; returns when all are ready. `say` hears what is being waited for. RuntimeError: `root` is in use."""
        self._lock = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another cell runs in {self.root}: stop it, or give another directory") from None
        say("etcd and Cassandra …")
        self.start_stores()
        for role in ROLES:
            if self.of(role):
                say(f"{', '.join(one.name for one in self.of(role))} …")
            for one in self.of(role):
                one.start()
            for one in self.of(role):
                one.wait()
        return self

    def start_stores(self) -> None:
        """etcd, Cassandra, certificates, the cell's identity."""
        self.etcd.start()
        (self.ring or self.cassandra).start()
        self._run("certs", "init", str(self.root / "certs"), "--cell", CELL, *self._identities())
        self._run("cell", "init")

    def heal(self) -> None:
        """Join what was cut off, set the clocks right, let what stands still go on, start what does not run, wait until all
        serve."""
        for one in self.services.values() if self.shape.moved_clocks else ():
            self.move_clock(one, 0.0)
        if self.network is not None:
            for one in (*self.of("metadata"), *self.of("storage-node")):
                self.network.join(one.name)
        for member in self.etcd.members:
            if member.process is None:
                member.start()
            member.signal(signal.SIGCONT)
        for member in self.etcd.members:
            self.etcd.wait(member)
        fallen = [one for one in self.services.values() if not one.alive]
        for one in self.services.values():
            if one.alive:
                one.signal(signal.SIGCONT)
        for one in fallen:
            one.start()
        for one in fallen:
            one.wait()
        self.await_whole()

    def await_whole(self) -> None:
        """Until every process is registered and every disk healthy, as the first gateway sees it.

        One that was taken away may be `suspect` for ten minutes: it is in service, and takes nothing new.
        """
        until, well = time.monotonic() + START_SECONDS, ("healthy", "suspect") if self.mounts else ("healthy",)
        while True:
            seen = self.status()
            away = set(self.services) - {one["name"] for one in seen["cell"] if one["state"] == "serving"}
            bad = [disk for disk in seen["disks"] if disk["state"] not in well]
            if not away and not bad and len(seen["disks"]) == self.disks:
                return
            if time.monotonic() > until:
                raise RuntimeError(f"the cell is not whole: {sorted(away)} are away, {bad}")
            time.sleep(0.2)

    @property
    def disks(self) -> int:
        """Of all storage nodes."""
        return self.shape.nodes * self.shape.disks_each

    @property
    def disk_paths(self) -> list[Path]:
        """Of all storage nodes' disks, node by node."""
        each = range(self.shape.disks_each)
        return [
            self.root / f"node-{node + 1}" / f"disk-{disk + 1}" for node in range(self.shape.nodes) for disk in each
        ]

    def stop(self) -> None:
        """Everything, services first."""
        for role in reversed(ROLES):
            for one in self.of(role):
                one.ask_to_stop()
            for one in self.of(role):
                one.stop()
        (self.ring or self.cassandra).stop()
        self.etcd.kill()
        if self.network is not None:
            self.network.close()
        if self.mounts is not None:
            self.mounts.unmount()

    def move_clock(self, one: Service, seconds: float) -> None:
        """Its clock is so far ahead of the machine's from now on, until it is moved again or starts anew."""
        move(self.root / one.name / "clock", seconds)

    def run(self, *arguments: str) -> str:
        """What a `drystone` command says; RuntimeError when it fails."""
        return self._run(*arguments)

    def _remembered(self, s3_ports: Sequence[int]) -> dict[str, Any]:
        """Ports and the root credential, made once."""
        file, shape = self.root / "cluster.json", self.shape
        known = json.loads(file.read_text()) if file.exists() else {}
        if not known:
            known["access_key"] = "DRYS" + secrets.token_hex(8).upper()
            known["secret_key"] = secrets.token_urlsafe(30)
            known["ports"] = {}
        wanted = {"etcd": 3 * shape.etcd, "cassandra": 2, "s3": shape.gateways} | {r: shape.count(r) for r in ROLES}
        if s3_ports:
            known["ports"]["s3"] = list(s3_ports)
        for what, count in wanted.items():
            have: list[int] = known["ports"].setdefault(what, [])
            have += free_ports(count - len(have)) if len(have) < count else []
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(known, out)
        return known

    def _identities(self) -> list[str]:
        names = [f"{role}:{one.name}" for role in ROLES for one in self.of(role)] + ["admin:operator"]
        return [part for name in names for part in ("--service", name)]

    def _service(self, role: str, index: int) -> Service:
        short = {"storage-node": "node"}.get(role, role)
        name = f"{short}-{index + 1}"
        port, folder = self._known[role][index], self.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        before: tuple[str, ...] = ()
        address = self._address
        if self.network is not None and role in ("metadata", "storage-node"):
            address, before = self.network.add(name), self.network.command(name)
        config = folder / "drystone.toml"
        config.write_text(self._config(role, index, name, f"{address}:{port}"))
        disks = [str(path) for path in self.disk_paths if path.parent == folder]
        program = drystone_command()
        if self.shape.moved_clocks:
            program = [sys.executable, "-m", "drystone_testing.moved_clock", str(folder / "clock")]
        command = (*before, *program, role, "--config", str(config))
        return Service(
            role=role,
            name=name,
            command=(*command, *(disks if role == "storage-node" else ())),
            environment=self._environment(),
            log=folder / "log",
            port=port,
        )

    def _config(self, role: str, index: int, name: str, listen: str) -> str:
        certs, folder = self.root / "certs", self.root / name
        sections: dict[str, dict[str, object]] = {
            "node": {"name": name, "state": str(folder / "state"), "zone": f"zone-{index % self.shape.zones + 1}"},
            "rpc": {
                "listen": listen,
                "tls_ca": str(certs / "ca.crt"),
                "tls_cert": str(certs / f"{role}-{name}.crt"),
                "tls_key": str(certs / f"{role}-{name}.key"),
            },
            "storage": {
                "profile": self.shape.profile,
                "disk_classes": dict(self.shape.disk_classes),
                "classes": dict(self.shape.classes),
            },
            "metadata": {"tablet_rows": self.shape.tablet_rows},
            "log": {"format": "json"},
            **self._stores(),
        }
        for section, values in self.shape.settings.items():
            sections[section] = {**sections.get(section, {}), **values}
        if role == "gateway":
            sections["server"] = {"listen": f"127.0.0.1:{self._known['s3'][index]}"}
        return _toml(sections)

    def _stores(self) -> dict[str, dict[str, object]]:
        return {
            "coordinator": {"endpoints": list(self.etcd.endpoints), "session": self.shape.session},
            "cassandra": {
                "contact_points": [one.address for one in (self.ring.members if self.ring else [self.cassandra])],
                "port": self.cassandra.port,
                "replication": len(self.ring.members) if self.ring else 1,
            },
        }

    def _mounts(self) -> MountedDisks:
        paths = self.disk_paths
        backing = [self.root / "backing" / f"{path.parent.name}-{path.name}" for path in paths]
        return MountedDisks(paths, backing, size=self.shape.disk_size, images=True)

    def _environment(self) -> dict[str, str]:
        return {"DRYSTONE_ROOT_ACCESS_KEY": self.access_key, "DRYSTONE_ROOT_SECRET_KEY": self.secret_key}

    def _run(self, *arguments: str) -> str:
        config = self.root / "operator.toml"
        config.write_text(_toml(self._stores()))
        if arguments[:2] == ("cell", "init"):
            arguments = (*arguments, "--config", str(config))
        command = (*drystone_command(), *arguments)
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if ran.returncode:
            raise RuntimeError(f"drystone {' '.join(arguments)}:\n{ran.stdout}{ran.stderr}")
        return ran.stdout


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_value(value)}" for key, value in values.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {json.dumps(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def main() -> None:
    """The cell in the foreground, until it is told to end."""
    parser = argparse.ArgumentParser(
        prog="make cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="where everything lies; a later start goes on with it")
    parser.add_argument("--nodes", type=int, default=6, help="storage nodes (default 6)")
    parser.add_argument("--disks", type=int, default=1, help="disks of each (default 1)")
    parser.add_argument("--gateways", type=int, default=2, help="gateways (default 2)")
    parser.add_argument("--metadata", type=int, default=2, help="metadata processes (default 2)")
    parser.add_argument("--profile", default="rs-4-2", help="of the storage nodes' volumes (default rs-4-2)")
    parser.add_argument("--s3-port", type=int, default=9000, help="of the first gateway; the next ones follow (9000)")
    given = parser.parse_args()
    if (reason := missing_etcd() or missing_cassandra()) is not None:
        raise SystemExit(f"make cluster: {reason}")
    shape = Shape(
        nodes=given.nodes, disks_each=given.disks, gateways=given.gateways, metadata=given.metadata,
        profile=given.profile, durable_etcd=True,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    cluster = Cluster(given.directory, shape, s3_ports=range(given.s3_port, given.s3_port + given.gateways))
    try:
        cluster.start(say=lambda text: print(text, file=sys.stderr, flush=True))
        _greet(cluster)
        _watch(cluster)
    except RuntimeError as error:
        raise SystemExit(f"make cluster: {error}") from error
    finally:
        print("stopping …", file=sys.stderr, flush=True)
        cluster.stop()


def _leave(number: int, frame: object) -> None:
    """The first signal ends the cell in order; further ones change nothing."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def _greet(cluster: Cluster) -> None:
    credentials = cluster.root / "root-credential"
    text = f"[default]\naws_access_key_id = {cluster.access_key}\naws_secret_access_key = {cluster.secret_key}\n"
    descriptor = os.open(credentials, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    state = cluster.root / "gateway-1" / "state"
    before = f"AWS_SHARED_CREDENTIALS_FILE={credentials} AWS_DEFAULT_REGION=us-east-1"
    lines = [f"a cell of {len(cluster.services)} processes in {cluster.root}"]
    lines += [f"  endpoint    {endpoint}" for endpoint in cluster.endpoints]
    lines += [
        f"  access key  {cluster.access_key}",
        f"  secret key  in {credentials}",
        f"  try         {before} aws --endpoint-url {cluster.endpoints[0]} s3 mb s3://first",
        f"  status      drystone status --state-dir {state}",
        f"  logs        {cluster.root}/NAME/log",
        "  stop        Ctrl-C, or SIGTERM to this process",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
    print(f"ready {' '.join(cluster.endpoints)}", flush=True)


def _watch(cluster: Cluster) -> None:
    """Say when a process has ended; nobody starts it again here: that is what one wants to look at."""
    said: set[str] = set()
    while True:
        time.sleep(0.5)
        for one in cluster.services.values():
            if not one.alive and one.name not in said:
                said.add(one.name)
                print(f"{one.name} has ended; its last words are in {one.log}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
