# SPDX-License-Identifier: Apache-2.0
"""Storage classes of a standalone store on disks of two classes: where the bytes went is looked up on the disks themselves."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drystone_core.formats.shard import parse_shard_name
from drystone_testing.live import LiveStore, drystone_command
from drystone_testing.s3_client import S3Client

MIB = 1 << 20
IA = {"x-amz-storage-class": "STANDARD_IA"}
MAPPED = {"DRYSTONE_STORAGE_CLASSES": "STANDARD=ssd,STANDARD_IA=hdd"}


class Tiers:
    """Disks w0 … and c0 … of a store; the bytes each class holds."""

    def __init__(self, root: Path, warm: int, cold: int) -> None:
        self.root = root
        self.disks = [root / f"w{index}" for index in range(warm)] + [root / f"c{index}" for index in range(cold)]

    def store(self, *options: str, environment: dict[str, str] | None = None) -> LiveStore:
        """Not started yet."""
        return LiveStore(
            *self.disks,
            options=("--state-dir", str(self.root / "state"), *options),
            environment=MAPPED if environment is None else environment,
            log=self.root / "serve.log",
        )

    def classed(self) -> LiveStore:
        """One that says the classes of its disks."""
        return self.store("--disk-classes", f"{self.root}/w*=ssd,{self.root}/c*=hdd")

    def holds(self, letter: str, words: bytes) -> int:
        """Disks of that letter with the words in a shard file."""
        found = 0
        for disk in self.root.glob(f"{letter}*/volumes"):
            files = [file for file in disk.iterdir() if parse_shard_name(file.name) is not None]
            found += any(words in file.read_bytes() for file in files)
        return found


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path, warm=4, cold=4)


@pytest.fixture
def serving(tiers: Tiers) -> Iterator[LiveStore]:
    """Four disks of each class, STANDARD on the one, STANDARD_IA on the other, and the bucket `tiers`."""
    with tiers.classed() as store:
        S3Client(store.port).create_bucket("tiers")
        yield store


def until(true: Callable[[], bool], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def put(client: S3Client, key: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    return client.call("PUT", f"/tiers/{key}", body=body, headers=headers).status


def words_of(name: str, times: int) -> bytes:
    """Bytes that are found on no disk that does not hold them."""
    return f"<{name} lies here>".encode() * times


def reasons(store: LiveStore) -> dict[str, str]:
    """Code → summary."""
    return {reason["code"]: reason["summary"] for reason in store.status()["reasons"]}


def test_bytes_lie_on_the_disks_of_their_class_and_after_a_restart_too(tiers: Tiers, serving: LiveStore) -> None:
    """PUT small and large, copies, a copy onto itself, an upload's parts; the start after needs no word of classes."""
    client = S3Client(serving.port)
    status = serving.status()
    assert status["profile"] == "rs-2-2", "of the smallest class, not of eight disks"
    assert {(Path(disk["path"]).name[0], disk["disk_class"]) for disk in status["disks"]} == {
        ("w", "ssd"),
        ("c", "hdd"),
    }
    assert status["storage_classes"] == {"STANDARD": "ssd", "STANDARD_IA": "hdd"} and "CLASS_SHORT" not in reasons(
        serving
    )

    for size in (50, 3 * MIB // 16):
        assert put(client, f"warm-{size}", words_of(f"warm-{size}", size)) == 200
        assert put(client, f"cold-{size}", words_of(f"cold-{size}", size), IA) == 200
    started = client.call("POST", "/tiers/parts", query="uploads", headers=IA).body
    upload = re.findall(rb"<UploadId>([^<]*)<", started)[0].decode()
    part = client.call("PUT", "/tiers/parts", query=f"partNumber=1&uploadId={upload}", body=words_of("cold-part", 9000))
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    assert client.call("POST", "/tiers/parts", query=f"uploadId={upload}", body=document.encode()).status == 200
    assert put(client, "copy", b"", {"x-amz-copy-source": "/tiers/warm-50", **IA}) == 200
    assert put(client, "moves", words_of("moves", 60)) == 200
    assert (tiers.holds("w", words_of("moves", 3)) > 0, tiers.holds("c", words_of("moves", 3))) == (True, 0)
    assert put(client, "moves", b"", {"x-amz-copy-source": "/tiers/moves", **IA}) == 200

    def everything() -> None:
        for name in ("cold-50", f"cold-{3 * MIB // 16}", "cold-part"):
            assert (tiers.holds("c", words_of(name, 3)) > 0, tiers.holds("w", words_of(name, 3))) == (True, 0), name
        for name in ("warm-50", f"warm-{3 * MIB // 16}"):
            assert tiers.holds("w", words_of(name, 3)) > 0, name
        assert tiers.holds("c", words_of(f"warm-{3 * MIB // 16}", 3)) == 0
        assert tiers.holds("c", words_of("warm-50", 3)) > 0, "the copy"
        assert tiers.holds("c", words_of("moves", 3)) > 0
        for key, named in (
            ("cold-50", "STANDARD_IA"),
            ("parts", "STANDARD_IA"),
            ("moves", "STANDARD_IA"),
            ("warm-50", None),
        ):
            assert client.call("HEAD", f"/tiers/{key}").headers.get("x-amz-storage-class") == named
        assert client.call("GET", "/tiers/parts").body == words_of("cold-part", 9000)

    everything()
    serving.stop()
    with tiers.store() as again:
        client = S3Client(again.port)
        everything()
        assert put(client, "later", words_of("later", 100), IA) == 200
        assert (tiers.holds("c", words_of("later", 3)) > 0, tiers.holds("w", words_of("later", 3))) == (True, 0)


def test_a_class_short_of_disks_refuses_by_name_and_the_other_serves(tiers: Tiers, serving: LiveStore) -> None:
    """Two of four cold disks away is one too many for m = 2: 503, health says which; nothing goes to the warm ones."""
    client = S3Client(serving.port)
    assert put(client, "before", words_of("before", 60), IA) == 200
    for index in (0, 1):
        (tiers.root / f"c{index}").rename(tiers.root / f"gone{index}")
    until(lambda: sum(disk["state"] == "failed" for disk in serving.status()["disks"]) == 2)
    refused = client.call("PUT", "/tiers/refused", body=words_of("refused", 60), headers=IA)
    assert (refused.status, refused.code) == (503, "ServiceUnavailable"), refused.body
    assert tiers.holds("w", words_of("refused", 3)) == 0
    assert (
        "2 disks of class hdd can be written, 3 are needed: writes of STANDARD_IA are refused"
        in reasons(serving)["CLASS_SHORT"]
    )
    assert put(client, "warm", b"w" * 9000) == 200
    assert client.call("GET", "/tiers/before").body == words_of("before", 60)
    for index in (0, 1):
        (tiers.root / f"gone{index}").rename(tiers.root / f"c{index}")
    until(lambda: put(client, "after", words_of("after", 60), IA) == 200)
    until(lambda: "CLASS_SHORT" not in reasons(serving))


def test_a_cold_tier_is_added_to_a_store_that_had_no_classes(tmp_path: Path) -> None:
    """As operations.md says: --add-disks with their class, then the mapping; what was there stays, readable."""
    before = Tiers(tmp_path, warm=4, cold=0)
    with before.store(environment={}) as store:
        client = S3Client(store.port)
        client.create_bucket("tiers")
        assert put(client, "old", words_of("old", 60)) == 200
        assert put(client, "old", b"x", IA) == 501
    tiers = Tiers(tmp_path, warm=4, cold=4)
    cold = ("--disk-classes", f"{tmp_path}/c*=hdd")
    refused = subprocess.run(
        [*drystone_command(), "serve", *map(str, tiers.disks), "--state-dir", str(tmp_path / "state"), *cold],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 1 and "--add-disks" in refused.stderr
    with tiers.store("--add-disks", *cold, environment={"DRYSTONE_STORAGE_CLASSES": "STANDARD_IA=hdd"}) as store:
        client = S3Client(store.port)
        assert put(client, "cold", words_of("cold", 60), IA) == 200
        assert put(client, "new", words_of("new", 60)) == 200
        assert client.call("GET", "/tiers/old").body == words_of("old", 60)
        assert (tiers.holds("c", words_of("cold", 3)) > 0, tiers.holds("w", words_of("cold", 3))) == (True, 0)
        assert (tiers.holds("w", words_of("new", 3)) > 0, tiers.holds("c", words_of("new", 3))) == (True, 0)
        assert store.status()["health"] == "OK"


def test_a_lost_cold_disk_is_rebuilt_on_another_cold_one(tmp_path: Path) -> None:
    """Though warm disks have as much room; what it held is whole again."""
    tiers = Tiers(tmp_path, warm=5, cold=5)
    options = ("--profile", "rs-2-2", "--disk-classes", f"{tmp_path}/w*=ssd,{tmp_path}/c*=hdd")
    with tiers.store(*options, environment=MAPPED | {"DRYSTONE_STORAGE_LOST_AFTER": "2s"}) as store:
        client = S3Client(store.port)
        client.create_bucket("tiers")
        assert put(client, "cold", words_of("cold", 20_000), IA) == 200
        (holder, *_) = [disk for disk in tiers.disks if disk.name[0] == "c" and any((disk / "volumes").glob("*"))]
        lost = {file.name for file in (holder / "volumes").iterdir()}
        shutil.rmtree(holder)

        def rebuilt() -> bool:
            here = {file.name for file in tiers.root.glob("c*/volumes/*")}
            return lost <= here and not store.status()["volumes"]["degraded"]

        until(rebuilt, seconds=60)
        assert not lost & {file.name for file in tiers.root.glob("w*/volumes/*")}
        assert client.call("GET", "/tiers/cold").body == words_of("cold", 20_000)


@pytest.mark.parametrize(
    ("options", "environment", "code", "says"),
    [
        (
            ("--disk-classes", "{root}/c*=smr"),
            {},
            1,
            "c0 is a disk of class hdd, storage.disk_classes says smr: say hdd there",
        ),
        (("--disk-classes", "{root}/d9=hdd"), {}, 1, "d9, which is not one of the given directories"),
        (("--disk-classes", "{root}/c*=HDD"), {}, 2, "'HDD' is not a disk class"),
        ((), {"DRYSTONE_STORAGE_CLASSES": "GLACIER=hdd"}, 2, "DRYSTONE_STORAGE_CLASSES: GLACIER cannot be mapped"),
    ],
)
def test_what_contradicts_the_disks_or_cannot_be_kept_starts_nothing(
    tiers: Tiers, options: tuple[str, ...], environment: dict[str, str], code: int, says: str
) -> None:
    """Every such mistake is a sentence; the identities stay as they are."""
    with tiers.classed():
        pass
    before = {disk: (disk / "drystone-disk.json").read_bytes() for disk in tiers.disks}
    with pytest.raises(RuntimeError) as caught:
        tiers.store(*(option.format(root=tiers.root) for option in options), environment=environment).start()
    assert says in str(caught.value)
    assert {disk: (disk / "drystone-disk.json").read_bytes() for disk in tiers.disks} == before
    assert {json.loads(data)["class"] for data in before.values()} == {"ssd", "hdd"}
