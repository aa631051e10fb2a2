# SPDX-License-Identifier: Apache-2.0
"""Measure Drystone beside other S3 servers, on this machine, in one run: `make bench [PEERS=…] [SECONDS=…] [ONLY=…]`.

Closed loop, one keep-alive connection a worker, signed payloads. Server CPU per operation (user + system time of all the
server's processes, from /proc) is the fair figure: it does not depend on the client or on waiting. Results are appended as
JSON lines to bench/results/ and printed as Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import report
import servers

KIB, MIB = 1024, 1 << 20
SIZES = {"4k": 4 * KIB, "64k": 64 * KIB, "1m": MIB, "10m": 10 * MIB}
READ_SET = {"4k": 2000, "64k": 500, "1m": 60, "10m": 12}
MIN_FREE_GIB = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    seconds: float
    repeats: int
    connections: tuple[int, ...]
    only: frozenset[str]
    list_keys: int

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only


@dataclass(frozen=True, slots=True)
class Step:
    """One timed run of the load generator; `prepare` runs come first, untimed."""

    name: str
    arguments: tuple[object, ...]
    payload: str = "signed"
    timed: bool = True


def steps(plan: Plan) -> Iterator[Step]:
    """The matrix, in an order that lets later steps read what earlier ones wrote."""
    for label, size in SIZES.items():
        connections = [c for c in plan.connections if size < 10 * MIB or c <= 16]
        if plan.wants(f"put{label}"):
            for c in connections:
                yield Step(f"put{label}", ("-op", "put", "-size", size, "-conc", c, "-prefix", f"p{label}/"))
        if plan.wants(f"get{label}") or (label == "4k" and plan.wants("head")):
            n = READ_SET[label]
            fill = ("-op", "fill", "-size", size, "-objects", n, "-conc", 8, "-dur", "0s", "-prefix", f"g{label}/")
            yield Step(f"fill{label}", fill, payload="unique", timed=False)
            if plan.wants(f"get{label}"):
                for c in connections:
                    read = ("-op", "get", "-size", size, "-objects", n, "-conc", c, "-prefix", f"g{label}/")
                    yield Step(f"get{label}", read)
    if plan.wants("head"):
        for c in plan.connections:
            yield Step("head", ("-op", "head", "-objects", READ_SET["4k"], "-conc", c, "-prefix", "g4k/"))
    if plan.wants("mpu64m"):
        for c in (1, 4):
            yield Step("mpu64m", ("-op", "mpu", "-size", 64 * MIB, "-part", 8 * MIB, "-conc", c, "-prefix", "m/"))
    if plan.wants("range4k"):
        two = ("-op", "mpu", "-size", 64 * MIB, "-part", 8 * MIB, "-conc", 1, "-dur", "60s", "-maxops", 2, "-dirs", -1)
        yield Step("fill64m", (*two, "-prefix", "r/"), payload="unique", timed=False)
        for c in plan.connections:
            yield Step("range4k", ("-op", "range", "-size", 64 * MIB, "-objects", 2, "-conc", c, "-prefix", "r/"))
    yield from listing_steps(plan)


def listing_steps(plan: Plan) -> Iterator[Step]:
    """LIST flat and by delimiter in one bucket of many keys, then DELETE."""
    small = [c for c in plan.connections if c <= 16]
    if plan.wants("list") or plan.wants("listdelim"):
        fill = ("-op", "fill", "-size", 128, "-objects", plan.list_keys, "-dirs", 200, "-conc", 64, "-dur", "400s")
        yield Step("filllist", (*fill, "-prefix", "L/"), timed=False)
        for name in ("list", "listdelim"):
            if plan.wants(name):
                for c in small:
                    yield Step(name, ("-op", name, "-conc", c, "-prefix", "L/"))
    if plan.wants("delete"):
        for c in plan.connections:
            n = 1500 if c == 1 else 8000
            keys = ("-size", 4 * KIB, "-objects", n, "-prefix", f"d{c}/")
            yield Step("filldelete", ("-op", "fill", *keys, "-conc", 64, "-dur", "120s"), timed=False)
            yield Step("delete", ("-op", "delete", "-objects", n, "-conc", c, "-prefix", f"d{c}/"))


def measure(running: servers.Running, loader: str, step: Step, plan: Plan, repeat: int) -> dict[str, object] | None:
    """Run one step and account for the server's CPU, memory and disk writes over it."""
    base = [loader, "-endpoint", running.endpoint, "-ak", servers.ACCESS_KEY, "-sk", servers.SECRET_KEY]
    argv = [*base, "-payload", step.payload, *map(str, step.arguments)]
    if "-dur" not in step.arguments:
        argv += ["-dur", f"{plan.seconds}s"]
    cpu, written = running.cpu_seconds(), running.written_bytes()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    cpu, written = running.cpu_seconds() - cpu, running.written_bytes() - written
    try:
        row: dict[str, object] = json.loads(done.stdout)
    except ValueError:
        print(f"{running.server.name:10s} {step.name}: failed: {done.stderr[:300]}", file=sys.stderr)
        return None
    operations, mib = max(int(str(row["ops"])), 1), float(str(row["mib"]))
    row |= {
        "tag": running.server.name, "name": step.name, "repeat": repeat, "cpu_s": cpu, "rss": running.rss_mib(),
        "written": written, "cpu_us_op": cpu / operations * 1e6, "cpu_ms_mib": cpu / mib * 1e3 if mib else None,
        "at": int(time.time()),
    }  # fmt: skip
    return row


def bench_server(server: servers.Server, loader: str, plan: Plan, work: Path, tools: Path, out: Path) -> None:
    """The whole matrix against one server."""
    with servers.Running(server, work, tools) as running:
        print(f"{server.name}: {server.promise}; idle RSS {running.rss_mib()} MiB", flush=True)
        subprocess.run(
            [loader, "-endpoint", running.endpoint, "-ak", servers.ACCESS_KEY, "-sk", servers.SECRET_KEY, "-op", "mb"],
            check=True,
        )
        for step in steps(plan):
            for repeat in range(plan.repeats if step.timed else 1):
                if shutil.disk_usage(work).free < MIN_FREE_GIB << 30:
                    raise SystemExit(f"stopping: less than {MIN_FREE_GIB} GiB free beside {work}")
                row = measure(running, loader, step, plan, repeat)
                if row is None or not step.timed:
                    continue
                with out.open("a") as sink:
                    sink.write(json.dumps(row) + "\n")
                print(
                    f"{server.name:10s} {step.name:10s} c{row['conc']:<3} {row['ops_s']:9.1f} op/s {row['mib_s']:8.1f} MiB/s "
                    f"p50 {row['p50']:8.2f} p99 {row['p99']:8.2f} ms  cpu {row['cpu_us_op']:9.0f} us/op  "
                    f"rss {row['rss']:.0f}  errors {row['errs']} {row['first_err']}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="drystone,seaweedfs", help=f"comma list of {', '.join(servers.SERVERS)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="per step")
    parser.add_argument("--repeats", type=int, default=3, help="the tables show medians")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--only", default="", help="comma list of steps: put4k, get4k, head, range4k, list, delete, …")
    parser.add_argument("--list-keys", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    plan = Plan(
        seconds=options.seconds,
        repeats=options.repeats,
        connections=tuple(int(c) for c in options.connections.split(",")),
        only=frozenset(filter(None, options.only.split(","))),
        list_keys=options.list_keys,
    )
    here = Path(__file__).parent
    tools = here / ".bin"
    tools.mkdir(exist_ok=True)
    out = options.out or here / "results" / time.strftime("%Y-%m-%d-%H%M%S.jsonl")
    out.parent.mkdir(exist_ok=True)
    try:
        loader = servers.build_loader(tools)
        for name in options.peers.split(","):
            if name not in servers.SERVERS:
                parser.error(f"unknown peer {name!r}; known: {', '.join(servers.SERVERS)}")
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=here) as work:
                bench_server(servers.SERVERS[name], loader, plan, Path(work), tools, out)
    except servers.Unobtainable as problem:
        raise SystemExit(f"bench: {problem}") from problem
    print(report.markdown([out]))


if __name__ == "__main__":
    main()
