# SPDX-License-Identifier: Apache-2.0
"""The data directories of every released version are served, answer what they answered, and live on.

tests/golden/README.md says how they are made.
"""

import re
import shutil
from pathlib import Path

import pytest

from drystone_testing.golden_store import Expectations
from drystone_testing.ledger import Record, recorder
from drystone_testing.live import LiveStore
from drystone_testing.load import body_of
from drystone_testing.s3_client import S3Client
from drystone_testing.sparse_archive import unpack

ARCHIVES = sorted(Path(__file__).parent.glob("*.tar.xz"))
LATER = "written-by-a-later-release"


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Appends what the test did to the ledger."""
    return recorder(request.node.name)


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_released_data_stays_readable_and_writable(archive: Path, tmp_path: Path, record: Record) -> None:
    """Served and compared; written to and restarted; two disks with metadata lost; each time every answer is the old one."""
    expected = Expectations.load(archive.with_name(archive.name.replace(".tar.xz", ".json")))
    root = tmp_path / "store"
    unpack(archive, root)
    blocks = sum(path.stat().st_blocks for path in root.rglob("*") if path.is_file())
    sizes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert blocks * 512 < sizes / 4, "unpacking made no holes"
    store = LiveStore(root, environment=dict(expected.about["settings"]))
    try:
        store.start()
        client = S3Client(store.port, timeout=60)
        assert expected.compare(client) == []
        later = write_more(client)
        assert store.stop() == 0
        client.close()
        store.start()
        assert expected.compare(client, besides=LATER) == []
        assert store.stop() == 0
        client.close()
        lost = [disk for disk in sorted((root / "disks").iterdir()) if (disk / "meta").exists()][:2]
        assert len(lost) == 2
        for disk in lost:
            shutil.rmtree(disk)
            disk.mkdir()
        store.start()
        assert expected.compare(client, besides=LATER) == []
        for key, body in later.items():
            assert client.call("GET", f"/{LATER}/{key}").body == body
        complete_the_upload(client)
        record(questions=len(expected.asked), times=3, differences=0, archive_bytes=archive.stat().st_size)
    finally:
        store.kill_all()


def write_more(client: S3Client) -> dict[str, bytes]:
    """Objects of all kinds in a bucket of their own."""
    client.create_bucket(LATER)
    bodies = {f"k{n}": body_of(n, size) for n, size in enumerate([0, 1, 5000, 131_072, 131_073, 2_000_000])}
    for key, body in bodies.items():
        assert client.call("PUT", f"/{LATER}/{key}", body=body).status == 200
    copied = client.call("PUT", f"/{LATER}/copied", headers={"x-amz-copy-source": "/golden/metadata/both-striped"})
    assert copied.status == 200 and b"<Error>" not in copied.body, copied.body
    bodies["copied"] = client.call("GET", "/golden/metadata/both-striped").body
    return bodies


def complete_the_upload(client: S3Client) -> None:
    """An upload begun in the old release is completed in the new one."""
    path = "/golden/in-progress/parts"
    listed = client.call("GET", "/golden", query="uploads=").body.decode()
    upload = re.search(r"<Key>in-progress/parts</Key>.*?<UploadId>([^<]*)</UploadId>", listed, re.DOTALL)
    assert upload, listed
    parts = client.call("GET", path, query=f"uploadId={upload[1]}").body.decode()
    found = re.findall(r"<PartNumber>(\d+)</PartNumber>.*?<ETag>([^<]*)</ETag>.*?<Size>(\d+)</Size>", parts, re.DOTALL)
    assert [int(number) for number, _, _ in found] == [1, 7], parts
    document = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag, _ in found)
    whole = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
    done = client.call("POST", path, query=f"uploadId={upload[1]}", body=whole)
    assert done.status == 200 and b"<Error>" not in done.body, done.body
    answer = client.call("GET", path)
    assert len(answer.body) == sum(int(size) for _, _, size in found)
    assert answer.body.endswith(body_of(402, 3000)) and answer.headers["content-type"] == "text/x-late"


def test_every_archive_has_its_expectations() -> None:
    """A release without archives, or an archive nobody compares, would show nothing."""
    names = {path.name.removesuffix(".tar.xz") for path in ARCHIVES}
    assert names == {path.stem for path in Path(__file__).parent.glob("*.json")}
    assert {"0.1.0-stopped", "0.1.0-killed"} <= names
