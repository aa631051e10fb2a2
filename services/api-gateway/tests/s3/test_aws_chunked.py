# SPDX-License-Identifier: Apache-2.0
"""The aws-chunked decoder against an encoder written from the documentation, cut and altered everywhere (§5 #7, #8)."""

import hashlib
import hmac
import io

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.aws_chunked import ChunkedDecoder, declared_trailers, decoded_length
from drystone_gateway.s3.payload import Streaming
from drystone_gateway.s3.signing_key import SigningKey

KEY = b"k" * 32
DATE, SCOPE, SEED = "20261123T141841Z", "20261123/us-east-1/s3/aws4_request", "5" * 64
TRAILER = {"x-amz-checksum-crc32": "AAAAAA=="}


def mode(*, signed, trailer):
    return Streaming(signed, trailer, SEED if signed else "", SigningKey(KEY) if signed else None, SCOPE, DATE)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def encode(pieces, *, signed, trailer):
    """An aws-chunked body of `pieces`, signed as the documentation says."""
    out, previous = [], SEED
    for piece in [*pieces, b""]:
        head = f"{len(piece):x}"
        if signed:
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{DATE}\n{SCOPE}\n{previous}\n{sha(b'')}\n{sha(piece)}"
            previous = hmac.new(KEY, text.encode(), "sha256").hexdigest()
            head += f";chunk-signature={previous}"
        out.append(head.encode() + b"\r\n" + piece + (b"\r\n" if piece else b""))
    if trailer:
        lines = "".join(f"{name}:{value}\n" for name, value in TRAILER.items())
        out.append(lines.replace("\n", "\r\n").encode())
        if signed:
            text = f"AWS4-HMAC-SHA256-TRAILER\n{DATE}\n{SCOPE}\n{previous}\n{sha(lines.encode())}"
            out.append(
                b"x-amz-trailer-signature:" + hmac.new(KEY, text.encode(), "sha256").hexdigest().encode() + b"\r\n"
            )
    return b"".join(out) + b"\r\n"


def decode(body, size, *, signed, trailer, steps=(1 << 20,)):
    names = tuple(TRAILER) if trailer else ()
    decoder = ChunkedDecoder(mode(signed=signed, trailer=trailer), decoded_length=size, trailer_names=names)
    out, at, turn = [], 0, 0
    while at < len(body):
        step = steps[turn % len(steps)]
        out += [bytes(piece) for piece in decoder.feed(memoryview(body)[at : at + step])]
        at, turn = at + step, turn + 1
    return b"".join(out), dict(decoder.finish())


MODES = [(True, False), (True, True), (False, True)]
modes = st.sampled_from(MODES)
chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=5)


@settings(max_examples=100, deadline=None)
@given(modes, chunks, st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_any_chunking_decodes_at_any_read_size(kind, pieces, steps):
    """Payload and trailers come out whole however the body is cut on the wire."""
    signed, trailer = kind
    body = encode(pieces, signed=signed, trailer=trailer)
    payload = b"".join(pieces)
    expected = (payload, TRAILER if trailer else {})
    assert decode(body, len(payload), signed=signed, trailer=trailer, steps=steps) == expected


@settings(max_examples=300, deadline=None)
@given(modes, chunks, st.data())
def test_pitfall_07_an_altered_body_is_refused_or_means_the_same(kind, pieces, data):
    """One changed byte of a signed body is refused (unless only the spelling of a size changed)."""
    signed, trailer = kind
    body = bytearray(encode(pieces, signed=signed, trailer=trailer))
    payload = b"".join(pieces)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        result = decode(bytes(body), len(payload), signed=signed, trailer=trailer)
    except Refused as refused:
        assert refused.code in {
            ErrorCode.SIGNATURE_DOES_NOT_MATCH,
            ErrorCode.INVALID_REQUEST,
            ErrorCode.INCOMPLETE_BODY,
            ErrorCode.MALFORMED_TRAILER,
        }
    else:
        assert not signed or result == (payload, TRAILER if trailer else {})
        assert len(result[0]) == len(payload)


@settings(max_examples=100, deadline=None)
@given(modes, chunks, st.data())
def test_pitfall_07_a_truncated_body_is_incomplete(kind, pieces, data):
    """A body cut anywhere before its end never finishes; only the last CR LF of a trailer may be missing."""
    signed, trailer = kind
    body = encode(pieces, signed=signed, trailer=trailer)
    payload = b"".join(pieces)
    cut = data.draw(st.integers(0, len(body) - 3))
    with pytest.raises(Refused) as refused:
        decode(body[:cut], len(payload), signed=signed, trailer=trailer)
    assert refused.value.code in {
        ErrorCode.INCOMPLETE_BODY,
        ErrorCode.SIGNATURE_DOES_NOT_MATCH,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.MALFORMED_TRAILER,
    }


@settings(max_examples=100, deadline=None)
@given(modes, st.binary(max_size=300), st.integers(0, 1000))
def test_garbage_never_decodes_to_more_than_declared(kind, body, size):
    """Whatever comes, the decoder ends with Refused or with exactly the declared number of bytes."""
    signed, trailer = kind
    try:
        payload, _ = decode(body, size, signed=signed, trailer=trailer, steps=(7,))
    except Refused:
        return
    assert len(payload) == size


def test_pitfall_08_botocore_unsigned_trailers_are_decoded():
    """What botocore sends over TLS (STREAMING-UNSIGNED-PAYLOAD-TRAILER) decodes, with its CRC32 in the trailer."""
    data = bytes(range(256)) * 20_000
    wrapper = AwsChunkedWrapper(
        io.BytesIO(data), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32", chunk_size=1 << 20
    )
    body = wrapper.read()
    checksum = Crc32Checksum()
    checksum.update(data)
    payload, trailers = decode(body, len(data), signed=False, trailer=True, steps=(65536,))
    assert payload == data
    assert trailers == {"x-amz-checksum-crc32": checksum.b64digest()}


def test_pitfall_08_a_blank_line_before_the_trailer_signature_is_accepted():
    """minio-go ends trailers with LF and a blank line, then sends their signature."""
    body = encode([b"abc"], signed=True, trailer=True)
    other = body.replace(b"AAAAAA==\r\n", b"AAAAAA==\n\r\n")
    assert other != body
    assert decode(other, 3, signed=True, trailer=True) == (b"abc", TRAILER)
    with pytest.raises(Refused):
        decode(body.replace(b"AAAAAA==\r\n", b"AAAAAA==\n\r\n\r\n"), 3, signed=True, trailer=True)


def test_pitfall_08_trailers_must_be_the_announced_ones():
    """A trailer that was not announced, one that is missing, and a signature in unsigned mode are refused."""
    body = encode([b"abc"], signed=False, trailer=True)
    for other in (
        body.replace(b"crc32", b"crc64"),
        body.replace(b"x-amz-checksum-crc32:AAAAAA==\r\n", b""),
        body.replace(b"AAAAAA==\r\n", b"AAAAAA==\r\nx-amz-trailer-signature:" + b"0" * 64 + b"\r\n"),
        body.replace(b"AAAAAA==\r\n", b"AAAAAA==\r\nx-amz-checksum-crc32:BBBBBB==\r\n"),
    ):
        with pytest.raises(Refused) as refused:
            decode(other, 3, signed=False, trailer=True)
        assert refused.value.code is ErrorCode.MALFORMED_TRAILER


@pytest.mark.parametrize("size", [2, 4])
def test_pitfall_07_the_declared_length_is_enforced(size):
    """Chunks that hold fewer or more bytes than x-amz-decoded-content-length are IncompleteBody."""
    with pytest.raises(Refused) as refused:
        decode(encode([b"abc"], signed=True, trailer=False), size, signed=True, trailer=False)
    assert refused.value.code is ErrorCode.INCOMPLETE_BODY


def test_unsigned_chunks_are_refused_in_signed_mode():
    """A chunk without signature in a signed body is tampering; bytes after the end are refused too."""
    with pytest.raises(Refused) as refused:
        decode(encode([b"abc"], signed=False, trailer=False), 3, signed=True, trailer=False)
    assert refused.value.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
    with pytest.raises(Refused):
        decode(encode([b"abc"], signed=True, trailer=False) + b"x", 3, signed=True, trailer=False)


@pytest.mark.parametrize(
    "body", [b"1" * 400, b"f" * 17 + b"\r\n", b"-1\r\n", b"0x3\r\n", b"3;ext=1\r\nabc\r\n", b"3\nabc\n"]
)
def test_malformed_and_endless_chunk_headers_are_refused(body):
    """Chunk headers are bounded and hold nothing but hex digits (and a signature in signed modes)."""
    with pytest.raises(Refused) as refused:
        decode(body, 3, signed=False, trailer=True)
    assert refused.value.code is ErrorCode.INVALID_REQUEST


def test_payload_slices_are_not_copies():
    """The yielded slices share the memory that was fed."""
    body = bytearray(encode([b"abc"], signed=True, trailer=False))
    decoder = ChunkedDecoder(mode(signed=True, trailer=False), decoded_length=3)
    (piece,) = decoder.feed(memoryview(body))
    body[body.index(b"\r\nabc") + 2] = ord("X")
    assert bytes(piece) == b"Xbc"


def test_headers_of_a_chunked_body():
    """x-amz-trailer is a list of names; the decoded length is required and a plain number."""
    assert declared_trailers({"x-amz-trailer": "X-Amz-Checksum-Crc32 , x-b"}) == ("x-amz-checksum-crc32", "x-b")
    assert declared_trailers({}) == ()
    assert decoded_length({"x-amz-decoded-content-length": "66560"}) == 66560
    for headers, code in (
        ({}, ErrorCode.MISSING_CONTENT_LENGTH),
        ({"x-amz-decoded-content-length": "-1"}, ErrorCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(Refused) as refused:
            decoded_length(headers)
        assert refused.value.code is code
