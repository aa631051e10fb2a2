# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown: `python bench/report.py bench/results/FILE.jsonl…` (medians over repeats, servers side by side)."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[str, int]


def load(paths: list[Path]) -> list[Row]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines() if line]


def number(value: float | None) -> str:
    """Three significant places, for people."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(paths: list[Path]) -> str:
    """All tables."""
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    tags: dict[str, None] = {}
    steps: dict[Key, None] = {}
    for row in load(paths):
        groups[row["tag"], row["name"], row["conc"]].append(row)
        tags[row["tag"]] = None
        steps[row["name"], row["conc"]] = None

    def median(tag: str, step: Key, field: str) -> float | None:
        values = [row[field] for row in groups.get((tag, *step), []) if row.get(field) is not None]
        return statistics.median(values) if values else None

    def table(title: str, cell: Callable[[str, Key], str]) -> str:
        head = (
            f"### {title}\n\n| step | connections | " + " | ".join(tags) + " |\n| --- | ---: |" + " ---: |" * len(tags)
        )
        return "\n".join(
            [head, *(f"| {s[0]} | {s[1]} | " + " | ".join(cell(t, s) for t in tags) + " |" for s in steps)]
        )

    def throughput(tag: str, step: Key) -> str:
        mib = median(tag, step, "mib_s")
        return number(median(tag, step, "ops_s")) + (f" ({number(mib)})" if mib else "")

    def cpu(tag: str, step: Key) -> str:
        mib = median(tag, step, "cpu_ms_mib")
        return number(median(tag, step, "cpu_us_op")) + (f" ({number(mib)})" if mib else "")

    def rest(tag: str, step: Key) -> str:
        rows = groups.get((tag, *step), [])
        stored = sum(row["mib"] for row in rows) * 2**20
        amplification = (
            sum(row["written"] for row in rows) / stored if stored and step[0][:3] in ("put", "mpu") else None
        )
        return f"{number(median(tag, step, 'rss'))} / {sum(row['errs'] for row in rows)} / {number(amplification)}"

    return "\n\n".join(
        [
            table("Server CPU, µs per operation (ms per MiB where data moves)", cpu),
            table("Operations per second (MiB/s)", throughput),
            table(
                "Latency, p50 / p99 ms",
                lambda t, s: f"{number(median(t, s, 'p50'))} / {number(median(t, s, 'p99'))}",
            ),
            table("RSS MiB / errors / bytes written per byte stored", rest),
        ]
    )


if __name__ == "__main__":
    print(markdown([Path(p) for p in sys.argv[1:]]))
