# SPDX-License-Identifier: Apache-2.0
"""What a cell costs beside a store that is alone, and where: `make bench-cluster [SECONDS=…]`.

One run starts a standalone store on six directories, then a cell of six storage nodes on this machine (TLS between its
services), and drives each with the same closed loop. For each step: operations a second, latency, CPU time of each service per
operation (user + system, from /proc), and the gRPC calls the gateways made per operation. Results go to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import servers
from drystone_testing.cluster import Cluster
from drystone_testing.live import LiveStore
from drystone_testing.process_figures import cpu_seconds

KIB, MIB = 1024, 1 << 20
CREDENTIAL = (servers.ACCESS_KEY, servers.SECRET_KEY)
METADATA, STORAGE = "/drystone.metadata.v1.MetadataService/", "/drystone.storage.v1.StorageService/"


def steps(connections: tuple[int, ...]) -> Iterator[tuple[str, int, tuple[object, ...]]]:
    """Name, connections (0 = not timed) and what the load generator is told."""
    for count in connections:
        yield "put4k", count, ("-op", "put", "-size", 4 * KIB, "-conc", count, "-prefix", "p/")
    fill = ("-op", "fill", "-size", 4 * KIB, "-objects", 1000, "-conc", 16, "-dur", "0s", "-prefix", "g/")
    yield "fill", 0, fill
    for count in connections:
        yield "get4k", count, ("-op", "get", "-size", 4 * KIB, "-objects", 1000, "-conc", count, "-prefix", "g/")
    for count in connections:
        yield "head", count, ("-op", "head", "-objects", 1000, "-conc", count, "-prefix", "g/")
    yield "put10m", 4, ("-op", "put", "-size", 10 * MIB, "-conc", 4, "-prefix", "b/")
    fill = ("-op", "fill", "-size", 10 * MIB, "-objects", 8, "-conc", 4, "-dur", "0s", "-prefix", "h/")
    yield "fill", 0, fill
    yield "get10m", 4, ("-op", "get", "-size", 10 * MIB, "-objects", 8, "-conc", 4, "-prefix", "h/")


def drive(loader: str, endpoint: str, arguments: tuple[object, ...], seconds: float) -> dict[str, Any]:
    """One run of the load generator."""
    access, secret = CREDENTIAL
    argv = [loader, "-endpoint", endpoint, "-ak", access, "-sk", secret, *map(str, arguments)]
    if "-payload" not in arguments:
        argv += ["-payload", "unique" if "fill" in arguments else "signed"]
    if "-dur" not in arguments:
        argv += ["-dur", f"{seconds}s"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
    return found


class Standalone:
    """A store that is alone."""

    name = "standalone"

    def __init__(self, root: Path) -> None:
        self._store = LiveStore(
            *(root / f"d{i}" for i in range(6)),
            environment={"DRYSTONE_ROOT_ACCESS_KEY": CREDENTIAL[0], "DRYSTONE_ROOT_SECRET_KEY": CREDENTIAL[1]},
        )

    def __enter__(self) -> Standalone:
        self._store.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._store.stop()

    @property
    def endpoint(self) -> str:
        return self._store.endpoint

    def cpu(self) -> dict[str, float]:
        return {"store": cpu_seconds(self._store.pids())}

    def calls(self) -> dict[str, int]:
        return {}


class Cell:
    """A cell of many processes; the load goes to one gateway, whose calls are counted."""

    name = "cell"

    def __init__(self, root: Path) -> None:
        self._cluster = Cluster(root, credential=CREDENTIAL)

    def __enter__(self) -> Cell:
        self._cluster.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.stop()

    @property
    def endpoint(self) -> str:
        return self._cluster.endpoints[0]

    def cpu(self) -> dict[str, float]:
        cluster = self._cluster
        spent = {
            role: cpu_seconds([one.pid for one in cluster.of(role) if one.alive])
            for role in ("gateway", "metadata", "storage-node")
        }
        spent["cassandra"] = cluster.cassandra.cpu_seconds()
        spent["etcd"] = cpu_seconds([member.process.pid for member in cluster.etcd.members if member.process])
        return spent

    def calls(self) -> dict[str, int]:
        return {one["method"]: one["calls"] for one in self._cluster.status()["rpc"]}


def measure(target: Standalone | Cell, loader: str, plan: argparse.Namespace, out: Path) -> None:
    """All steps against one."""
    connections = tuple(int(count) for count in plan.connections.split(","))
    drive(loader, target.endpoint, ("-op", "mb", "-payload", "signed"), 0)
    for name, count, arguments in steps(connections):
        cpu, calls = target.cpu(), target.calls()
        row = drive(loader, target.endpoint, arguments, plan.seconds)
        if not count:
            continue
        operations = max(int(row["ops"]), 1)
        row |= {
            "tag": target.name, "name": name, "at": int(time.time()),
            "cpu_us_op": {part: (now - cpu[part]) / operations * 1e6 for part, now in target.cpu().items()},
            "calls_op": _per_operation(calls, target.calls(), operations),
        }  # fmt: skip
        with out.open("a") as sink:
            sink.write(json.dumps(row) + "\n")
        print(_line(row), flush=True)


def _per_operation(before: Mapping[str, int], after: Mapping[str, int], operations: int) -> dict[str, float]:
    found = {"metadata": 0.0, "storage": 0.0}
    for method, count in after.items():
        spent = (count - before.get(method, 0)) / operations
        if method.startswith(METADATA):
            found["metadata"] += spent
        elif method.startswith(STORAGE) and not method.endswith("GetStatus"):
            found["storage"] += spent
    return found


def _line(row: Mapping[str, Any]) -> str:
    cpu = " ".join(f"{part} {micro:.0f}" for part, micro in row["cpu_us_op"].items())
    calls = " ".join(f"{part} {count:.2f}" for part, count in row["calls_op"].items() if row["tag"] == "cell")
    return (
        f"{row['tag']:10s} {row['name']:6s} c{row['conc']:<3} {row['ops_s']:8.1f} op/s  p50 {row['p50']:7.2f} "
        f"p99 {row['p99']:7.2f} ms  CPU us/op: {cpu}  calls/op: {calls or '-'}  errors {row['errs']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="per step")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--only", default="standalone,cell")
    options = parser.parse_args()
    here = Path(__file__).parent
    tools, out = here / ".bin", here / "results" / time.strftime("%Y-%m-%d-%H%M%S-cluster.jsonl")
    tools.mkdir(exist_ok=True)
    out.parent.mkdir(exist_ok=True)
    loader = servers.build_loader(tools)
    for kind in (Standalone, Cell):
        if kind.name in options.only.split(","):
            with (
                tempfile.TemporaryDirectory(prefix=f"bench-{kind.name}-", dir=here) as work,
                kind(Path(work)) as target,
            ):
                measure(target, loader, options, out)


if __name__ == "__main__":
    main()
