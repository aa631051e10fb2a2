# SPDX-License-Identifier: Apache-2.0
"""Hostile requests: heads two parsers could read differently, XML that explodes or reaches out, values out of bounds.

Every one must be refused with 4xx (or the connection closed). Heads are sent as they stand; the others are signed, so
that what refuses them is the code meant and not the missing signature.
"""

import base64
import hashlib
from collections.abc import Iterator

from drystone_testing.wire import Wire

BUCKET, KEY = "fortress", "gold"
HOST = "Host: x"


_START = f"PUT /{BUCKET}/k HTTP/1.1"
_INNER = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def head(*lines: str, end: str = "\r\n", body: bytes = _INNER) -> bytes:
    """A head with something behind it."""
    return (end.join(lines) + end * 2).encode("latin-1") + body


def heads() -> Iterator[tuple[str, bytes]]:
    """Raw heads (and bodies); a second request hides in many of them and must never be answered."""
    yield from _lengths_and_codings()
    yield from _folds_and_line_ends()
    yield from _controls_and_request_lines()
    yield from _targets_and_methods()
    yield from _sizes()


def _lengths_and_codings() -> Iterator[tuple[str, bytes]]:
    """Two framings, or one that two parsers read differently."""
    for value in (
        "+5",
        "-5",
        "0x5",
        "5,5",
        "5, 5",
        "5 5",
        "5;",
        "",
        "a",
        "1e1",
        "\u00b2",
        "9" * 19,
        "9" * 400,
        "5\x0b",
    ):
        yield f"length {value[:8]!r}", head(_START, HOST, f"Content-Length: {value}")
    for one, two in (("5", "6"), ("5", "5"), ("0", "5"), ("5", "0")):
        yield f"two lengths {one} {two}", head(_START, HOST, f"Content-Length: {one}", f"content-length: {two}")
    codings = ("chunked", "Chunked", "chunked, identity", "identity", "gzip, chunked", "chunked, chunked", "xchunked")
    codings += (
        "chunked\x0b",
        "\x0bchunked",
        "'chunked'",
        '"chunked"',
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "",
        "chu nked",
    )
    for coding in codings:
        for extra in ((f"Transfer-Encoding: {coding}", "Content-Length: 4"), (f"Transfer-Encoding: {coding}",)):
            if len(extra) == 1 and coding.lower() == "chunked":
                continue
            yield f"coding {coding!r} {len(extra)}", head(_START, HOST, *extra, body=b"0\r\n\r\n" + _INNER)
    for name in (
        "Transfer-Encoding ",
        " Transfer-Encoding",
        "Transfer_Encoding\t",
        "Transfer-Encoding\x00",
        "Content-Length ",
    ):
        yield f"name {name!r}", head(_START, HOST, f"{name}: chunked", body=b"0\r\n\r\n" + _INNER)


def _folds_and_line_ends() -> Iterator[tuple[str, bytes]]:
    """Line ends of every other kind, and continued lines."""
    yield (
        "two codings",
        head(_START, HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    )
    yield "coding in 1.0", head(_START.replace("1.1", "1.0"), HOST, "Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    for fold in (" folded", "\tfolded", " Content-Length: 5"):
        yield f"fold {fold!r}", head(_START, HOST, "x-a: b", fold)
        yield f"first fold {fold!r}", head(_START, fold, HOST)
    for end in ("\n", "\r", "\n\r", "\r\r\n", "\x85", "\u0a0d"[:1] and "\x0b\r\n"):
        yield f"line end {end!r}", head(_START, HOST, "Content-Length: 0", end=end) + b"\r\n\r\n"


def _controls_and_request_lines() -> Iterator[tuple[str, bytes]]:
    """Bytes and tokens that have no place in a head, and other protocols."""
    for byte in (*range(9), 11, 12, *range(14, 32), 127):
        yield f"control {byte} in value", head(_START, HOST, f"x-a: b{chr(byte)}c")
        yield f"control {byte} in name", head(_START, HOST, f"x{chr(byte)}a: b")
        yield f"control {byte} in target", head(f"GET /{BUCKET}/a{chr(byte)}b HTTP/1.1", HOST)
    for name in ("", " ", "a b", "a(", "a)", "a/", "a@", "a[", 'a"', "a{", "a,", "\xe9"):
        yield f"field name {name!r}", head(_START, HOST, f"{name}: x")
    yield "no colon", head(_START, HOST, "nothing here")
    for version in (
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "http/1.1",
        "HTTP/1.1 ",
        "HTTP/11",
        "HTP/1.1",
        "",
        "HTTP/1.1\t",
    ):
        yield f"version {version!r}", head(f"GET / {version}", HOST)
    for line in (
        "GET",
        "GET /",
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G ET / HTTP/1.1",
        "/ HTTP/1.1 GET",
    ):
        yield f"request line {line!r}", head(line, HOST)
    yield "preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "TLS", bytes.fromhex("16030100a5010000a10303") + b"\x00" * 160
    yield "SSH", b"SSH-2.0-OpenSSH_9.6\r\n" * 3 + b"\r\n\r\n"
    yield "PROXY", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"


def _targets_and_methods() -> Iterator[tuple[str, bytes]]:
    """Hosts, targets and methods."""
    for host in (
        "",
        "a b",
        "a,b",
        "a/b",
        "a@b",
        "a?b",
        "a#b",
        "[::1",
        "::1",
        "a:b",
        "a:123456",
        "\xe9",
        "a\\b",
        '"a"',
        "a<b>",
    ):
        yield f"host {host!r}", head("GET / HTTP/1.1", f"Host: {host}")
    yield "no host", head("GET / HTTP/1.1", "x: y")
    yield "two hosts", head("GET / HTTP/1.1", HOST, "Host: y")
    yield "same host twice", head("GET / HTTP/1.1", HOST, HOST)
    targets = (
        "*",
        "x",
        "http://",
        "http://y/",
        "https://x:1/",
        "ftp://x/",
        "x:443",
        "http://x@y/",
        "http://y?x",
        "/#a",
    )
    targets += ("http://X.evil/", "http:///a", "HTTP://y/a", "javascript:alert(1)", "?a", "\\a", "/a\\..\\b#")
    for target in targets:
        yield f"target {target!r}", head(f"GET {target} HTTP/1.1", HOST)
    for verb in ("CONNECT", "TRACE", "TRACK", "PATCH", "DEBUG", "PROPFIND", "get", "PURGE", "A" * 300):
        yield f"method {verb[:9]}", head(f"{verb} /{BUCKET}/{KEY} HTTP/1.1", HOST, body=b"")
    for text in ("200-ok", "100-continue, 100-continue", "100-continue2", "", "x"):
        yield f"expect {text!r}", head(_START, HOST, f"Expect: {text}", "Content-Length: 5")


def _sizes() -> Iterator[tuple[str, bytes]]:
    """More than anybody needs."""
    yield "10,000 fields", head("GET / HTTP/1.1", HOST, *(f"x-{n}: y" for n in range(10_000)))
    yield "300 fields", head("GET / HTTP/1.1", HOST, *(f"x-{n}: y" for n in range(300)))
    yield "one field of 1 MiB", head("GET / HTTP/1.1", HOST, "x-a: " + "b" * (1 << 20))
    yield "a name of 1 MiB", head("GET / HTTP/1.1", HOST, "b" * (1 << 20))
    yield "a target of 1 MiB", head("GET /" + "a" * (1 << 20) + " HTTP/1.1", HOST)
    yield "a million parameters", head("GET /b?" + "&".join("a" for _ in range(1_000_000)) + " HTTP/1.1", HOST)
    yield "a head without end", b"GET / HTTP/1.1\r\nHost: x\r\nx-a: " + b"b" * (3 << 20)
    yield "blank lines without end", b"\r\n" * 10 + b"\n" * 100_000


def chunk_framings() -> Iterator[tuple[str, bytes]]:
    """Transfer codings that are wrong; sent as the body of a signed upload."""
    for line in (
        b"5;a=b",
        b"5 ",
        b" 5",
        b"0x5",
        b"+5",
        b"-5",
        b"",
        b"g",
        b"5\x00",
        b"f" * 16,
        b"f" * 400,
        b"5;" + b"a" * 9000,
    ):
        yield f"size {line[:9]!r}", line + b"\r\nhello\r\n0\r\n\r\n"
    for body in (
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\rhello",
    ):
        yield f"framing {body[:12]!r}", body + b"\r\n\r\n"
    for trailer in (
        b"a b: c\r\n",
        b"nocolon\r\n",
        b"a: b\x00\r\n",
        b" a: b\r\n",
        b"a: b\n",
        b"x: " + b"y" * 9000 + b"\r\n",
    ):
        yield f"trailer {trailer[:9]!r}", b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n"


def documents(port: int) -> Iterator[tuple[str, bytes]]:
    """XML that must not be parsed as meant; `port` is where nobody may be asked for an entity."""
    for root in ("Delete", "CompleteMultipartUpload", "CreateBucketConfiguration"):
        body = f"<{root}>&x;</{root}>"
        for kind in (
            '<!ENTITY x "y">',
            '<!ENTITY x SYSTEM "file:///etc/passwd">',
            f'<!ENTITY x SYSTEM "http://127.0.0.1:{port}/x">',
            f'<!ENTITY % x SYSTEM "http://127.0.0.1:{port}/x"> %x;',
            f'<!ENTITY x PUBLIC "-//a//b" "http://127.0.0.1:{port}/x">',
            '<!ENTITY a "aaaaaaaaaa">'
            + "".join(
                f'<!ENTITY {b} "{"&" + a + ";" * 1}{("&" + a + ";") * 9}">'
                for a, b in zip("abcdefgh", "bcdefghx", strict=True)
            ),
            f'<!ENTITY x "{"a" * 10000}">',
            "<!ELEMENT x ANY>",
            "<!ATTLIST x y CDATA 'z'>",
            '<!NOTATION n SYSTEM "n">',
            "",
        ):
            yield f"{root} doctype {kind[:30]}", f'<?xml version="1.0"?><!DOCTYPE {root} [{kind}]>{body}'.encode()
        yield f"{root} external subset", f'<!DOCTYPE {root} SYSTEM "http://127.0.0.1:{port}/d"><{root}/>'.encode()
        yield f"{root} public subset", f'<!DOCTYPE {root} PUBLIC "a" "http://127.0.0.1:{port}/d"><{root}/>'.encode()
        yield (
            f"{root} include",
            f'<{root} xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/></{root}>'.encode(),
        )
        yield f"{root} undeclared entity", body.encode()
        for name, text in (
            ("unclosed", f"<{root}>"),
            ("misnested", f"<{root}><a><b></a></b></{root}>"),
            ("two roots", f"<{root}></{root}><{root}></{root}>"),
            ("garbage after", f"<{root}></{root}>garbage"),
            ("garbage before", f"garbage<{root}></{root}>"),
            ("late declaration", f' <?xml version="1.0"?><{root}></{root}>'),
            ("wrong root", f"<X{root}></X{root}>"),
            ("lower root", f"<{root.lower()}></{root.lower()}>"),
            ("json", '{"Objects": []}'),
            ("unknown child", f"<{root}><Evil>1</Evil></{root}>"),
            ("text only", f"<{root}>text</{root}>"),
            ("bad reference", f"<{root}>&#0;</{root}>"),
            ("bad reference 2", f"<{root}>&#xD800;</{root}>"),
            ("bad reference 3", f"<{root}>&#99999999;</{root}>"),
            ("double attribute", f'<{root} a="1" a="2"></{root}>'),
            ("bare attribute", f"<{root} a></{root}>"),
            ("unbound prefix", f"<x:{root}></x:{root}"),
            ("null", f"<{root}>\0</{root}>"),
            ("control", f"<{root}>\x01</{root}>"),
            ("comment", f"<{root}><!-- -- --></{root}>"),
            ("cdata", f"<{root}><![CDATA[ </{root}>"),
            ("deep", f"<{root}>" + "<a>" * 100_000),
            ("deep and closed", f"<{root}>" + "<a>" * 20_000 + "</a>" * 20_000 + f"</{root}>"),
            ("wide", f"<{root}>" + "<a/>" * 15_000 + f"</{root}>"),
            ("many attributes", f"<{root} " + " ".join(f'a{n}="b"' for n in range(6_000)) + f"></{root}>x"),
            ("long name", f"<{root}><{'a' * 60_000}/></{root}>"),
            ("blank", " <"),
        ):
            yield f"{root} {name}", text.encode()
        good = f"<{root}><Evil/></{root}>"
        yield f"{root} bad UTF-8", f"<{root}>".encode() + b"\xff\xfe\xfd" + f"</{root}>".encode()
        yield f"{root} overlong UTF-8", f"<{root}>".encode() + b"\xc0\xbc" + f"</{root}>".encode()
        yield f"{root} UTF-16", good.encode("utf-16")
        yield f"{root} UTF-16 doctype", f'<!DOCTYPE {root} [<!ENTITY x "y">]>{body}'.encode("utf-16")
        for encoding in ("UTF-7", "UTF-32", "IBM037", "no-such", "base64", "rot13", "zlib", "unicode_escape", "idna"):
            yield f"{root} {encoding}", f'<?xml version="1.0" encoding="{encoding}"?>{good}'.encode()
        yield f"{root} UTF-7 doctype", f'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE {root}>{good}'.encode()


def document_calls(port: int, upload_id: str) -> Iterator[tuple[str, Wire]]:
    """Each document sent to the operation that reads its root."""
    for name, body in documents(port):
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        if name.startswith("Delete"):
            call = Wire(method="POST", path=f"/{BUCKET}", query="delete=", headers={"content-md5": md5}, body=body)
        elif name.startswith("Complete"):
            call = Wire(method="POST", path=f"/{BUCKET}/{KEY}", query=f"uploadId={upload_id}", body=body)
        else:
            call = Wire(method="PUT", path="/new-fortress", body=body)
        yield name, call


def calls(upload_id: str) -> Iterator[tuple[str, Wire]]:
    """Signed requests with values that must be refused."""
    key = f"/{BUCKET}/{KEY}"
    for source in _SOURCES:
        yield f"copy {source[:40]!r}", Wire(method="PUT", path=f"/{BUCKET}/copy", headers={"x-amz-copy-source": source})
    for path in _PATHS:
        for method in ("GET", "PUT"):
            yield f"{method} {path[:40]!r}", Wire(method=method, path=path)
    for name, values in _PARAMETERS.items():
        for value in values:
            yield f"query {name}={value[:20]}", Wire(method="GET", path=f"/{BUCKET}", query=f"{name}={value}")
    for query in _OBJECT_QUERIES:
        for method in ("PUT",) if "copy-source" in query else ("GET", "PUT", "DELETE"):
            full = query.replace("UPLOAD", upload_id)
            yield f"{method} ?{query[:40]}", Wire(method=method, path=key, query=full)
    for name, values in _HEADERS.items():
        for value in values:
            call = Wire(method="PUT", path=f"/{BUCKET}/header", headers={name: value}, body=b"hello")
            yield f"header {name}: {value[:20]!r}", call
    for method in ("PUT", "POST", "DELETE"):
        for query in ("unknown", "unknown=1", "acl&policy", "delete&uploads", "%61cl&acl", "versionId=a&versionId=b"):
            yield f"{method} ?{query}", Wire(method=method, path=f"/{BUCKET}", query=query)
    large = {"content-length": str(1 << 30), "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    yield "1 GiB of keys", Wire(method="POST", path=f"/{BUCKET}", query="delete=", headers=large, body=b"<Delete>")
    many = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>"
    md5 = {"content-md5": base64.b64encode(hashlib.md5(many).digest()).decode()}
    yield "1,001 keys", Wire(method="POST", path=f"/{BUCKET}", query="delete=", headers=md5, body=many)
    parts = b"<CompleteMultipartUpload>" + b"".join(
        b"<Part><PartNumber>%d</PartNumber><ETag>a</ETag></Part>" % n for n in range(1, 10_002)
    )
    parts += b"</CompleteMultipartUpload>"
    yield "10,001 parts", Wire(method="POST", path=key, query=f"uploadId={upload_id}", body=parts)


_SOURCES = (
    "", "/", "//", "a", "/a", "a/", "/a/", "../x", "/../x", f"/{BUCKET}/../../etc/passwd",
    f"{BUCKET}/../{BUCKET}/{KEY}", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc", "file:///etc/passwd",
    "http://169.254.169.254/latest", "/.sys/x", "/a%00b/k", f"{BUCKET}/{KEY}?", f"{BUCKET}/{KEY}?versionId=",
    f"{BUCKET}/{KEY}?versionId=../x", f"{BUCKET}/{KEY}?versionId=a%00", f"{BUCKET}/{KEY}?versionid=x",
    f"{BUCKET}/{KEY}?a=b", f"{BUCKET}/{KEY}?versionId=a&b=c", f"{BUCKET}/%", f"{BUCKET}/%zz", f"{BUCKET}/%ff%fe",
    f"{BUCKET}/%c0%af", f"{BUCKET}/%ed%a0%80", f"{BUCKET}/" + "k" * 1025, "B/k", "a..b/k", "xn--a/k",
    "192.168.0.1/k", "arn:aws:s3:us-east-1:123456789012:accesspoint/x/object/k", "no-such-bucket/k",
    f"{BUCKET}/absent", f"{BUCKET}\\{KEY}", f"{BUCKET}%2f{KEY}%2fabsent", "a" * 64 + "/k", "\xff\xfe/k",
    f"{BUCKET}/absent\xe9", "%66ortres%73/absent", "${jndi:ldap://x}/k",
)  # fmt: skip
_PATHS = (
    "/..", "/../..", "/../etc/passwd", "/./x", "/%2e%2e/x", "/..%2f..%2fetc", "/%00", "/a%00b/k", "//x", "///",
    "/A/k", "/a_b/k", "/%/k", "/b%/k", "/%zz/k", f"/{BUCKET}/%", f"/{BUCKET}/%f", f"/{BUCKET}/%gg",
    f"/{BUCKET}/%ff", f"/{BUCKET}/%c0%af", f"/{BUCKET}/%ed%a0%80", f"/{BUCKET}/%f5%80%80%80",
    f"/{BUCKET}/" + "k" * 1025, f"/{BUCKET}/" + "%c3%bc" * 513, "/" + "b" * 64, "/xn--a/k", "/a-s3alias/k",
    "/192.168.0.1/k", "/a..b/k", "/-a/k", "/a-/k", "/ab", "/.a/k", f"/{BUCKET}%2f{KEY}", "/a%2fb/k", "/\xff\xfe/k",
    f"/{BUCKET}/\xff", "/%5c%5chost/k", "/a%0d%0ab/k", "/<script>/k", "/a;b/k",
)  # fmt: skip
_PARAMETERS = {
    "max-keys": ("-1", "a", "1e3", "99999999999999999999", "+1", "1.0", "%00", "%D9%A3", "0x10"),
    "list-type": ("1", "3", "a", "", "2%00", "-2"),
    "encoding-type": ("x", "URL2", "url,url", "%00"),
    "prefix": ("%", "%zz", "%ff"),
    "list-type=2&continuation-token": ("", "a", "%00", "..%2f", "A" * 3000, "%ff", "bm9uc2Vuc2U%3D", "%7B%7D"),
    "uploads&max-uploads": ("-1", "a", "1e3", "99999999999999999999"),
    "versions&max-keys": ("-1", "a"),
    "versions&version-id-marker": ("a",),
}
_OBJECT_QUERIES = (
    "versionId=", "versionId=%00", "versionId=../x", "versionId=a%0d%0ab", "versionId=" + "a" * 2000,
    "versionId=a&versionId=b", "uploadId=", "uploadId=../x", "uploadId=%00", "uploadId=" + "a" * 3000,
    "uploadId=UPLOAD&uploadId=UPLOAD", "partNumber=0", "partNumber=10001", "partNumber=-1", "partNumber=a",
    "partNumber=1e3", "partNumber=%D9%A3", "uploadId=UPLOADx&partNumber=1", "uploadId=x&partNumber=0",
    "acl&tagging", "uploads&uploadId=x", "x-amz-copy-source=a", "partNumber=99999999999999999999", "uploadId=%ff",
    "tagging&versionId=", "renameObject", "x-amz-copy-source=/a%0d%0ab",
)  # fmt: skip
_HEADERS = {
    "content-md5": ("", "a", "AAAA", "!" * 24, "1B2M2Y8AsgTpgAmY7PhCfg==", "\xff"),
    "x-amz-checksum-crc32": ("", "a", "AAAAAA==", "AAAA", "\xff\xff", "AAAAAAAA"),
    "x-amz-checksum-evil": ("AAAA",),
    "x-amz-sdk-checksum-algorithm": ("EVIL", "CRC32", "../x"),
    "x-amz-trailer": ("x-amz-checksum-crc32", "x-amz-checksum-evil", "x-amz-meta-a"),
    "x-amz-acl": ("public-read", "evil", "../x"),
    "x-amz-storage-class": ("GLACIER", "evil", "\xff"),
    "x-amz-tagging": ("a=b", "&&&", "%zz"),
    "x-amz-server-side-encryption": ("AES256", "aws:kms", "evil"),
    "x-amz-server-side-encryption-customer-algorithm": ("AES256",),
    "x-amz-server-side-encryption-customer-key": ("c2VjcmV0",),
    "x-amz-object-lock-mode": ("COMPLIANCE", "evil"),
    "x-amz-object-lock-retain-until-date": ("2020-01-01T00:00:00Z",),
    "x-amz-grant-read": ("id=1", "evil"),
    "x-amz-website-redirect-location": ("evil", "javascript:alert(1)", "\\\\host"),
    "x-amz-meta-a": ("b" * 2048, "\xc3\xbc" * 1024),
    "x-amz-meta-": ("a",),
    "if-none-match": ("a", '"a"'),
    "if-match": ('"absent"', "absent"),
    "x-amz-write-offset-bytes": ("0",),
    "x-amz-expected-bucket-owner": ("000000000009", "evil"),
    "content-disposition": ("a" * 9000,),
}
