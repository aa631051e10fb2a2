# SPDX-License-Identifier: Apache-2.0
"""What a golden data directory must answer: S3 requests with the answers recorded when its release wrote it.

An expectation allows for what later releases add (headers, XML elements), never for what they lose or change: every
recorded header and every recorded XML element must be in the new answer, and a listing names the same keys.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree

from drystone_testing.s3_client import Answer, S3Client

NOT_KEPT = frozenset({"server", "date", "x-amz-request-id", "x-amz-id-2", "connection", "content-type-options"})
"""Headers that belong to the answer and not to what is stored."""
_PER_ANSWER = {"RequestId", "HostId"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request that only reads."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str]
    xml: bool = False
    """The body is a document; otherwise its digest is compared."""

    def ask(self, client: S3Client) -> dict[str, Any]:
        """The answer as it is kept."""
        return kept(client.call(self.method, self.path, query=self.query, headers=self.headers), xml=self.xml)


def kept(answer: Answer, *, xml: bool) -> dict[str, Any]:
    """What of an answer is recorded."""
    headers = {name: value for name, value in sorted(answer.headers.items()) if name not in NOT_KEPT}
    if xml or answer.body.startswith(b"<?xml"):
        headers.pop("content-length", None)
        return {"status": answer.status, "headers": headers, "document": flattened(answer.body)}
    return {"status": answer.status, "headers": headers, "sha256": hashlib.sha256(answer.body).hexdigest()}


def flattened(document: bytes) -> list[str]:
    """`Path/To/Element=text` of every leaf, in document order; repeated elements are numbered."""
    found: list[str] = []

    def walk(element: ElementTree.Element, path: str) -> None:
        seen: dict[str, int] = {}
        for child in element:
            name = re.sub(r"^\{.*\}", "", child.tag)
            if name in _PER_ANSWER:
                continue
            seen[name] = seen.get(name, 0) + 1
            walk(child, f"{path}/{name}[{seen[name]}]")
        if not len(element):
            found.append(f"{path}={element.text or ''}")

    root = ElementTree.fromstring(document)
    walk(root, re.sub(r"^\{.*\}", "", root.tag))
    return found


def differences(question: Question, recorded: dict[str, Any], now: dict[str, Any], *, besides: str = "") -> list[str]:
    """What was recorded and is no longer answered."""
    where = f"{question.method} {question.path[:80]}?{question.query} {question.headers or ''}"
    found = [
        f"{where}: {name} was {recorded[name]!r}, is {now.get(name)!r}"
        for name in ("status", "sha256")
        if name in recorded and recorded[name] != now.get(name)
    ]
    for name, value in recorded["headers"].items():
        if now["headers"].get(name) != value:
            found.append(f"{where}: {name} was {value!r}, is {now['headers'].get(name)!r}")
    if "document" in recorded:
        lines = set(now.get("document", ()))
        found += [f"{where}: {line!r} is gone" for line in recorded["document"] if line not in lines]
        more = names_of(now.get("document", [])) - names_of(recorded["document"]) - {besides}
        found += [f"{where}: {line!r} has appeared" for line in sorted(more)]
    return found


def names_of(document: list[str]) -> set[str]:
    """The keys, buckets and uploads a listing names."""
    found = (re.search(r"/(Key|Name|Prefix|UploadId|PartNumber)\[1\]=(.*)$", line, re.DOTALL) for line in document)
    return {match[2] for match in found if match}


@dataclass(frozen=True, slots=True)
class Expectations:
    """The questions of one golden directory with their answers."""

    about: dict[str, Any]
    asked: list[tuple[Question, dict[str, Any]]]

    @classmethod
    def record(cls, about: dict[str, Any], questions: list[Question], client: S3Client) -> Self:
        """Ask a store everything."""
        return cls(about, [(question, question.ask(client)) for question in questions])

    def compare(self, client: S3Client, *, besides: str = "") -> list[str]:
        """Ask again; the differences. `besides` is a bucket made since."""
        return [
            line
            for question, answer in self.asked
            for line in differences(question, answer, question.ask(client), besides=besides)
        ]

    def save(self, path: Path) -> None:
        """As JSON, one question a line."""
        rows = ",\n".join(
            json.dumps([{s: getattr(q, s) for s in Question.__slots__}, answer], ensure_ascii=False)
            for q, answer in self.asked
        )
        path.write_text(f'{{"about": {json.dumps(self.about)},\n"asked": [\n{rows}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Self:
        """The inverse of `save`."""
        plain = json.loads(path.read_text())
        return cls(plain["about"], [(Question(**question), answer) for question, answer in plain["asked"]])
