# SPDX-License-Identifier: Apache-2.0
"""The cells of the auth matrix: every implemented route in every auth mode, attacked in every way to be denied."""

import base64
import calendar
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from drystone_gateway.operations.table import OPERATIONS
from drystone_gateway.operations.unconfigured import unconfigured
from drystone_gateway.s3.operation import Operation as Op
from drystone_gateway.s3.route_tables import BUCKET_PLAIN, BUCKET_SUB, OBJECT_PLAIN, OBJECT_SUB
from drystone_testing.wire import Signer, Wire

BUCKET, KEY, OTHER = "target", "victim", "other"
MISMATCH = "SignatureDoesNotMatch"
DELETE_ALL = f"<Delete><Object><Key>{KEY}</Key></Object></Delete>".encode()
DELETE_MD5 = base64.b64encode(hashlib.md5(DELETE_ALL).digest()).decode()
CONFIGURATION = (
    b'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></CreateBucketConfiguration>'
)
NOT_ROUTED = frozenset({"MethodNotAllowed", "NotImplemented", "InvalidArgument"})
"""Refusals that come before the signature is looked at: the altered request names no operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation as a request before it is signed."""

    name: str
    request: Wire
    reads_body: bool = False
    probe: bool = False
    """Asks for configuration that was never set: what is stored is looked at after each mode, not after each cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One attack, and the codes that deny it."""

    name: str
    request: Wire
    codes: frozenset[str]


def routes(upload_id: str, part_etag: str) -> list[Route]:
    """Every operation of the table; those that read a body, small and large."""
    multipart = f"uploadId={upload_id}"
    complete = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{part_etag}</ETag></Part></CompleteMultipartUpload>"
    ).encode()
    copy = {"x-amz-copy-source": f"/{BUCKET}/{KEY}"}
    key, bucket = f"/{BUCKET}/{KEY}", f"/{BUCKET}"
    special = {
        Op.LIST_BUCKETS: [Wire(method="GET", path="/")],
        Op.LIST_DIRECTORY_BUCKETS: [Wire(method="GET", path="/", query="max-directory-buckets=5")],
        Op.LIST_OBJECTS_V2: [Wire(method="GET", path=bucket, query="list-type=2")],
        Op.CREATE_BUCKET: [
            Wire(method="PUT", path="/new-bucket"),
            Wire(method="PUT", path="/new-bucket", body=CONFIGURATION),
        ],
        Op.DELETE_BUCKET: [Wire(method="DELETE", path=f"/{OTHER}")],
        Op.PUT_OBJECT: [
            Wire(method="PUT", path=key, body=b"evil" * 500, headers={"content-type": "text/evil"}),
            Wire(method="PUT", path=f"{key}-2", body=b"large evil" * 20_000),
            Wire(method="PUT", path=f"{key}-3"),
        ],
        Op.COPY_OBJECT: [Wire(method="PUT", path=f"{key}-copy", headers=copy)],
        Op.UPLOAD_PART: [Wire(method="PUT", path=key, query=f"partNumber=1&{multipart}", body=b"evil" * 600)],
        Op.UPLOAD_PART_COPY: [Wire(method="PUT", path=key, query=f"partNumber=1&{multipart}", headers=copy)],
        Op.LIST_PARTS: [Wire(method="GET", path=key, query=multipart)],
        Op.ABORT_MULTIPART_UPLOAD: [Wire(method="DELETE", path=key, query=multipart)],
        Op.COMPLETE_MULTIPART_UPLOAD: [Wire(method="POST", path=key, query=multipart, body=complete)],
        Op.DELETE_OBJECTS: [
            Wire(method="POST", path=bucket, query="delete=", body=DELETE_ALL, headers={"content-md5": DELETE_MD5})
        ],
        Op.GET_OBJECT_ATTRIBUTES: [
            Wire(method="GET", path=key, query="attributes=", headers={"x-amz-object-attributes": "ETag"})
        ],
    }
    found = [(op, wire) for op, wires in special.items() for wire in wires]
    found += [(op, wire) for op, wire in _tabled(bucket, key) if op not in special]
    assert {op for op, _ in found} == set(OPERATIONS), set(OPERATIONS) ^ {op for op, _ in found}
    return [
        Route(
            name=f"{op.value}-{number}",
            request=wire,
            reads_body=bool(wire.body),
            probe=OPERATIONS[op] is unconfigured and wire.method == "GET",
        )
        for number, (op, wire) in enumerate(found)
    ]


def _tabled(bucket: str, key: str) -> Iterator[tuple[Op, Wire]]:
    """The routes that need nothing but method and sub-resource."""
    for path, plain, subs in ((bucket, BUCKET_PLAIN, BUCKET_SUB), (key, OBJECT_PLAIN, OBJECT_SUB)):
        for method, op in plain.items():
            if op in OPERATIONS:
                yield op, Wire(method=method, path=path)
        for sub, methods in subs.items():
            for method, op in methods.items():
                if op not in OPERATIONS:
                    continue
                many = next((other for other in OPERATIONS if other.value == f"List{op.value[3:]}s"), None)
                if many is not None and op.value.startswith("Get"):
                    yield many, Wire(method=method, path=path, query=f"{sub}=")
                    yield op, Wire(method=method, path=path, query=f"{sub}=&id=one")
                else:
                    yield op, Wire(method=method, path=path, query=f"{sub}=")


def signer_at(host: str, now: float, offset: int = 0, **changed: object) -> Signer:
    """The root credential's signer, `offset` seconds from `now`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now + offset))
    seconds = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    return replace(Signer(host=host, seconds=seconds, stamp=stamp), **changed)


def covered_by_v2(route: Route) -> bool:
    """Does Version 2 sign all of its query, and is it no listing that its parameters narrow?"""
    names = {piece.partition("=")[0] for piece in route.request.query.split("&") if piece}
    return names <= V2_NAMES and route.name.partition("-")[0] not in NARROWED


NARROWED = frozenset(
    {
        "ListBuckets",
        "ListDirectoryBuckets",
        "ListObjects",
        "ListObjectsV2",
        "ListObjectVersions",
        "ListMultipartUploads",
    }
)
V2_NAMES = frozenset(
    "accelerate acl analytics cors delete inventory lifecycle location logging metrics notification object-lock"
    " partNumber policy replication requestPayment tagging uploadId uploads versionId versioning website".split()
)


def cells(route: Route, mode: str, host: str, now: float) -> Iterator[Cell]:
    """All attacks on one route in one mode."""

    def cell(name: str, request: Wire, *codes: str) -> Cell:
        return Cell(name=f"{route.name}/{mode}/{name}", request=request, codes=frozenset(codes))

    if mode == "anonymous":
        yield from (cell(name, wire, *codes) for name, wire, codes in _anonymous(route.request, host))
        return
    signer = signer_at(host, now)
    good = signer.sign(route.request, mode)
    yield cell("bad-signature", _flipped(good, mode), MISMATCH)
    yield cell(
        "wrong-secret", signer_at(host, now, secret_key="another-secret-key").sign(route.request, mode), MISMATCH
    )
    unknown = signer_at(host, now, access_key="AKIAUNKNOWN00000001").sign(route.request, mode)
    yield cell("unknown-key", unknown, "InvalidAccessKeyId")
    for name, wire, codes in (_query_attacks if mode.startswith("query") else _header_attacks)(
        route.request, good, mode, host, now
    ):
        yield cell(name, wire, *codes)
    for name, wire in _altered(route.request, good, mode):
        yield cell(name, wire, MISMATCH, *NOT_ROUTED, *(("AccessDenied",) if mode == "query-v2" else ()))
    if route.reads_body:
        for name, wire, codes in _body_attacks(good, mode):
            yield cell(name, wire, *codes)


def _anonymous(request: Wire, host: str) -> Iterator[tuple[str, Wire, tuple[str, ...]]]:
    plain = request.with_headers(host=host)
    denied = ("AccessDenied",)
    yield "plain", plain, denied
    yield "unsigned", plain.with_headers(x_amz_content_sha256="UNSIGNED-PAYLOAD"), denied
    trailer = plain.with_headers(
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER", x_amz_decoded_content_length="0"
    )
    yield "streaming", trailer, denied
    signed = plain.with_headers(x_amz_content_sha256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    yield "streaming-signed", signed, ("InvalidRequest",)
    yield "copying", plain.with_headers(x_amz_copy_source=f"/{BUCKET}/{KEY}"), denied
    yield "owner", plain.with_headers(x_amz_expected_bucket_owner="000000000001"), denied
    yield "empty-authorization", plain.with_headers(authorization=""), ("InvalidArgument",)
    yield (
        "virtual-host",
        replace(plain, path="/" + plain.path.lstrip("/").partition("/")[2]).with_headers(host=f"{BUCKET}.s3.test"),
        (*denied, *NOT_ROUTED),
    )


def _flipped(good: Wire, mode: str) -> Wire:
    """One character of the signature changed."""
    if mode == "query-v2":
        head, _, value = good.query.rpartition("Signature=")
        return replace(good, query=f"{head}Signature={'A' if value[0] != 'A' else 'B'}{value[1:]}")
    if mode == "query-v4":
        return replace(good, query=good.query[:-1] + _other(good.query[-1]))
    text = good.headers["authorization"]
    return good.with_headers(authorization=text[:-1] + _other(text[-1]))


def _other(digit: str) -> str:
    return "0" if digit != "0" else "1"


def _header_attacks(
    request: Wire, good: Wire, mode: str, host: str, now: float
) -> Iterator[tuple[str, Wire, tuple[str, ...]]]:
    missing = ("InvalidRequest",) if mode.startswith("stream-signed") else ("AccessDenied",)
    yield "missing", good.with_headers(authorization=None), missing
    for name, text, code in (
        ("empty", "", "InvalidArgument"),
        ("basic", "Basic cm9vdDpyb290", "InvalidArgument"),
        ("version-two", "AWS DRYSTONETESTKEY00001:c2lnbmF0dXJl", "InvalidRequest"),
        ("garbage", "AWS4-HMAC-SHA256 garbage", "AuthorizationHeaderMalformed"),
    ):
        yield f"authorization-{name}", good.with_headers(authorization=text), (code,)
    for name, offset in (("skewed-past", -1000), ("skewed-future", 3000), ("expired", -40 * 86400)):
        yield name, signer_at(host, now, offset).sign(request, mode), ("RequestTimeTooSkewed",)
    yield (
        "stale-stamp",
        good.with_headers(x_amz_date=signer_at(host, now, -1).stamp),
        (
            MISMATCH,
            "AuthorizationHeaderMalformed",
        ),
    )
    for old, new in (("/us-east-1/", "/eu-west-1/"), ("/s3/", "/ec2/"), ("aws4_request", "aws5_request")):
        text = good.headers["authorization"].replace(old, new)
        yield f"scope{old}", good.with_headers(authorization=text), ("AuthorizationHeaderMalformed",)
    yield from _extra_headers(good, "AccessDenied", MISMATCH)
    yield "host", good.with_headers(host=f"{OTHER}.s3.test"), (MISMATCH, *NOT_ROUTED)
    yield "port", good.with_headers(host="127.0.0.1:1"), (MISMATCH,)
    for text in ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "0" * 64):
        if good.headers["x-amz-content-sha256"] != text:
            yield f"payload-{text[:20]}", good.with_headers(x_amz_content_sha256=text), (MISMATCH,)
    yield "no-payload-hash", good.with_headers(x_amz_content_sha256=None), ("InvalidRequest",)
    for name, text in (
        ("v4", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"),
        ("v2", "AWSAccessKeyId=a&Signature=b"),
    ):
        yield f"query-{name}-too", _added(good, text), ("InvalidArgument", "NotImplemented")


def _query_attacks(
    request: Wire, good: Wire, mode: str, host: str, now: float
) -> Iterator[tuple[str, Wire, tuple[str, ...]]]:
    four = mode == "query-v4"
    plain = request.with_headers(host=host)
    yield "missing", plain, ("AccessDenied",)
    for piece in good.query.split("&"):
        name = piece.partition("=")[0]
        if name.startswith("X-Amz-") or name in ("AWSAccessKeyId", "Signature", "Expires"):
            left = "&".join(other for other in good.query.split("&") if other != piece)
            codes = ("AuthorizationQueryParametersError",) if four else ("AccessDenied", "NotImplemented")
            yield f"without-{name}", replace(good, query=left), codes
            twice = ("AuthorizationQueryParametersError",) if four else ("InvalidArgument",)
            yield f"twice-{name}", _added(good, piece), twice
    yield "expired", signer_at(host, now, -700).sign(request, mode), ("AccessDenied",)
    yield "long-expired", signer_at(host, now, -40 * 86400).sign(request, mode), ("AccessDenied",)
    if four:
        yield "skewed-future", signer_at(host, now, 3000).sign(request, mode), ("AccessDenied",)
        longer = good.query.replace("X-Amz-Expires=600", "X-Amz-Expires=601")
        for days in (0, 8):
            wrong = good.query.replace("X-Amz-Expires=600", f"X-Amz-Expires={days * 86400}")
            yield f"expires-{days}", replace(good, query=wrong), ("AuthorizationQueryParametersError",)
        region = good.query.replace("us-east-1", "eu-west-1")
        yield "region", replace(good, query=region), ("AuthorizationQueryParametersError",)
        yield "port", good.with_headers(host="127.0.0.1:1"), (MISMATCH,)
    else:
        expires = int(good.query.partition("Expires=")[2].partition("&")[0])
        longer = good.query.replace(f"Expires={expires}", f"Expires={expires + 86400}")
        for name in ("prefix=a", "x-amz-copy-source=/target/victim", "encryption", "x-amz-acl=private", "max-keys=1"):
            codes = ("AccessDenied", *NOT_ROUTED)
            yield f"unsigned-{name}", _added(good, name), codes
    yield "longer", replace(good, query=longer), (MISMATCH,)
    extra = "AccessDenied" if four else MISMATCH
    yield from _extra_headers(good, extra, MISMATCH)
    yield "host", good.with_headers(host=f"{OTHER}.s3.test"), (MISMATCH, "AccessDenied", *NOT_ROUTED)
    for text in ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "0" * 64):
        yield f"payload-{text[:26]}", good.with_headers(x_amz_content_sha256=text), (extra, MISMATCH)
    yield "header-too", good.with_headers(authorization="AWS4-HMAC-SHA256 Credential=a"), ("InvalidArgument",)


def _extra_headers(good: Wire, code: str, changed: str) -> Iterator[tuple[str, Wire, tuple[str, ...]]]:
    """Headers nobody signed, or a signed one changed."""
    for name, value in (
        ("x-amz-copy-source", f"/{OTHER}/secret"),
        ("x-amz-meta-evil", "1"),
        ("x-amz-acl", "public-read"),
        ("x-amz-website-redirect-location", "http://evil.test/"),
    ):
        present = name in good.headers
        yield f"extra-{name}", good.with_headers(**{name.replace("-", "_"): value}), (changed if present else code,)


def _altered(request: Wire, good: Wire, mode: str) -> Iterator[tuple[str, Wire]]:
    """Another method, path or query under the same signature."""
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        if method != request.method:
            yield f"method-{method}", replace(good, method=method)
    yield "path", replace(good, path=f"{good.path.rstrip('/')}-elsewhere" if good.path != "/" else f"/{BUCKET}")
    if good.path.count("/") > 1:
        yield "bucket", replace(good, path=good.path.replace(BUCKET, OTHER, 1))
        yield "path-dots", replace(good, path=good.path + "/../x")
    else:
        yield "deeper", replace(good, path=f"{good.path.rstrip('/')}/{KEY}" if good.path != "/" else f"/{BUCKET}/{KEY}")
    for text in ("versionId=null", "acl", "uploads", "tagging=", "response-content-type=text/html", "partNumber=1"):
        if text.partition("=")[0] not in {piece.partition("=")[0] for piece in request.query.split("&")}:
            yield f"query-{text}", _added(good, text)
    if request.query:
        first, _, rest = good.query.partition("&")
        yield "query-dropped", replace(good, query=rest)
        other = "location" if first.startswith("versioning") else "versioning"
        yield "query-renamed", replace(good, query=f"{other}{first[first.index('=') :]}&{rest}")


def _added(good: Wire, text: str) -> Wire:
    return replace(good, query=f"{good.query}&{text}" if good.query else text)


def _body_attacks(good: Wire, mode: str) -> Iterator[tuple[str, Wire, tuple[str, ...]]]:
    """The payload or its framing tampered with under a right signature of the head."""
    body = good.body
    cut_short = ("IncompleteBody", "")
    yield "truncated", replace(good, cut=len(body) // 2), cut_short
    yield "truncated-by-one", replace(good, cut=len(body) - 1), cut_short
    yield "headless", replace(good, cut=0), cut_short
    if mode == "header":
        wrong = ("XAmzContentSHA256Mismatch",)
        yield "tampered-first", replace(good, body=_flip(body, 0)), wrong
        yield "tampered-last", replace(good, body=_flip(body, len(body) - 1)), wrong
        yield "shorter", replace(good, body=body[:-1]), wrong
        yield "over-long", replace(good, body=body + b"x"), wrong
        yield "empty", replace(good, body=b""), wrong
    if mode.startswith("stream"):
        yield from _framing_attacks(good, mode)


def _framing_attacks(good: Wire, mode: str) -> Iterator[tuple[str, Wire, tuple[str, ...]]]:
    body, signed, trailer = good.body, mode.startswith("stream-signed"), mode.endswith("trailer")
    first_data = body.index(b"\r\n") + 2
    last = body.rindex(b"\r\n0") + 2
    wrong = (MISMATCH,) if signed else ("BadDigest",)
    yield "tampered-chunk", replace(good, body=_flip(body, first_data)), wrong
    yield "tampered-last-byte", replace(good, body=_flip(body, last - 3)), wrong
    lost = ("IncompleteBody", "InvalidRequest", *((MISMATCH,) if signed else ()))
    yield "no-last-chunk", replace(good, body=body[:last]), lost
    yield "over-long", replace(good, body=body + b"x\r\n"), ("InvalidRequest",)
    yield "second-body", replace(good, body=body + body), ("InvalidRequest",)
    yield "one-chunk-lost", replace(good, body=body[: body.index(b"\r\n", first_data)] + body[last - 2 :]), lost
    yield "bare-line-ends", replace(good, body=body.replace(b"\r\n", b"\n", 1)), ("InvalidRequest",)
    yield "huge-size", replace(good, body=b"f" * 16 + body[body.index(b"\r") :]), ("InvalidRequest", *wrong)
    yield "not-framed", replace(good, body=b"plain bytes\r\nwithout any framing\r\n"), ("InvalidRequest", *wrong)
    if signed:
        at = body.index(b"chunk-signature=") + 20
        yield "chunk-signature", replace(good, body=_hex_flip(body, at)), wrong
        yield "last-chunk-signature", replace(good, body=_hex_flip(body, body.rindex(b"chunk-signature=") + 20)), wrong
        bare = body[: body.index(b";")] + body[body.index(b"\r\n") :]
        yield "chunk-unsigned", replace(good, body=bare), wrong
    if trailer:
        value = body.rindex(b"crc32:") + 6
        altered = body[:value] + (b"A" if body[value : value + 1] != b"A" else b"B") + body[value + 1 :]
        yield "tampered-trailer", replace(good, body=altered), (*wrong, "InvalidRequest")
        renamed = body.replace(b"x-amz-checksum-crc32:", b"x-amz-checksum-sha256:")
        yield "other-trailer", replace(good, body=renamed), (*wrong, "MalformedTrailerError")
        end = body.index(b"x-amz-checksum-crc32:")
        yield (
            "no-trailer",
            replace(good, body=body[:end] + b"\r\n"),
            (*wrong, "MalformedTrailerError", "IncompleteBody"),
        )
        more = body[:end] + b"x-amz-meta-a:b\r\n" + body[end:]
        yield "more-trailers", replace(good, body=more), (*wrong, "MalformedTrailerError")
    if signed and trailer:
        at = body.rindex(b"trailer-signature:") + 22
        yield "trailer-signature", replace(good, body=_hex_flip(body, at)), wrong
        cut = body[: body.rindex(b"x-amz-trailer-signature")] + b"\r\n"
        yield "trailer-unsigned", replace(good, body=cut), (*wrong, "IncompleteBody")


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _hex_flip(data: bytes, at: int) -> bytes:
    return data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]
