# SPDX-License-Identifier: Apache-2.0
"""The head parser against llhttp, and against heads made from a model."""

import itertools

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drystone_gateway.http.chunked import ChunkedDecoder, ChunkedError
from drystone_gateway.http.heads import HeadRefused, parse_head


class Oracle:
    """What llhttp reads."""

    def __init__(self, raw):
        self.url, self.fields, self.complete = b"", [], False
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self):
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()


ASCII_ONLY = bytes(byte if byte < 128 else ord("x") for byte in range(256))
"""llhttp takes no raw high bytes in a target (curl sends them, and there is but one reading): spare it these."""
METHODS = ["GET", "PUT", "POST", "HEAD", "DELETE", "OPTIONS", "PATCH"]
NAMES = ["A", "x-amz-meta-b", "Content-Length", "Transfer-Encoding", "Connection", "Host", "Expect", "host", "TE"]
VALUES = ["", "5", "h", "chunked", "close", "keep-alive", "100-continue", " v ", "\tv", "5, 5", "a b", "\xe9", "gzip"]
PIECES = [" ", "\t", "\r", "\n", "\r\n", "\0", ":", ",", ";", "\x0b", "\x7f", "\xff", "5", "a", "HTTP/1.0", "http://h/"]

line = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(NAMES),
    st.sampled_from([":", ": ", ":\t", ":  "]),
    st.sampled_from(VALUES),
    st.just(""),
)
target = st.sampled_from(["/", "/a%2Fb?x=1&y", "/a/../b//c", "http://h/x?y", "http://h", "*", "h:1", "/a?b#c", "/\xe9"])
head = st.builds(
    lambda method, target, version, lines: "\r\n".join([f"{method} {target} {version}", "Host: h", *lines, "", ""]),
    st.sampled_from(METHODS),
    target,
    st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]),
    st.lists(line, max_size=5),
)


@st.composite
def mutated_heads(draw):
    """Mostly good heads with a few pieces put in, cut out or doubled."""
    text = draw(head)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        to = min(len(text), at + draw(st.integers(0, 4)))
        text = text[:at] + draw(st.sampled_from([*PIECES, ""])) + text[to:]
    cut = text.find("\r\n\r\n")
    return (text[: cut + 4] if cut >= 0 else text + "\r\n\r\n").encode("latin-1")


@settings(max_examples=800, deadline=None)
@given(raw=mutated_heads())
@example(raw=b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
def test_what_is_accepted_llhttp_reads_in_the_same_way(raw):
    """Acceptance implies acceptance by llhttp, with equal target, fields, framing and persistence."""
    try:
        ours = parse_head(raw)
    except HeadRefused as refused:
        assert 400 <= refused.status < 500
        return
    if ours.method not in METHODS:
        return  # llhttp knows a fixed set; ours are any tokens, for the handler to refuse.
    line, _, rest = raw.partition(b"\r\n") if raw[:2] != b"\r\n" else raw[2:].partition(b"\r\n")
    theirs = Oracle(line.translate(ASCII_ONLY) + b"\r\n" + rest)
    assert theirs.complete
    assert theirs.parser.get_method().decode() == ours.method
    target = ours.target.encode("latin-1").translate(ASCII_ONLY)
    assert theirs.url.endswith(target) or target == b"/" or target.startswith(b"/?")
    assert (theirs.parser.get_http_version() == "1.0") == ours.old
    joined = {}
    for name, value in theirs.fields:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    assert joined == ours.headers
    counts = [name for name, _ in theirs.fields]
    assert ours.repeated == {name for name in counts if counts.count(name) > 1}
    lengths = [value for name, value in theirs.fields if name == "content-length"]
    codings = [value for name, value in theirs.fields if name == "transfer-encoding"]
    assert len(lengths) + len(codings) <= 1
    assert ours.length == (int(lengths[0]) if lengths else None if codings else 0)
    assert theirs.keep_alive == ours.keep_alive


token = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12)
value = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
FRAMING = {"host", "content-length", "transfer-encoding", "connection", "expect"}


@settings(max_examples=200, deadline=None)
@given(
    path=st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="#\x7f"), max_size=60),
    fields=st.lists(st.tuples(token, value.filter(lambda v: "\x80" not in v)), max_size=20),
    length=st.none() | st.integers(0, 10**17),
)
def test_good_heads_are_understood_exactly(path, fields, length):
    """Target byte for byte; names in lower case; values without outer blanks; repeated ones joined and named."""
    fields = [(name, value) for name, value in fields if name.lower() not in FRAMING]
    lines = [f"PUT /{path} HTTP/1.1", "hOST: example:9000", *(f"{name}:{value}" for name, value in fields)]
    if length is not None:
        lines.append(f"Content-length:  {length}\t")
    parsed = parse_head("\r\n".join([*lines, "", ""]).encode("latin-1"))
    assert parsed.target == f"/{path}"
    assert parsed.length == (length or 0)
    expected = {}
    for name, value in fields:
        key, bare = name.lower(), value.strip(" \t")
        expected[key] = f"{expected[key]},{bare}" if key in expected else bare
    got = {name: value for name, value in parsed.headers.items() if name not in FRAMING}
    assert got == expected
    keys = [name.lower() for name, _ in fields]
    assert parsed.repeated == {key for key in keys if keys.count(key) > 1}


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        ("http://h/a%2Fb?c", "/a%2Fb?c"),
        ("HTTP://H", "/"),
        ("https://h?x", "/?x"),
        ("http://h//x/../y", "//x/../y"),
        ("/http://other/", "/http://other/"),
    ],
)
def test_absolute_form_gives_its_path(target, origin):
    """Path and query of an absolute-form target of the same host are kept as they are."""
    assert parse_head(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()).target == origin


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_never_escapes_as_another_exception(data):
    """Whatever the bytes, the parser refuses or accepts."""
    try:
        parse_head(data + b"\r\n\r\n")
    except HeadRefused:
        pass


@settings(max_examples=200, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    trailers=st.lists(token, max_size=2),
    behind=st.binary(max_size=10),
)
def test_chunks_are_decoded_however_they_are_cut(chunks, cuts, trailers, behind):
    """The payload comes out whole, and what follows the body stays untouched."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n"
    framed += b"".join(f"{name}: v\r\n".encode() for name in trailers) + b"\r\n"
    raw = framed + behind
    decoder, out, consumed = ChunkedDecoder(), bytearray(), 0
    bounds = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for start, stop in itertools.pairwise(bounds):
        consumed += decoder.feed(memoryview(raw)[start:stop], out.extend)
    assert decoder.ended
    assert out == b"".join(chunks)
    assert consumed == len(framed)


@settings(max_examples=300, deadline=None)
@given(data=st.lists(st.sampled_from([b"\r\n", b"3", b"0", b"abc", b"\n", b";", b"a: b", b"\0"]), max_size=12))
def test_chunk_garbage_ends_in_one_way(data):
    """Any bytes are payload, or ChunkedError; never more payload than input."""
    out = bytearray()
    try:
        ChunkedDecoder().feed(memoryview(b"".join(data)), out.extend)
    except ChunkedError:
        pass
    assert len(out) <= len(b"".join(data))
