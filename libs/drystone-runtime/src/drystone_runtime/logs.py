# SPDX-License-Identifier: Apache-2.0
"""Log lines on standard error: a constant event name and fields, as text for people or JSON for machines.

Code logs with `logging.getLogger(__name__).warning("disk.failed", extra={"disk": …})`. Fields named like a secret are
masked, whoever logged them. The request id of the running task stands in every line (`request_id`, set by the gateway).

Invariants
  G1  Logging never waits for its reader: a pipe that nobody empties or a paused terminal costs lines, not the store.
      What was lost is counted in the next line that gets through.
  G2  One event is one line; no value begins a line of its own (but for traces in text form).
"""

import json
import logging
import os
import select
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TextIO

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""16 upper-case hex characters of the request being served; empty outside requests."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = ("secret", "password", "authorization", "signature", "token")
_PIECE = 4096
"""Bytes a pipe or terminal that is ready takes without waiting (PIPE_BUF)."""
_PATIENCE_MS = 50
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(*, level: str, style: str, role: str, stream: TextIO | None = None) -> None:
    """Send this process's log lines to `stream` (standard error). `style` is auto, text or json."""
    target = stream or sys.stderr
    as_json = style == "json" or (style == "auto" and not target.isatty())
    handler = PatientHandler(target)
    handler.setFormatter(JsonLines(role=role) if as_json else TextLines(role=role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, _LEVELS[level]))


class PatientHandler(logging.StreamHandler[TextIO]):
    """Writes a line only where the reader has room for it (G1)."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        self._torn = False
        """The last line broke off in its middle."""
        self._descriptor = -1
        self._poll = select.poll()
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):  # a stream of this process's own memory always has room
            return
        self._poll.register(self._descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """The line, in pieces a pipe takes at once; or nothing, counted."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._lost and not self._put(self._note()):
            self._lost += 1
            return
        self._lost = 0
        if not self._put(text):
            self._lost = 1

    def _note(self) -> str:
        note = logging.makeLogRecord({"name": __name__, "msg": "log.lines_lost", "lines": self._lost})
        note.levelname = "WARNING"
        return self.format(note)

    def _put(self, text: str) -> bool:
        if self._descriptor < 0:
            self.stream.write(text + self.terminator)
            return True
        line = ("\n" * self._torn + text + self.terminator).encode("utf-8", "backslashreplace")
        at, self._torn = 0, False
        while at < len(line):
            if not self._poll.poll(0 if self._lost else _PATIENCE_MS):
                self._torn = at > 0
                return False
            try:
                at += os.write(self._descriptor, line[at : at + _PIECE])
            except OSError:  # nobody reads any more
                return False
        return True


def as_extra(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields of somebody else's naming, for `extra`: a name the log record itself uses gets an underscore."""
    return {f"{name}_" if name in _STANDARD else name: value for name, value in fields.items()}


def record_fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given in `extra`, secrets masked, with the request id when there is one."""
    found: dict[str, object] = {}
    if request_id := REQUEST_ID.get():
        found["request_id"] = request_id
    for name, value in vars(record).items():
        if name not in _STANDARD:
            found[name] = "…" if any(word in name.lower() for word in _SECRET) else value
    return found


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, *, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "role": self._role,
            "event": record.getMessage(),
            "logger": record.name,
            **record_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextLines(logging.Formatter):
    """`HH:MM:SS level role event key=value …`"""

    def __init__(self, *, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {name}={_one_line(value)}" for name, value in record_fields(record).items())
        when = self.formatTime(record, "%H:%M:%S")
        line = f"{when} {record.levelname.lower():7} {self._role:10} {_one_line(record.getMessage())}{pairs}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def _one_line(value: object) -> str:
    """No value may begin a line of its own."""
    return str(value).replace("\n", "\\n").replace("\r", "\\r")
