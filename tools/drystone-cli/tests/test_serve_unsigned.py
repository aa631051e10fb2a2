# SPDX-License-Identifier: Apache-2.0
"""`server.unsigned_needs_tls`: bodies nobody signed come over TLS only, when the operator wants that."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from drystone_testing.live import ACCESS_KEY, SECRET_KEY, LiveStore, drystone_command, make_certificate
from drystone_testing.s3_client import S3Client

UNSIGNED = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}


@pytest.fixture(scope="module", params=["file", "environment"])
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStore]:
    """A store over plain HTTP with the setting on, by either source."""
    root = tmp_path_factory.mktemp("unsigned")
    options: tuple[str, ...] = ()
    environment = {}
    if request.param == "file":
        (root / "strict.toml").write_text("[server]\nunsigned_needs_tls = true\n")
        options = ("--config", str(root / "strict.toml"))
    else:
        environment = {"DRYSTONE_SERVER_UNSIGNED_NEEDS_TLS": "true"}
    with LiveStore(root / "store", options=options, environment=environment) as live:
        S3Client(live.port).create_bucket("bkt")
        yield live


def arguments(store: LiveStore, version: str) -> dict[str, Any]:
    """Of a boto3 client that signs in this version."""
    return {
        "endpoint_url": store.endpoint,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "region_name": "us-east-1",
        "config": Config(signature_version=version),
    }


def presigned(store: LiveStore, version: str) -> str:
    """A URL to put bkt/url."""
    client: Any = boto3.client("s3", **arguments(store, version))
    url: str = client.generate_presigned_url("put_object", Params={"Bucket": "bkt", "Key": "url"})
    return url


def put(url: str, tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=b"whose bytes?", method="PUT", headers={"content-type": ""})
    try:
        with urllib.request.urlopen(request, timeout=20, context=tls) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_unsigned_body_over_plain_http_is_refused_with_what_to_do(strict: LiveStore) -> None:
    """Nothing is stored; a signed body of the same client is accepted."""
    s3 = S3Client(strict.port)
    for headers in (UNSIGNED, {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}):
        refused = s3.call("PUT", "/bkt/k", body=b"whose bytes?", headers=headers)
        assert (refused.status, refused.code) == (400, "InvalidRequest")
        assert b"use HTTPS or sign the payload" in refused.body
    assert s3.call("GET", "/bkt/k", headers=UNSIGNED).code == "NoSuchKey", "reads have no body to sign"
    assert s3.call("PUT", "/bkt/k", body=b"mine").status == 200
    s3.close()


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_put_over_plain_http_is_refused(strict: LiveStore, version: str) -> None:
    """Nobody signs what goes through the URL."""
    status, body = put(presigned(strict, version))
    assert status == 400 and b"use HTTPS or sign the payload" in body


def test_unsigned_body_over_plain_http_is_accepted_by_default(tmp_path: Path) -> None:
    """As S3 does it."""
    with LiveStore(tmp_path / "store") as live:
        s3 = S3Client(live.port)
        s3.create_bucket("bkt")
        assert s3.call("PUT", "/bkt/k", body=b"anyone's", headers=UNSIGNED).status == 200
        assert put(presigned(live, "s3v4"))[0] == 200
        s3.close()


def test_unsigned_body_over_tls_is_accepted(tmp_path: Path) -> None:
    """With the setting on."""
    make_certificate(tmp_path, "127.0.0.1")
    options = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    environment = {"DRYSTONE_SERVER_UNSIGNED_NEEDS_TLS": "yes"}
    with LiveStore(tmp_path / "store", options=options, environment=environment) as live:
        client = boto3.client("s3", verify=str(tmp_path / "cert.pem"), **arguments(live, "s3v4"))
        client.create_bucket(Bucket="bkt")
        client.put_object(Bucket="bkt", Key="k", Body=b"unsigned over TLS")
        assert client.get_object(Bucket="bkt", Key="k")["Body"].read() == b"unsigned over TLS"
        trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        assert put(presigned(live, "s3v4"), trusting)[0] == 200


def test_config_check_shows_the_setting(tmp_path: Path) -> None:
    """Off unless said; a value that is none is told with its source."""
    checked = subprocess.run(
        [*drystone_command(), "config", "check", "--json"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(checked.stdout)["settings"]["server"]["unsigned_needs_tls"] is False
    file = tmp_path / "drystone.toml"
    file.write_text('[server]\nunsigned_needs_tls = "perhaps"\n')
    wrong = subprocess.run(
        [*drystone_command(), "config", "check", "--config", str(file)], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2 and f"{file}:server.unsigned_needs_tls: 'perhaps' is not true or false" in wrong.stderr
