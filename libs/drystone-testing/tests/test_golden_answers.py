# SPDX-License-Identifier: Apache-2.0
"""Expectations of golden stores notice what is lost or changed and allow what is added."""

from pathlib import Path
from typing import Any

import pytest

from drystone_testing.golden_store import Expectations, Question, differences, flattened, kept
from drystone_testing.s3_client import Answer

QUESTION = Question(method="GET", path="/b/k", headers={}, xml=False)
LISTING = (
    b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3/"><Name>b</Name>'
    b"<Contents><Key>one</Key><Size>1</Size></Contents><Contents><Key>two</Key><Size>2</Size></Contents>%s"
    b"</ListBucketResult>"
)


def answer(status: int = 200, body: bytes = b"body", **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return kept(Answer(status, {"etag": '"e"', "date": "now", **named}, body), xml=False)


def test_headers_and_elements_may_be_added() -> None:
    """A later release may say more, and every answer has its own date."""
    assert differences(QUESTION, answer(), answer(x_new="1", date="later")) == []
    more = LISTING % b"<NewElement>x</NewElement>"
    assert differences(QUESTION, answer(body=LISTING % b""), answer(body=more)) == []


@pytest.mark.parametrize(
    "now",
    [
        answer(404),
        answer(body=b"other"),
        answer(etag='"other"'),
        answer(body=LISTING % b""),
        kept(Answer(200, {}, b"body"), xml=False),
    ],
    ids=["status", "bytes", "header changed", "a document", "header gone"],
)
def test_what_is_lost_or_changed_is_told(now: dict[str, Any]) -> None:
    """Each of them is one line at least."""
    assert differences(QUESTION, answer(), now)


def test_a_listing_neither_loses_nor_gains_keys_unless_said() -> None:
    """Sizes count too."""
    before = answer(body=LISTING % b"")
    more = answer(body=LISTING % b"<Contents><Key>three</Key></Contents>")
    assert differences(QUESTION, before, more) and differences(QUESTION, more, before)
    assert differences(QUESTION, before, more, besides="three") == []
    assert differences(QUESTION, before, answer(body=(LISTING % b"").replace(b">2<", b">3<")))


def test_request_ids_are_no_part_of_a_document() -> None:
    """Everything else is, numbered."""
    text = b"<Error><Code>X</Code><RequestId>1</RequestId><Part>a</Part><Part>b</Part></Error>"
    assert flattened(text) == ["Error/Code[1]=X", "Error/Part[1]=a", "Error/Part[2]=b"]


def test_expectations_survive_their_file(tmp_path: Path) -> None:
    """With characters of all kinds."""
    asked = [(Question(method="GET", path="/b/\n🪨\x7f", headers={"a": "ü"}, xml=True), answer())]
    Expectations({"version": "1"}, asked).save(tmp_path / "e.json")
    again = Expectations.load(tmp_path / "e.json")
    assert again.asked == asked and again.about == {"version": "1"}
