# SPDX-License-Identifier: Apache-2.0
"""Every implemented route in every auth mode under every attack, against a live store: denied, nothing changed."""

import re
import time
from collections import Counter

import pytest
from auth_cells import BUCKET, KEY, OTHER, Cell, Route, cells, covered_by_v2, routes, signer_at

from drystone_testing.live import LiveStore
from drystone_testing.wire import MODES, Wire, WireAnswer, WireClient

LEAST_CELLS = 3_000
STATUS = {
    "AccessDenied": 403,
    "SignatureDoesNotMatch": 403,
    "InvalidAccessKeyId": 403,
    "RequestTimeTooSkewed": 403,
    "MethodNotAllowed": 405,
    "NotImplemented": 501,
}
"""All other codes expected here are 400."""
DENIALS = frozenset(STATUS) - {"MethodNotAllowed"} | {
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
    "XAmzContentSHA256Mismatch",
    "BadDigest",
    "IncompleteBody",
}


class Target:
    """The store under attack: what is in it, and whether it still is."""

    def __init__(self, store: LiveStore) -> None:
        self.host = f"127.0.0.1:{store.port}"
        self.now = time.time()
        self.client, self.checker = WireClient(store.port), WireClient(store.port)
        for bucket in (BUCKET, OTHER):
            assert self.call(Wire(method="PUT", path=f"/{bucket}")).status == 200
        for path in (f"/{BUCKET}/{KEY}", f"/{OTHER}/secret"):
            assert self.call(Wire(method="PUT", path=path, body=b"precious " * 40)).status == 200
        created = self.call(Wire(method="POST", path=f"/{BUCKET}/{KEY}", query="uploads="))
        found = re.search(rb"<UploadId>([^<]+)", created.body)
        assert found is not None
        self.upload = found[1].decode()
        part = Wire(method="PUT", path=f"/{BUCKET}/{KEY}", query=f"partNumber=1&uploadId={self.upload}", body=b"part")
        self.part_etag = self.call(part).headers["etag"]
        looks = [
            Wire(method="GET", path="/"),
            Wire(method="GET", path=f"/{BUCKET}", query="list-type=2"),
            Wire(method="GET", path=f"/{BUCKET}", query="uploads="),
            Wire(method="GET", path=f"/{BUCKET}/{KEY}", query=f"uploadId={self.upload}"),
            Wire(method="GET", path=f"/{BUCKET}/{KEY}"),
            Wire(method="GET", path=f"/{OTHER}", query="list-type=2"),
        ]
        self.looks = b"".join(signer_at(self.host, self.now).sign(look, "header").encoded() for look in looks)
        self.count = len(looks)
        self.first = self.state()
        assert [status for status, *_ in self.first] == [200] * self.count

    def call(self, wire: Wire) -> WireAnswer:
        return self.client.send(signer_at(self.host, self.now).sign(wire, "header"))

    def state(self) -> list[tuple[int, str, str, bytes]]:
        """Everything a client can see of the buckets."""
        return [
            (answer.status, answer.headers.get("etag", ""), answer.headers.get("last-modified", ""), answer.body)
            for answer in self.checker.pipelined(self.looks, self.count)
        ]


def problem_of(cell: Cell, answer: WireAnswer) -> str:
    """Why an answer is no proper denial; empty when it is."""
    if answer.status == 0:
        return "" if "" in cell.codes else "no answer"
    if cell.request.method == "HEAD":
        fits = answer.status in {STATUS.get(code, 400) for code in cell.codes} and not answer.body
        return "" if fits else f"status {answer.status}"
    if answer.code not in cell.codes or answer.status != STATUS.get(answer.code, 400):
        return f"{answer.status} {answer.code or answer.body[:80]!r}, not {sorted(cell.codes)}"
    return ""


def test_every_cell_is_denied_and_changes_nothing(store: LiveStore) -> None:
    """All cells in one go; the failures are reported together. Then each route is tried unaltered in each mode."""
    target = Target(store)
    every = routes(target.upload, target.part_etag)
    problems: list[str] = []
    count: Counter[str] = Counter()
    for route in every:
        for mode in MODES:
            if mode == "query-v2" and not covered_by_v2(route):
                continue
            for cell in cells(route, mode, target.host, target.now):
                count[mode] += 1
                wrong = problem_of(cell, target.client.send(cell.request))
                if wrong:
                    problems.append(f"{cell.name}: {wrong}")
                if not route.probe and target.state() != target.first:
                    pytest.fail(f"{cell.name} changed what is stored; {problems[-3:]}")
            if target.state() != target.first:
                pytest.fail(f"{route.name}/{mode} changed what is stored; {problems[-3:]}")
    assert not problems, f"{len(problems)} of {count.total()} cells:\n" + "\n".join(problems[:60])
    assert count.total() >= LEAST_CELLS and set(count) == set(MODES), count
    print(dict(count), count.total())
    controls(target, every)


def controls(target: Target, every: list[Route]) -> None:
    """Unaltered, the same requests are not denied: the matrix fails for the alteration and for nothing else."""
    for route in every:
        for mode in MODES[:-1]:
            answer = target.client.send(signer_at(target.host, target.now).sign(route.request, mode))
            if mode == "query-v2" and not covered_by_v2(route):
                assert answer.status in (400, 403, 501), route.name
            else:
                assert answer.status and answer.code not in DENIALS, (
                    f"{route.name}/{mode}: {answer.status} {answer.body!r}"
                )
                assert route.request.method != "HEAD" or answer.status in (200, 404), f"{route.name}/{mode}"
    assert target.state() != target.first
