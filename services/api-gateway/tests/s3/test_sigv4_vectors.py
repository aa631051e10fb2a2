# SPDX-License-Identifier: Apache-2.0
"""Signature Version 4 against AWS's published examples (S3 API reference, keys AKIAIOSFODNN7EXAMPLE, 24 May 2013)."""

import pytest

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.aws_chunked import ChunkedDecoder
from drystone_gateway.s3.payload import Streaming

AT = 1369353600
SCOPE = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HOST = "examplebucket.s3.amazonaws.com"


def authorization(signed: str, signature: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders={signed},Signature={signature}"


def plain_headers(signed: str, signature: str) -> dict[str, str]:
    return {
        "host": HOST,
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": EMPTY,
        "authorization": authorization(signed, signature),
    }


@pytest.mark.parametrize(
    ("target", "signature"),
    [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_bucket_examples_are_accepted(make_request, make_verifier, target, signature):
    """The documentation's two bucket GETs verify, whatever the order of the query."""
    request = make_request("GET", target, plain_headers("host;x-amz-content-sha256;x-amz-date", signature))
    assert make_verifier(AT).verify(request).account == "123456789012"
    if "&" in target:
        turned = make_request("GET", "/?prefix=J&max-keys=2", request.headers)
        assert make_verifier(AT).verify(turned).access_key == "AKIAIOSFODNN7EXAMPLE"


def test_get_object_example_is_accepted_and_its_range_is_bound(make_request, make_verifier):
    """The documentation's GET with a Range verifies; another range does not."""
    signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    headers = plain_headers("host;range;x-amz-content-sha256;x-amz-date", signature) | {"range": "bytes=0-9"}
    make_verifier(AT).verify(make_request("GET", "/test.txt", headers))
    with pytest.raises(Refused) as refused:
        make_verifier(AT).verify(make_request("GET", "/test.txt", headers | {"range": "bytes=0-10"}))
    assert refused.value.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
    assert refused.value.details["StringToSign"].startswith(
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/"
    )


def test_presigned_example_is_accepted_for_one_day(make_request, make_verifier):
    """The documentation's presigned URL verifies until its 86,400 seconds are over."""
    target = (
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3"
        "%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    request = make_request("GET", target, {"host": HOST})
    assert make_verifier(AT + 86400).verify(request).presigned
    with pytest.raises(Refused) as refused:
        make_verifier(AT + 86401).verify(request)
    assert refused.value.code is ErrorCode.ACCESS_DENIED
    assert refused.value.message == "Request has expired"
    assert refused.value.details["Expires"] == "2013-05-25T00:00:00.000Z"


CHUNKED = {
    "host": "s3.amazonaws.com",
    "x-amz-date": "20130524T000000Z",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
    "content-encoding": "aws-chunked",
    "x-amz-decoded-content-length": "66560",
}


def chunked_mode(make_request, make_verifier, headers):
    caller = make_verifier(AT).verify(make_request("PUT", "/examplebucket/chunkObject.txt", headers))
    assert isinstance(caller.payload, Streaming)
    return caller.payload


def decode(mode, body, step, **options):
    decoder = ChunkedDecoder(mode, decoded_length=66560, **options)
    size = 0
    for at in range(0, len(body), step):
        for piece in decoder.feed(memoryview(body)[at : at + step]):
            assert set(bytes(piece)) == {97}
            size += len(piece)
    return size, decoder.finish()


@pytest.mark.parametrize("step", [1, 7, 1000, 70000])
def test_pitfall_07_signed_chunks_example_is_decoded(make_request, make_verifier, step):
    """The documentation's upload of 66,560 bytes in three signed chunks decodes at any read size."""
    headers = CHUNKED | {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-length": "66824",
        "authorization": authorization(
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
            "x-amz-storage-class",
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        ),
    }
    mode = chunked_mode(make_request, make_verifier, headers)
    body = (
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
        + b"a" * 65536
        + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
        + b"a" * 1024
        + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
    )
    assert len(body) == 66824
    assert decode(mode, body, step) == (66560, {})


@pytest.mark.parametrize("last_line", [b"\r\n", b""])
def test_pitfall_08_signed_trailer_example_is_decoded(make_request, make_verifier, last_line):
    """The documentation's upload with a signed CRC32C trailer decodes, with and without the last CR LF."""
    headers = CHUNKED | {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "x-amz-trailer": "x-amz-checksum-crc32c",
        "authorization": authorization(
            "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;"
            "x-amz-trailer",
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        ),
    }
    mode = chunked_mode(make_request, make_verifier, headers)
    body = (
        b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
        + b"a" * 65536
        + b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"
        + b"a" * 1024
        + b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
        + b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
        + b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
        + last_line
    )
    expected = (66560, {"x-amz-checksum-crc32c": "sOO8/Q=="})
    assert decode(mode, body, 999, trailer_names=("x-amz-checksum-crc32c",)) == expected
    tampered = body.replace(b"sOO8/Q==", b"sOO8/R==")
    with pytest.raises(Refused) as refused:
        decode(mode, tampered, 999, trailer_names=("x-amz-checksum-crc32c",))
    assert refused.value.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
