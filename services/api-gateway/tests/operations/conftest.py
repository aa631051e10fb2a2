# SPDX-License-Identifier: Apache-2.0
"""An S3 endpoint for the boto3 suite: live ones named by S3_ENDPOINT (several with commas: gateways of one cell, each request
to the next of them), with S3_ACCESS_KEY and S3_SECRET_KEY, or the real HTTP server and gateway in a thread of this process, over in-memory metadata tablets and blobs.
"""

import asyncio
import http.client
import itertools
import os
import socket
import threading
import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials

from drystone_gateway.app import Links, World, build
from drystone_gateway.credentials import root_credentials
from drystone_gateway.http.server import HttpServer
from drystone_gateway.http.shared import HttpSettings
from drystone_gateway.operations.answers import error_response
from drystone_gateway.operations.hash_pool import ThreadHashPool
from drystone_gateway.settings import GatewaySettings
from drystone_metadata.service import LocalMetadata
from drystone_metadata.store.memory import MemoryStorage, MemoryTablets
from drystone_metadata.store.ports import CELL_TABLET
from drystone_runtime.clock import SystemClock
from drystone_runtime.entropy import SystemEntropy
from drystone_testing.http_calls import Caller
from drystone_testing.memory_blobs import MemoryBlobs

ACCESS_KEY = "TESTACCESSKEY"
SECRET_KEY = "testsecretkey0123456789"
REGION = "us-east-1"


@dataclass(frozen=True)
class Endpoint:
    """Where to send requests, and as whom."""

    url: str
    access_key: str
    secret_key: str
    others: tuple[str, ...] = ()
    """Further gateways of the same cell."""

    def alternate(self, request, **_):
        """Send a boto3 request to the next of all gateways; called before it is signed."""
        here = next(_TURN) % (1 + len(self.others))
        if here:
            request.url = request.url.replace(self.url, self.others[here - 1], 1)


_TURN = itertools.count()


class Cell:
    """A gateway over in-memory metadata and blobs, on the loop of whoever makes it."""

    def __init__(self, **settings) -> None:
        self.clock, self.entropy = SystemClock(), SystemEntropy()
        self.blobs = MemoryBlobs(
            clock=self.clock, entropy=self.entropy, piece_bytes=settings.pop("piece_bytes", 8 << 20)
        )
        self.metadata = LocalMetadata(
            storage=MemoryStorage(MemoryTablets()), tablet=CELL_TABLET, clock=self.clock, entropy=self.entropy
        )
        self.settings = GatewaySettings(**settings)
        self._hashing = ThreadHashPool(threads=2)
        self.app = build(
            self.settings,
            World(clock=self.clock, entropy=self.entropy, hashing=self._hashing),
            Links(
                metadata=self.metadata,
                storage=self.blobs,
                credentials=root_credentials(
                    access_key=ACCESS_KEY, secret_key=SECRET_KEY, account=self.settings.account
                ),
            ),
        )
        self.caller = Caller(
            handle=self.app.handle, access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=self.settings.region
        )

    async def start(self) -> None:
        await self.metadata.start()
        self._committing = asyncio.ensure_future(self.metadata.run())

    async def begin(self, key: str, **headers: str) -> str:
        """The id of a new upload of `key` in `bkt`."""
        answer = await self.caller.send("POST", f"/bkt/{key}", query="uploads", headers=headers)
        assert answer.status == 200, answer.body
        return answer.body.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()

    async def stop(self) -> None:
        self._committing.cancel()
        await asyncio.gather(self._committing, return_exceptions=True)
        self._hashing.stop()


@pytest.fixture
async def make_cell():
    """Makes cells with a bucket `bkt`; at the end every buffer and chunk must have been given back."""
    cells: list[Cell] = []

    async def make(**settings) -> Cell:
        cell = Cell(**settings)
        await cell.start()
        cells.append(cell)
        assert (await cell.caller.send("PUT", "/bkt")).status == 200
        return cell

    yield make
    for cell in cells:
        await cell.stop()
        assert cell.blobs.lent == 0 and cell.blobs.outstanding == 0


class InProcess:
    """A gateway on a loop in its own thread."""

    def __init__(self) -> None:
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True)
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        try:
            await self._serve()
        except BaseException as failure:
            self._failure = failure
            self._ready.set()
            raise

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        cell = Cell()
        self.blobs = cell.blobs
        await cell.start()
        server = HttpServer(
            handler=cell.app.handle,
            render_error=error_response,
            settings=HttpSettings(),
            clock=cell.clock,
            entropy=cell.entropy,
        )
        await server.start(host="127.0.0.1")
        self.port = server.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await server.drain(cell.clock.monotonic() + 1.0)
        await cell.stop()


@pytest.fixture(scope="session")
def s3_endpoint():
    """The endpoint of this session."""
    url = os.environ.get("S3_ENDPOINT")
    if url:
        first, *others = url.split(",")
        yield Endpoint(first, os.environ["S3_ACCESS_KEY"], os.environ["S3_SECRET_KEY"], tuple(others))
        return
    gateway = InProcess()
    gateway.start()
    yield Endpoint(f"http://127.0.0.1:{gateway.port}", ACCESS_KEY, SECRET_KEY)
    gateway.stop()
    assert gateway.blobs.outstanding == 0, "every chunk read was released"
    assert gateway.blobs.lent == 0, "every piece buffer was given back"


def make_client(endpoint: Endpoint, *, region_name: str = REGION, **options):
    settings = {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "retries": {"max_attempts": 1, "mode": "standard"},
        "parameter_validation": False,
    }
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        region_name=region_name,
        config=Config(**{**settings, **options}),
    )
    if endpoint.others:
        client.meta.events.register_first("before-sign.s3", endpoint.alternate)
    return client


@pytest.fixture(scope="session")
def s3(s3_endpoint):
    """A boto3 client with its defaults (it sends checksums)."""
    return make_client(s3_endpoint)


@pytest.fixture(scope="session")
def s3_plain(s3_endpoint):
    """A client that sends no checksums of its own accord."""
    return make_client(
        s3_endpoint, request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )


@pytest.fixture(scope="session")
def s3_anonymous(s3_endpoint):
    return make_client(s3_endpoint, signature_version=UNSIGNED)


@pytest.fixture(scope="session")
def s3_factory(s3_endpoint):
    return lambda **options: make_client(s3_endpoint, **options)


_SERIAL = itertools.count()


@pytest.fixture
def fresh_name() -> str:
    """A bucket name nobody used."""
    return f"t{time.time_ns():x}-{next(_SERIAL)}"


@pytest.fixture
def bucket(s3, fresh_name):
    """An empty bucket, emptied and deleted afterwards."""
    s3.create_bucket(Bucket=fresh_name)
    yield fresh_name
    for upload in s3.list_multipart_uploads(Bucket=fresh_name).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=fresh_name, Key=upload["Key"], UploadId=upload["UploadId"])
    while contents := s3.list_objects_v2(Bucket=fresh_name).get("Contents"):
        for entry in contents:
            s3.delete_object(Bucket=fresh_name, Key=entry["Key"])
    s3.delete_bucket(Bucket=fresh_name)


def signed_headers(endpoint, method, target, body, headers, sha256, access_key, secret_key):
    """Headers of a signed request for the raw `target`."""
    call = AWSRequest(method=method, url=endpoint.url + target, headers=dict(headers or {}), data=body)
    if sha256 is not None:
        call.headers["x-amz-content-sha256"] = sha256
    signer = S3SigV4Auth(
        BotoCredentials(access_key or endpoint.access_key, secret_key or endpoint.secret_key), "s3", REGION
    )
    if sha256 is not None:
        signer.payload = lambda request: sha256
    signer.add_auth(call)
    return {name: str(value) for name, value in call.headers.items()}


@pytest.fixture(scope="session")
def s3_raw(s3_endpoint):
    """Send exactly this; returns (status, headers, body)."""

    def send(
        method, target, body=b"", *, headers=None, sha256=None, access_key=None, secret_key=None, unsigned_headers=None
    ):
        sent = signed_headers(s3_endpoint, method, target, body, headers, sha256, access_key, secret_key)
        sent.update(unsigned_headers or {})
        split = urlsplit(s3_endpoint.url)
        connection = http.client.HTTPConnection(split.hostname, split.port, timeout=20)
        try:
            connection.request(method, quote(target, safe="/?&=%-_.~:+*"), body=body or None, headers=sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    return send


@pytest.fixture(scope="session")
def s3_cut(s3_endpoint):
    """Send a signed head and only the first `sent` bytes of the body, then stop; returns what came back."""

    def send(method, target, body, sent, *, headers=None, drop_length=False, linger=2.0):
        lines = signed_headers(s3_endpoint, method, target, body, headers, None, None, None)
        split = urlsplit(s3_endpoint.url)
        lines["host"] = split.netloc
        if not drop_length:
            lines["content-length"] = str(len(body))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        answer = b""
        with socket.create_connection((split.hostname, split.port), timeout=10) as connection:
            connection.sendall(head.encode() + b"\r\n" + body[:sent])
            if sent:
                return answer
            connection.settimeout(linger)
            try:
                while piece := connection.recv(65536):
                    answer += piece
                    if b"</Error>" in answer or b"100 Continue" in answer:
                        break
            except TimeoutError:
                pass
        return answer

    return send
