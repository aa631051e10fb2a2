# SPDX-License-Identifier: Apache-2.0
"""Certificate files: what is wrong with them is said in words and at once; renewed ones are taken, bad ones are not."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from drystone_core.identity import Identity, ServiceKind
from drystone_runtime.authority import DAY
from drystone_runtime.clock import SystemClock
from drystone_runtime.rpc.tls import Certificates, TlsFiles, TlsRefused, load
from drystone_testing.certificates import TestCell

KIND = ServiceKind.METADATA
URI, NAME = "spiffe://cell/metadata/0", "metadata.cell.drystone.internal"


@pytest.fixture
def cell(tmp_path: Path) -> TestCell:
    return TestCell(tmp_path / "pki")


def problems_of(files: TlsFiles, kind: ServiceKind | None = KIND) -> list[str]:
    """What loading says, as one would read it."""
    with pytest.raises(TlsRefused) as caught:
        load(files, kind=kind, now=int(time.time()))
    return caught.value.problems


def test_good_files_name_their_service(cell: TestCell) -> None:
    """Identity and validity; the key in no representation."""
    files = cell.files(KIND, "m0")
    material = load(files, kind=KIND, now=int(time.time()))
    assert material.identity == Identity(cell="cell", kind=KIND, name="m0")
    assert material.not_before < time.time() < material.not_after
    assert "PRIVATE" not in repr(material)


@pytest.mark.parametrize(
    ("uris", "names", "begins", "ends", "expected"),
    [
        ((), (NAME,), -DAY, DAY, "names no identities"),
        ((), (), -DAY, DAY, "names no identities"),
        ((URI, URI + "1"), (NAME,), -DAY, DAY, "names 2 identities"),
        (("https://cell/metadata/0",), (NAME,), -DAY, DAY, "is not spiffe://CELL/SERVICE/NAME"),
        (("spiffe://cell/gateway/0",), ("gateway.cell.drystone.internal",), -DAY, DAY, "this process is a metadata"),
        ((URI,), (), -DAY, DAY, f"lacks the DNS name {NAME}"),
        ((URI,), ("metadata.other.drystone.internal",), -DAY, DAY, f"lacks the DNS name {NAME}"),
        ((URI,), (NAME,), -2 * DAY, -DAY, "has expired on"),
        ((URI,), (NAME,), DAY, 2 * DAY, "is not valid before"),
    ],
)
def test_a_certificate_that_cannot_serve_is_refused_in_words(
    cell: TestCell, uris: tuple[str, ...], names: tuple[str, ...], begins: int, ends: int, expected: str
) -> None:
    """One sentence, with the file in it."""
    files = cell.files_with(uris, names, begins=begins, ends=ends)
    (problem,) = problems_of(files)
    assert expected in problem
    assert files.cert in problem


def test_all_problems_are_reported_at_once(cell: TestCell, tmp_path: Path) -> None:
    """Expired, of the wrong kind, without its DNS name, and of an authority nobody knows."""
    files = cell.files_with(("spiffe://cell/gateway/0",), (), begins=-2 * DAY, ends=-DAY)
    foreign = TestCell(tmp_path / "foreign")
    said = "\n".join(problems_of(replace(files, ca=str(foreign.ca))))
    for expected in ("has expired", "this process is a metadata", "lacks the DNS name", "does not vouch for"):
        assert expected in said, expected
    nowhere = str(tmp_path / "nowhere")
    said = "\n".join(problems_of(TlsFiles(ca=nowhere, cert=nowhere, key=nowhere)))
    for what in ("rpc.tls_ca", "rpc.tls_cert", "rpc.tls_key"):
        assert f"{what}: {nowhere} cannot be read" in said


def test_files_that_do_not_belong_together_are_refused(cell: TestCell, tmp_path: Path) -> None:
    """Somebody else's key, somebody else's authority, rubbish in each place."""
    one, other = cell.files(KIND, "0"), cell.files(KIND, "1")
    assert "is not the key of" in problems_of(replace(one, key=other.key))[0]
    assert "does not vouch for" in problems_of(replace(one, ca=str(TestCell(tmp_path / "other").ca)))[0]
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("hello\n")
    assert "holds no PEM certificate" in problems_of(replace(one, ca=str(rubbish)))[0]
    assert "holds no PEM certificate" in problems_of(replace(one, cert=str(rubbish)))[0]
    assert "is not the key of" in problems_of(replace(one, key=str(rubbish)))[0]


async def test_renewed_files_are_taken_into_use_and_bad_ones_are_not(
    cell: TestCell, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a pair, an expired one and another's leave the old one in use; the complete pair replaces it."""
    files = cell.files(KIND)
    certificates = Certificates(files=files, kind=KIND, clock=SystemClock())
    told: list[str] = []
    certificates.on_change(lambda: told.append("renewed"))
    first = certificates.material
    assert not await certificates.reload()

    fresh = cell.authority.issue(first.identity, now=int(time.time()), days=2)
    write(files.cert, fresh.cert)
    assert not await certificates.reload()
    assert "is not the key of" in caplog.records[-1].__dict__["problems"][0]
    expired = cell.authority.issue_names([URI], [NAME], not_before=0, not_after=1)
    cell.put(expired, "metadata-0")
    assert not await certificates.reload()
    cell.put(cell.authority.issue(replace_name(first.identity), now=int(time.time()), days=2), "metadata-0")
    assert not await certificates.reload()
    assert certificates.material is first
    assert told == []

    write(files.key, fresh.key)
    write(files.cert, fresh.cert)
    assert await certificates.reload()
    assert certificates.material.cert == fresh.cert
    assert certificates.identity == first.identity
    assert told == ["renewed"]
    assert not await certificates.reload()


def write(path: str, content: bytes) -> None:
    """In place, as an editor may."""
    Path(path).write_bytes(content)


def replace_name(identity: Identity) -> Identity:
    """Another service of the same kind."""
    return replace(identity, name="somebody-else")


async def test_a_certificate_that_comes_into_its_time_is_taken_without_a_change_of_files(cell: TestCell) -> None:
    """Files refused once are looked at again."""
    files = cell.files(KIND)
    certificates = Certificates(files=files, kind=KIND, clock=SystemClock())
    fresh = cell.authority.issue(certificates.identity, now=int(time.time()), days=2)
    write(files.cert, fresh.cert)
    write(files.key, fresh.key)
    stat = os.stat(files.key)
    write(files.key, b"x" * len(fresh.key))
    os.utime(files.key, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not await certificates.reload()
    write(files.key, fresh.key)
    os.utime(files.key, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert await certificates.reload()
