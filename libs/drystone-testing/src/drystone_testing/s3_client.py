# SPDX-License-Identifier: Apache-2.0
"""A small S3 client for fault tests: one keep-alive connection, SigV4, no hidden retries, so that every outcome is known.

It is deliberately independent of the server's own SigV4 code.
"""

import datetime
import hashlib
import hmac
import http.client
import re
import urllib.parse
from dataclasses import dataclass, field

from drystone_testing.live import ACCESS_KEY, SECRET_KEY


class Unknown(Exception):
    """The answer was lost or says nothing about the outcome (broken connection, 5xx): it may or may not have happened."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def code(self) -> str:
        """The S3 error code, empty when the body holds none."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found[1].decode() if found else ""


class S3Client:
    """Speaks to one endpoint; not thread safe (one per thread)."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        access_key: str = ACCESS_KEY,
        secret_key: str = SECRET_KEY,
        timeout: float = 30,
    ) -> None:
        self.host, self.port, self.timeout = host, port, timeout
        self.access_key, self.secret_key = access_key, secret_key
        self.connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def call(
        self, method: str, path: str, *, query: str = "", body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """One request, exactly one attempt; header values go out as UTF-8. Raises Unknown when no answer came."""
        target = urllib.parse.quote(path, safe="/-_.~")
        signed = self._sign(method, target, query, body, headers or {})
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            lines = {name: value.encode() for name, value in signed.items()}
            self.connection.request(method, f"{target}?{query}" if query else target, body or None, lines)
            response = self.connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as broken:
            self.close()
            raise Unknown(repr(broken)) from broken
        if response.will_close:
            self.close()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)

    def _sign(self, method: str, target: str, query: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        given = {k.lower(): v for k, v in headers.items()}
        digest = given.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
        every = {**given, "host": f"{self.host}:{self.port}", "x-amz-date": now, "x-amz-content-sha256": digest}
        if body or method in ("PUT", "POST"):
            every["content-length"] = str(len(body))
        names = sorted(every)
        pairs = sorted(p if "=" in p else p + "=" for p in query.split("&")) if query else []
        canonical = "\n".join(
            [method, target, "&".join(pairs), *(f"{n}:{every[n].strip()}" for n in names), "", ";".join(names), digest]
        )
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for step in (now[:8], "us-east-1", "s3", "aws4_request"):
            key = hmac.digest(key, step.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        every["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope},SignedHeaders={';'.join(names)},Signature={signature}"
        )
        return every

    def create_bucket(self, bucket: str) -> None:
        answer = self.call("PUT", f"/{bucket}")
        if answer.status != 200:
            raise RuntimeError(f"create bucket {bucket}: {answer.status} {answer.body[:300]!r}")

    def list_keys(self, bucket: str, *, prefix: str = "") -> list[str]:
        """All keys, through pages of V2."""
        keys: list[str] = []
        token = ""
        while True:
            query = f"list-type=2&max-keys=1000&prefix={urllib.parse.quote(prefix, safe='')}"
            if token:
                query = f"continuation-token={urllib.parse.quote(token, safe='')}&" + query
            answer = self.call("GET", f"/{bucket}", query=query)
            if answer.status != 200:
                raise Unknown(f"list: {answer.status} {answer.body[:300]!r}")
            text = answer.body.decode()
            keys += re.findall(r"<Key>([^<]*)</Key>", text)
            more = re.search(r"<NextContinuationToken>([^<]*)</NextContinuationToken>", text)
            if not more:
                return keys
            token = more[1]

    def put_multipart(self, bucket: str, key: str, parts: list[bytes]) -> Answer:
        """Create, upload and complete; the first answer that is not 200 is returned (and no more is done)."""
        path = f"/{bucket}/{key}"
        created = self.call("POST", path, query="uploads=")
        if created.status != 200:
            return created
        upload = re.search(rb"<UploadId>([^<]*)</UploadId>", created.body)
        assert upload is not None
        listed = b""
        for number, part in enumerate(parts, 1):
            sent = self.call("PUT", path, query=f"partNumber={number}&uploadId={upload[1].decode()}", body=part)
            if sent.status != 200:
                return sent
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{sent.headers['etag']}</ETag></Part>".encode()
        document = b"<CompleteMultipartUpload>" + listed + b"</CompleteMultipartUpload>"
        done = self.call("POST", path, query=f"uploadId={upload[1].decode()}", body=document)
        if b"<Error>" in done.body:
            raise Unknown(done.body[:300].decode())
        return done
