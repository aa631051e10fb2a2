# SPDX-License-Identifier: Apache-2.0
"""Histories judged by porcupine, a checker of linearizability other people wrote and use: a second opinion on our own.

The program that asks it is in tests/linearizability/judge (Go). It is built once, the Go module proxy giving porcupine at
the hash that go.sum states, and kept under .cache/judge of the working directory under a name made of its sources.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drystone_testing.linearizability import NEVER, Operation, violation

SOURCE = Path.cwd() / "tests" / "linearizability" / "judge"
CACHE = Path.cwd() / ".cache" / "judge"
"""Relative to the project's root, where the suites are run."""
OK, VIOLATION, UNDECIDED = "ok", "violation", "undecided"
_EXITS = {0: OK, 1: VIOLATION, 2: UNDECIDED}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What porcupine says of a history."""

    verdict: str
    """OK, VIOLATION, or UNDECIDED: the time was not enough."""
    keys: tuple[str, ...] = ()
    """Which have no explanation, or were not decided."""
    because: tuple[str, ...] = ()
    """The smallest part of the first key's history that was found to have none: one call a line, in order."""
    after: str = ""
    """What was there before these calls: `nothing`, or `anything` (they contradict themselves whatever it was)."""


def missing() -> str | None:
    """Why porcupine cannot be asked on this machine; None when it can."""
    if shutil.which("go") is None:
        return "porcupine is a Go module, and there is no `go` here: histories are judged by drystone_testing alone"
    return None


def judge_program() -> Path:
    """The built program; CalledProcessError when Go cannot build it (the module proxy does not answer)."""
    sources = sorted([*SOURCE.glob("*.go"), SOURCE / "go.mod", SOURCE / "go.sum"])
    program = CACHE / hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["go", "build", "-o", str(fresh), "."], cwd=SOURCE, check=True, timeout=300)
        fresh.rename(program)
    return program


def judge(history: Iterable[Operation], *, timeout: float = 60, picture: Path | None = None) -> Verdict:
    """The verdict within about `timeout` seconds; a violation is drawn into `picture` (HTML) when that is given.

    ValueError when the history is not one: a value written twice, a condition without its value.
    """
    lines = "".join(json.dumps(_line(operation)) + "\n" for operation in history)
    command = [str(judge_program()), "-timeout", f"{timeout}s"]
    if picture is not None:
        command += ["-picture", str(picture)]
    said = subprocess.run(command, input=lines, capture_output=True, text=True, check=False, timeout=timeout * 4 + 60)
    if said.returncode not in _EXITS:
        raise ValueError(said.stderr.strip())
    answer = json.loads(said.stdout)
    because = tuple(_said(call) for call in answer.get("because", ()))
    return Verdict(answer["verdict"], tuple(answer.get("keys", ())), because, answer.get("after", ""))


def unexplained(history: Sequence[Operation], folder: Path, *, timeout: float = 60) -> tuple[str, str | None]:
    """(who judged, what has no explanation: None when all has one).

    Where Go is missing our own judge does it alone. An undecided history is unexplained. The history is kept in `folder`
    when it has no explanation, with the picture.
    """
    if (reason := missing()) is not None:
        found = violation(history)
        return f"our own alone: {reason}", None if found is None else _story(history, found.key)
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "violation.html"
    verdict = judge(history, timeout=timeout, picture=picture)
    if verdict.verdict == OK:
        return "porcupine", None
    (folder / "history.jsonl").write_text("".join(json.dumps(_line(operation)) + "\n" for operation in history))
    told = "\n".join(
        [f"{verdict.verdict}: {', '.join(verdict.keys)} ({folder})", f"after {verdict.after}:", *verdict.because]
    )
    return "porcupine", told


def _story(history: Sequence[Operation], key: str) -> str:
    """All calls on a key, in order."""
    calls = sorted((call for call in history if call.key == key), key=lambda call: call.called)
    return "\n".join(map(str, calls))


def _line(operation: Operation) -> dict[str, object]:
    return {
        "key": operation.key,
        "kind": operation.kind,
        "called": _nanoseconds(operation.called),
        "returned": None if operation.returned == NEVER else _nanoseconds(operation.returned),
        "value": operation.value,
        "expected": operation.expected,
        "refused": operation.refused,
        "by": operation.by,
    }


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _said(call: dict[str, object]) -> str:
    until = "?" if call["returned"] is None else f"{int(str(call['returned'])) / 1e9:.6f}"
    refused = " refused" if call["refused"] else ""
    asked = f" if {call['expected']}" if call["expected"] is not None else ""
    at = int(str(call["called"])) / 1e9
    return f"{at:.6f}-{until} {call['kind']} {call['value']}{asked}{refused} {call['by']}".rstrip()
