# SPDX-License-Identifier: Apache-2.0
"""boto3 over TLS, with the trailing checksums it sends there by default, and with buckets in the host name.

Names under `s3.drystone.test` are resolved to the loopback by the tests themselves; the certificate is made by openssl.
"""

import hashlib
import io
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from drystone_testing.live import ACCESS_KEY, SECRET_KEY, LiveStore

DOMAIN = "s3.drystone.test"
SETTINGS = {"DRYSTONE_SERVER_DOMAINS": f"{DOMAIN},localhost"}
BODIES = [b"", b"x", os.urandom(5000), os.urandom(131_072), os.urandom(9 << 20)]

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make_certificate(certificate: Path, key: Path, name: str) -> None:
    """Self-signed, for the loopback and for buckets of the domain."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj".split()
    names = f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:{DOMAIN},DNS:*.{DOMAIN}"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, f"/CN={name}", "-addext", names, *files], check=True, capture_output=True)


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name below our domains is this machine, as a wildcard DNS record would say."""
    ask = socket.getaddrinfo

    def answer(host: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        ours = isinstance(name, str) and name.endswith((DOMAIN, ".localhost"))
        return ask("127.0.0.1" if ours else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A store that serves HTTPS; its certificate lies beside its directory."""
    base = tmp_path_factory.mktemp("tls")
    make_certificate(base / "cert.pem", base / "key.pem", "first")
    options = ("--tls-cert", str(base / "cert.pem"), "--tls-key", str(base / "key.pem"))
    with LiveStore(base / "store", options=options, environment=SETTINGS) as store:
        yield store


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A store that serves HTTP."""
    with LiveStore(tmp_path_factory.mktemp("hosts") / "store", environment=SETTINGS) as store:
        yield store


def client(url: str, *, style: str = "path", verify: Path | None = None, **more: Any) -> Any:
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1",
        verify=str(verify) if verify else None,
        config=Config(s3={"addressing_style": style}, retries={"total_max_attempts": 1}, **more),
    )  # fmt: skip


def certificate_of(store: LiveStore) -> Path:
    return store.directories[0].parent / "cert.pem"


def sent_by(s3: Any) -> list[Any]:
    """Every request the client sends from now on, as it goes out."""
    seen: list[Any] = []
    s3.meta.events.register("before-send.s3", lambda request, **_: seen.append(request))
    return seen


def exercise(s3: Any, bucket: str) -> None:
    """Create, write, read, copy, multipart, list, delete."""
    s3.create_bucket(Bucket=bucket)
    for number, body in enumerate(BODIES):
        key = f"dir ü+%/{number}?&="
        put = s3.put_object(Bucket=bucket, Key=key, Body=io.BytesIO(body), Metadata={"n": str(number)})
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        assert got["Body"].read() == body and got["Metadata"] == {"n": str(number)}
        assert got["ChecksumCRC32"] == put["ChecksumCRC32"]
    s3.upload_fileobj(io.BytesIO(BODIES[4] * 2), bucket, "big")
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == BODIES[4] * 2
    s3.copy_object(Bucket=bucket, Key="copied", CopySource={"Bucket": bucket, "Key": "dir ü+%/2?&="})
    assert s3.get_object(Bucket=bucket, Key="copied")["Body"].read() == BODIES[2]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == sorted(["big", "copied", *(f"dir ü+%/{n}?&=" for n in range(len(BODIES)))])
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    s3.delete_bucket(Bucket=bucket)


@needs_openssl
def test_boto3_does_everything_over_tls_with_trailing_checksums(secure: LiveStore) -> None:
    """Bodies go out as STREAMING-UNSIGNED-PAYLOAD-TRAILER; each trailer is checked and kept."""
    s3 = client(secure.endpoint, verify=certificate_of(secure))
    seen = sent_by(s3)
    exercise(s3, "over-tls")
    kinds = {bytes_or_text(request.headers["X-Amz-Content-SHA256"]) for request in seen if request.method == "PUT"}
    trailers = [request for request in seen if "X-Amz-Trailer" in request.headers]
    assert "STREAMING-UNSIGNED-PAYLOAD-TRAILER" in kinds, kinds
    assert len(trailers) >= len(BODIES), "boto3 sent no trailing checksums"


@needs_openssl
def test_a_wrong_trailer_over_tls_stores_nothing(secure: LiveStore) -> None:
    """BadDigest (as AWS answers a checksum that does not fit), and the old object stays."""
    s3 = client(secure.endpoint, verify=certificate_of(secure))
    s3.create_bucket(Bucket="trailers")
    s3.put_object(Bucket="trailers", Key="k", Body=io.BytesIO(b"old"))
    spoiled: list[bytes] = []

    def spoil(request: Any, **_: Any) -> None:
        body = request.body.read()
        changed = re.sub(rb"(x-amz-checksum-crc32:)[^\r]{6}", rb"\g<1>AAAAAA", body)
        assert changed != body
        spoiled.append(changed)
        request.body = io.BytesIO(changed)

    s3.meta.events.register("before-send.s3.PutObject", spoil)
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="trailers", Key="k", Body=io.BytesIO(b"new and different"))
    assert spoiled and refused.value.response["Error"]["Code"] == "BadDigest", refused.value.response
    assert s3.get_object(Bucket="trailers", Key="k")["Body"].read() == b"old"


@needs_openssl
def test_buckets_in_host_names_over_tls(secure: LiveStore, resolving: None) -> None:
    """The wildcard certificate fits bucket.DOMAIN."""
    s3 = client(f"https://{DOMAIN}:{secure.port}", style="virtual", verify=certificate_of(secure))
    seen = sent_by(s3)
    exercise(s3, "virtual-tls")
    assert any(request.url.startswith(f"https://virtual-tls.{DOMAIN}:{secure.port}/") for request in seen)


@needs_openssl
def test_plain_http_on_a_tls_port_gets_nothing_and_harms_nothing(secure: LiveStore) -> None:
    """Neither half a handshake nor a request in the clear is answered with data."""
    for first in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b""):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=10) as raw:
            raw.sendall(first)
            raw.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while data := raw.recv(4096):
                    answer += data
            except ConnectionResetError:
                pass
            assert b"HTTP/" not in answer and b"<?xml" not in answer
    assert client(secure.endpoint, verify=certificate_of(secure)).list_buckets()["Buckets"] is not None


@needs_openssl
def test_a_renewed_certificate_is_taken_while_clients_go_on(tmp_path: Path) -> None:
    """A pair that does not fit together never replaces a good one; open connections stay; new ones see the new one."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key, "first")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with LiveStore(tmp_path / "store", options=options) as store:
        first = tmp_path / "first.pem"
        shutil.copy(certificate, first)
        old = client(store.endpoint, verify=first)
        old.create_bucket(Bucket="renewed")
        with open_connection(store, first) as kept:
            assert b" 403 " in asked(kept)
            main = store.main_pid()
            make_certificate(certificate, tmp_path / "other-key.pem", "half")  # its key has not come yet
            reload_now(store)
            time.sleep(0.5)
            assert shown(store) == der_of(first), "a certificate without its key was taken"
            old.put_object(Bucket="renewed", Key="a", Body=io.BytesIO(b"a"))
            shutil.copy(tmp_path / "other-key.pem", key)
            reload_now(store)
            await_that(lambda: shown(store) == der_of(certificate))
            new = client(store.endpoint, verify=certificate)
            assert new.get_object(Bucket="renewed", Key="a")["Body"].read() == b"a"
            assert b" 403 " in asked(kept), "a connection made before the change was cut"
            assert store.main_pid() == main


def bytes_or_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def open_connection(store: LiveStore, trusted: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(trusted))
    plain = socket.create_connection(("127.0.0.1", store.port), timeout=10)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def asked(connection: ssl.SSLSocket) -> bytes:
    """The head of the answer to an anonymous request; its short body is read too."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
    while len(body) < length:
        body += connection.recv(65536)
    return head


def der_of(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def shown(store: LiveStore) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", store.port), timeout=10))


def reload_now(store: LiveStore) -> None:
    assert store.process is not None
    os.kill(store.process.pid, signal.SIGHUP)


def await_that(condition: Callable[[], bool], *, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("did not come to pass")


@pytest.mark.parametrize("domain", [DOMAIN, "localhost"])
def test_buckets_in_host_names(plain: LiveStore, resolving: None, domain: str) -> None:
    """addressing_style=virtual: the whole exercise, each request with the bucket in its Host header."""
    s3 = client(f"http://{domain}:{plain.port}", style="virtual")
    seen = sent_by(s3)
    exercise(s3, "virtual-one")
    assert all(request.url.startswith(f"http://virtual-one.{domain}:{plain.port}/") for request in seen)
    assert s3.list_buckets()["Owner"]


def test_both_styles_see_the_same_objects(plain: LiveStore, resolving: None) -> None:
    """By host name, by path at the domain and by path at an address; a key may repeat its bucket's name."""
    host = client(f"http://{DOMAIN}:{plain.port}", style="virtual")
    clients = [host, client(f"http://{DOMAIN}:{plain.port}"), client(plain.endpoint)]
    host.create_bucket(Bucket="both-styles")
    keys = ["both-styles/both-styles", "/leading", "a//b", "../up", "x"]
    for key in keys:
        for number, writer in enumerate(clients):
            writer.put_object(Bucket="both-styles", Key=key, Body=f"{key} {number}".encode())
            for reader in clients:
                assert reader.get_object(Bucket="both-styles", Key=key)["Body"].read() == f"{key} {number}".encode()
    for reader in clients:
        assert [o["Key"] for o in reader.list_objects_v2(Bucket="both-styles")["Contents"]] == sorted(keys)
        assert [b["Name"] for b in reader.list_buckets()["Buckets"]].count("both-styles") == 1


def test_presigned_urls_with_the_bucket_in_the_host(plain: LiveStore, resolving: None) -> None:
    """Both signature versions; the signature covers the host, so that no other bucket can be read with it."""
    for version in ("s3", "s3v4"):
        bucket, other = f"signed-{version}", f"other-{version}"
        s3 = client(f"http://{DOMAIN}:{plain.port}", style="virtual", signature_version=version)
        for name in (bucket, other):
            client(plain.endpoint).create_bucket(Bucket=name)
            client(plain.endpoint).put_object(Bucket=name, Key="k e+y", Body=name.encode())
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k e+y"}, ExpiresIn=60)
        assert f"//{bucket}.{DOMAIN}:" in url
        assert urllib.request.urlopen(url).read() == bucket.encode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url.replace(f"//{bucket}.", f"//{other}."))
        assert refused.value.code == 403


def test_a_bucket_with_dots_and_hosts_in_capitals(plain: LiveStore, resolving: None) -> None:
    """Names of DNS do not know case; dots belong to the bucket."""
    s3 = client(plain.endpoint)
    s3.create_bucket(Bucket="with.dots.in-it")
    s3.put_object(Bucket="with.dots.in-it", Key="k", Body=b"dotted")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "with.dots.in-it", "Key": "k"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"dotted"
    virtual = client(f"http://{DOMAIN}:{plain.port}", style="virtual")
    assert virtual.get_object(Bucket="with.dots.in-it", Key="k")["Body"].read() == b"dotted"
    shouting = client(f"http://{DOMAIN.upper()}:{plain.port}", style="virtual")
    assert shouting.get_object(Bucket="with.dots.in-it", Key="k")["Body"].read() == b"dotted"
