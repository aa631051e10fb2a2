# SPDX-License-Identifier: Apache-2.0
"""Log lines: their form, and that nobody ever waits for whoever reads them."""

import io
import json
import logging
import os
from collections.abc import Iterator

import pytest

from drystone_runtime.logs import REQUEST_ID, JsonLines, PatientHandler, TextLines, as_extra


def record(message: str, **fields: object) -> logging.LogRecord:
    """One event."""
    return logging.getLogger("test").makeRecord("test", logging.WARNING, "", 0, message, (), None, extra=fields)


@pytest.fixture
def pipe() -> Iterator[tuple[int, PatientHandler]]:
    """A reader and a handler that writes to it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        handler = PatientHandler(stream)
        handler.setFormatter(JsonLines(role="main"))
        yield reading, handler
    os.close(reading)


def test_a_line_is_one_json_object_with_its_fields_and_request(pipe: tuple[int, PatientHandler]) -> None:
    """Secrets masked by name, line breaks inside values kept inside."""
    reading, handler = pipe
    token = REQUEST_ID.set("0123456789ABCDEF")
    handler.emit(record("disk.failed", disk="d0\nlevel=error", secret_key="hush", attempts=2))
    REQUEST_ID.reset(token)
    said = os.read(reading, 65536).decode()
    assert said.count("\n") == 1
    line = json.loads(said)
    assert (line["event"], line["disk"], line["attempts"]) == ("disk.failed", "d0\nlevel=error", 2)
    assert line["request_id"] == "0123456789ABCDEF"
    assert "hush" not in said


def test_text_lines_cannot_be_forged_by_values() -> None:
    """A key with a line break stays on its line."""
    text = TextLines(role="main").format(record("access", key="a\n00:00:00 error main forged"))
    assert "\n" not in text


def test_a_reader_that_reads_nothing_costs_lines_and_no_time(pipe: tuple[int, PatientHandler]) -> None:
    """The pipe holds 64 KiB; a thousand long lines return all the same, and the loss is told when there is room."""
    reading, handler = pipe
    for number in range(1000):
        handler.emit(record("much", number=number, text="x" * 5000))
    os.set_blocking(reading, False)
    while True:
        try:
            os.read(reading, 65536)
        except BlockingIOError:
            break
    handler.emit(record("after"))
    said = [json.loads(line) for line in os.read(reading, 65536).decode().splitlines()[-2:]]
    assert [line["event"] for line in said] == ["log.lines_lost", "after"]
    assert 900 < said[0]["lines"] < 1000


def test_a_reader_that_is_gone_ends_nobody() -> None:
    """`drystone serve 2>&1 | head` must not take the store down."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        handler = PatientHandler(stream)
        for _ in range(3):
            handler.emit(record("nobody.reads"))


def test_a_stream_without_a_descriptor_is_written() -> None:
    """As tests give one."""
    stream = io.StringIO()
    PatientHandler(stream).emit(record("plain"))
    assert stream.getvalue() == "plain\n"


def test_fields_of_others_never_clash_with_the_records_own() -> None:
    """logging raises on `name` or `args` otherwise."""
    assert as_extra({"name": 1, "disk": 2}) == {"name_": 1, "disk": 2}
    logging.getLogger("test").info("fine", extra=as_extra({"name": 1, "message": 2}))
