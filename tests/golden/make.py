# SPDX-License-Identifier: Apache-2.0
"""Make the golden data directories of a release: `python tests/golden/make.py VERSION` in the tagged tree.

Two stores get the same objects; one is stopped, the other killed with SIGKILL at once after its last answer. For each
the directory is packed as VERSION-KIND.tar.xz and what it answers is recorded in VERSION-KIND.json. Released files are
never made again (README.md).
"""

import base64
import hashlib
import re
import shutil
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from drystone_gateway.s3.checksums import ALGORITHMS as CHECKSUMS
from drystone_testing.golden_store import Expectations, Question
from drystone_testing.live import LiveStore
from drystone_testing.load import body_of
from drystone_testing.s3_client import Answer, S3Client
from drystone_testing.sparse_archive import pack

HERE = Path(__file__).parent
WORK = Path("/tmp/drystone-golden")
"""Disks remember where they stood: the path in the archives is this one on every machine."""
SETTINGS = {"DRYSTONE_STORAGE_VOLUME_SIZE": "64MiB"}
BUCKETS = ["golden", "golden-empty", "golden.last", "golden.many-keys"]
PACK, PIECE, PART = 128 << 10, 8 << 20, 5 << 20
MANIFEST_PARTS = 96
"""Enough parts that their references exceed the 8 KiB of a row."""
ODD_KEYS = [
    "a", "a/", "a//b", "a/b", "a/b/c", "a/./b", "a/../b", "/leading", " space", "plus+percent%41", "ü/日本語/🪨", "e\u0301",
    "\u00e9", "quote\"'&<>", "new\nline", "tab\there", "\x7f", "~tilde", "k" * 1024, "é" * 512, "\U0010ffff", "\ue000",
]  # fmt: skip


def sparse_body(seed: int, size: int) -> bytes:
    """Mostly zeros, different for every seed and at both ends: large objects that make small archives."""
    body = bytearray(size)
    for at in {0, size // 2, max(0, size - 64)}:
        body[at : at + 64] = body_of(seed * 31 + at, 64)[: max(0, size - at)]
    return bytes(body)


def expect(answer: Answer, *statuses: int) -> Answer:
    if answer.status not in (statuses or (200,)) or b"<Error>" in answer.body:
        raise SystemExit(f"the store refused: {answer} {answer.body[:400]!r}")
    return answer


class Maker:
    """Writes the known set and remembers what to ask."""

    def __init__(self, client: S3Client) -> None:
        self.client = client
        self.questions: list[Question] = []

    def everything(self) -> None:
        for bucket in BUCKETS:
            self.client.create_bucket(bucket)
        self.sizes()
        self.odd_keys()
        self.metadata()
        self.checksums()
        self.overwritten_and_deleted()
        self.multipart("multipart/three", [sparse_body(n, PART + n) for n in (1, 2)] + [b"short last part"])
        self.multipart("multipart/one", [b"a single short part"])
        for algorithm in ("CRC32", "CRC64NVME", "SHA256"):
            parts = [sparse_body(9, PART), body_of(10, 1000)]
            self.multipart(f"multipart/{algorithm}", parts, {"x-amz-checksum-algorithm": algorithm})
        parts = [sparse_body(1000 + n, PART) for n in range(MANIFEST_PARTS)]
        self.multipart("multipart/manifest", parts, ask_all=False)
        self.copies()
        self.uploads_in_progress()
        self.listings()

    def put(self, key: str, body: bytes, headers: dict[str, str] | None = None, *, bucket: str = "golden") -> None:
        expect(self.client.call("PUT", f"/{bucket}/{key}", body=body, headers=headers))

    def ask(self, path: str, query: str = "", *, method: str = "GET", xml: bool = False, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.questions.append(Question(method=method, path=path, query=query, headers=named, xml=xml))

    def ask_object(self, key: str, *, bucket: str = "golden") -> None:
        self.ask(f"/{bucket}/{key}", x_amz_checksum_mode="ENABLED")
        self.ask(f"/{bucket}/{key}", method="HEAD", x_amz_checksum_mode="ENABLED")

    def ask_attributes(self, key: str) -> None:
        wanted = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"
        self.ask(f"/golden/{key}", "attributes=", xml=True, x_amz_object_attributes=wanted)

    def sizes(self) -> None:
        """Empty, packed, on both sides of every border, one stripe, several."""
        small = [0, 1, 63, 64, 65, 4095, 4096, 4097, 10_000, PACK - 1]
        large = [PACK, PACK + 1, 1 << 20, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 12345]
        for size in small:
            self.put(f"size/{size:09d}", body_of(size, min(size, 10_000)) + bytes(max(0, size - 10_000)))
        for size in large:
            self.put(f"size/{size:09d}", sparse_body(size, size))
        self.put("size/dense-stripe", body_of(77, 1000) * 300)
        for size in [*small, *large]:
            self.ask_object(f"size/{size:09d}")
        self.ask_object("size/dense-stripe")
        self.ask(f"/golden/size/{3 * PIECE + 12345:09d}", range=f"bytes={PIECE - 10}-{PIECE + 99}")
        self.ask("/golden/size/dense-stripe", range="bytes=-1000")

    def odd_keys(self) -> None:
        for number, key in enumerate(ODD_KEYS):
            self.put(key, body_of(200 + number, 100 + number), bucket="golden.many-keys")
            self.ask_object(key, bucket="golden.many-keys")

    def metadata(self) -> None:
        """System headers and user metadata, non-ASCII included."""
        system = {
            "content-type": "text/x-golden; charset=utf-8", "cache-control": "max-age=60", "content-language": "de",
            "content-disposition": 'attachment; filename="stein.txt"', "content-encoding": "x-own",
            "expires": "Tue, 01 Jan 2036 00:00:00 GMT",
        }  # fmt: skip
        user = {
            "x-amz-meta-plain": "value", "x-amz-meta-name": "Trockenmauer für Grüße 日本 🪨", "x-amz-meta-empty": "",
            "x-amz-meta-long": "l" * 1500,
        }  # fmt: skip
        self.put("metadata/system", b"system headers", system)
        self.put("metadata/user", body_of(5, 2000), user)
        self.put("metadata/both-striped", sparse_body(6, 400_000), system | user)
        for key in ("system", "user", "both-striped"):
            self.ask_object(f"metadata/{key}")

    def checksums(self) -> None:
        """Every algorithm, small and striped."""
        for algorithm in CHECKSUMS:
            for size in (0, 3000, 200_000):
                body = sparse_body(size, size) if size > PACK else body_of(size, size)
                key = f"checksum/{algorithm}/{size}"
                self.put(key, body, {"x-amz-checksum-algorithm": algorithm, **self.checksum_of(algorithm, body)})
                self.ask_object(key)
            self.ask_attributes(f"checksum/{algorithm}/3000")

    def checksum_of(self, algorithm: str, body: bytes) -> dict[str, str]:
        """The value comes from the store's own arithmetic: later releases must agree with this one's."""
        hasher = CHECKSUMS[algorithm].new()
        hasher.update(body)
        return {f"x-amz-checksum-{algorithm.lower()}": base64.b64encode(hasher.digest()).decode()}

    def overwritten_and_deleted(self) -> None:
        for turn in range(3):
            self.put("changed/overwritten", body_of(300 + turn, 5000 + turn))
            self.put("changed/small-to-large", body_of(310, 100) if turn == 0 else sparse_body(311 + turn, 300_000))
        self.put("changed/deleted", body_of(320, 7000))
        self.put("changed/deleted-striped", sparse_body(321, 900_000))
        self.put("changed/came-back", body_of(322, 100))
        for key in ("deleted", "deleted-striped", "came-back", "never-was"):
            expect(self.client.call("DELETE", f"/golden/changed/{key}"), 204)
        self.put("changed/came-back", body_of(323, 200))
        for key in ("overwritten", "small-to-large", "deleted", "deleted-striped", "came-back", "never-was"):
            self.ask_object(f"changed/{key}")

    def begin(self, key: str, headers: dict[str, str] | None = None) -> str:
        created = expect(self.client.call("POST", f"/golden/{key}", query="uploads=", headers=headers))
        found = re.search(rb"<UploadId>([^<]*)</UploadId>", created.body)
        assert found is not None
        return found[1].decode()

    def multipart(
        self, key: str, parts: list[bytes], headers: dict[str, str] | None = None, *, ask_all: bool = True
    ) -> None:
        upload = self.begin(key, headers)
        algorithm = (headers or {}).get("x-amz-checksum-algorithm", "")
        listed = ""
        for number, body in enumerate(parts, 1):
            sums = self.checksum_of(algorithm, body) if algorithm else {}
            sent = expect(
                self.client.call(
                    "PUT", f"/golden/{key}", query=f"partNumber={number}&uploadId={upload}", body=body, headers=sums
                )
            )
            value = "".join(f"<Checksum{algorithm}>{v}</Checksum{algorithm}>" for v in sums.values())
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{sent.headers['etag']}</ETag>{value}</Part>"
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        expect(self.client.call("POST", f"/golden/{key}", query=f"uploadId={upload}", body=document))
        numbers = range(1, len(parts) + 1) if ask_all else (1, 2, len(parts) // 2, len(parts))
        for number in numbers:
            self.ask(f"/golden/{key}", f"partNumber={number}")
        whole = sum(map(len, parts))
        self.ask(f"/golden/{key}", range=f"bytes={whole // 2}-{whole // 2 + 99_999}")
        self.ask_object(key)
        self.ask_attributes(key)

    def copies(self) -> None:
        source = {"x-amz-copy-source": "/golden/metadata/user"}
        expect(self.client.call("PUT", "/golden/copy/of-small", headers=source))
        source = {"x-amz-copy-source": "/golden/multipart/three", "x-amz-metadata-directive": "REPLACE"}
        expect(self.client.call("PUT", "/golden/copy/of-multipart", headers={**source, "x-amz-meta-now": "copied"}))
        for key in ("of-small", "of-multipart"):
            self.ask_object(f"copy/{key}")

    def uploads_in_progress(self) -> None:
        """One with parts, one of them overwritten; one empty; one aborted."""
        upload = self.begin("in-progress/parts", {"x-amz-meta-later": "größer", "content-type": "text/x-late"})
        for number, body in ((1, body_of(400, 900)), (1, sparse_body(401, PART)), (7, body_of(402, 3000))):
            sent = self.client.call(
                "PUT", "/golden/in-progress/parts", query=f"partNumber={number}&uploadId={upload}", body=body
            )
            expect(sent)
        empty, aborted = self.begin("in-progress/none"), self.begin("in-progress/aborted")
        expect(self.client.call("DELETE", "/golden/in-progress/aborted", query=f"uploadId={aborted}"), 204)
        self.ask("/golden/in-progress/parts", f"uploadId={upload}", xml=True)
        self.ask("/golden/in-progress/none", f"uploadId={empty}", xml=True)
        self.ask("/golden/in-progress/aborted", f"uploadId={aborted}", xml=True)
        self.ask("/golden/in-progress/parts", xml=True)
        self.ask("/golden", "uploads=", xml=True)

    def listings(self) -> None:
        self.ask("/", xml=True)
        for bucket in (bucket for bucket in BUCKETS if bucket != "golden.last"):
            self.ask(f"/{bucket}", "location=", xml=True)
            self.ask(f"/{bucket}", "list-type=2&encoding-type=url&fetch-owner=true", xml=True)
            self.ask(f"/{bucket}", "list-type=2&encoding-type=url&delimiter=%2F", xml=True)
            self.ask(f"/{bucket}", "encoding-type=url&max-keys=7", xml=True)
        start = urllib.parse.quote("a/b", safe="")
        self.ask("/golden.many-keys", f"list-type=2&encoding-type=url&start-after={start}", xml=True)


def make(version: str, kind: str) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    store = LiveStore(WORK / "store", environment=SETTINGS)
    try:
        store.start()
        client = S3Client(store.port, timeout=60)
        maker = Maker(client)
        maker.everything()
        about = {"version": version, "kind": kind, "settings": SETTINGS, "disks": 6}
        expectations = Expectations.record(about, maker.questions, client)
        if kind == "killed":
            expectations.asked.extend(last_words(client))
            store.kill_all()
        else:
            assert store.stop() == 0
    finally:
        store.kill_all()
    for leftover in (*WORK.rglob("*-shm"), *WORK.rglob("processes.json")):
        leftover.unlink()
    expectations.save(HERE / f"{version}-{kind}.json")
    pack(WORK / "store", HERE / f"{version}-{kind}.tar.xz")
    shutil.rmtree(WORK)


def last_words(client: S3Client) -> list[tuple[Question, dict[str, Any]]]:
    """Writes of which only the answer was awaited: what they leave may stand in the journals alone."""
    expected: list[tuple[Question, dict[str, Any]]] = []
    for number in range(30):
        body = sparse_body(500 + number, 300_000) if number % 10 == 9 else body_of(500 + number, 500)
        put = expect(client.call("PUT", f"/golden.last/{number:02d}", body=body))
        headers = {"etag": put.headers["etag"], "content-length": str(len(body))}
        answer = {"status": 200, "headers": headers, "sha256": hashlib.sha256(body).hexdigest()}
        if number % 7 == 6:
            expect(client.call("DELETE", f"/golden.last/{number:02d}"), 204)
            answer = {"status": 404, "headers": {}}
        expected.append((Question(method="GET", path=f"/golden.last/{number:02d}", headers={}), answer))
    return expected


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: make.py VERSION")
    for kind in ("stopped", "killed"):
        if (HERE / f"{sys.argv[1]}-{kind}.tar.xz").exists():
            raise SystemExit(f"{sys.argv[1]}-{kind} exists: what was released is never made again")
        make(sys.argv[1], kind)


if __name__ == "__main__":
    main()
