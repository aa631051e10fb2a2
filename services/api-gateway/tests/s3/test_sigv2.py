# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs of Signature Version 2: what botocore makes is accepted, what differs by one signed byte is not."""

import time
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_gateway.s3.escape import uri_decode
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.payload import Unsigned
from drystone_gateway.s3.route import Router
from drystone_gateway.s3.sigv2 import SIGNED_PARAMETERS, check_operation_v2
from drystone_gateway.s3.sigv4 import Credential, Verifier

ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = int(time.time())
ENDPOINT = "http://127.0.0.1:9000"


def presign(method, url, headers=None, *, expires=600, token=None, auth_path=None):
    """(target, headers) of a request presigned by botocore's HmacV1QueryAuth; what it hoists stays a header too."""
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=dict(headers or {}), auth_path=auth_path)
    botocore.auth.HmacV1QueryAuth(botocore.credentials.Credentials(ACCESS, SECRET, token), expires).add_auth(request)
    parts = urlsplit(request.url)
    sent = {name.lower(): value for name, value in (headers or {}).items()} | {"host": parts.netloc}
    query = "&".join(
        piece for piece in parts.query.split("&") if not piece.startswith("x-amz-") or piece.startswith("x-amz-sec")
    )
    return f"{parts.path}?{query}", sent


def client(**settings_):
    """A botocore client with everything about signing left at its default."""
    session = botocore.session.Session()
    session.set_credentials(ACCESS, SECRET)
    return session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=ENDPOINT,
        config=Config(s3={"addressing_style": "path"}, **settings_),
    )


def refusal(verifier, request):
    with pytest.raises(Refused) as refused:
        Router().route(request)
        verifier.verify(request)
    return refused.value


@pytest.mark.parametrize("version", [None, "s3", "s3-query"])
@pytest.mark.parametrize(
    ("method", "verb", "more", "operation"),
    [
        ("get_object", "GET", {}, Operation.GET_OBJECT),
        (
            "get_object",
            "GET",
            {"VersionId": "v1", "ResponseContentDisposition": 'attachment; filename="a b+c=d.txt"'},
            Operation.GET_OBJECT,
        ),
        ("get_object", "GET", {"PartNumber": 2}, Operation.GET_OBJECT),
        ("head_object", "HEAD", {}, Operation.HEAD_OBJECT),
        ("put_object", "PUT", {}, Operation.PUT_OBJECT),
        ("delete_object", "DELETE", {"VersionId": "null"}, Operation.DELETE_OBJECT),
        ("upload_part", "PUT", {"UploadId": "u-1", "PartNumber": 7}, Operation.UPLOAD_PART),
        ("create_multipart_upload", "POST", {}, Operation.CREATE_MULTIPART_UPLOAD),
        ("abort_multipart_upload", "DELETE", {"UploadId": "u-1"}, Operation.ABORT_MULTIPART_UPLOAD),
        ("list_parts", "GET", {"UploadId": "u-1"}, Operation.LIST_PARTS),
    ],
)
def test_urls_of_botocores_default_are_accepted_and_name_the_operation(
    make_request, make_verifier, version, method, verb, more, operation
):
    """generate_presigned_url without settings makes Version 2, for any key; so do its two explicit names."""
    config = {} if version is None else {"signature_version": version}
    for key in ("k", "a//b", "sp ace+plus%41.txt", "ü/日本語", "../x", "a&b=c?d"):
        url = client(**config).generate_presigned_url(method, {"Bucket": "bucket", "Key": key, **more}, 600)
        assert "AWSAccessKeyId=" in url
        request = make_request(verb, url.removeprefix(ENDPOINT), {"host": "127.0.0.1:9000"})
        call = Router().route(request)
        assert (call.operation, call.bucket, call.key.decode()) == (operation, "bucket", key)
        caller = make_verifier(NOW + 5).verify(request)
        assert (caller.account, caller.presigned, caller.version_two) == ("123456789012", True, True)
        assert caller.payload == Unsigned()
        check_operation_v2(call.operation)


def test_the_virtual_host_bucket_is_part_of_what_is_signed(make_request, make_verifier):
    """The same path under another bucket's host name is another request."""
    target, headers = presign("GET", "http://one.s3.test/k", auth_path="/one/k")
    for host, allowed in (("one.s3.test", True), ("two.s3.test", False)):
        request = make_request("GET", target, headers | {"host": host})
        call = Router(domains=["s3.test"]).route(request)
        assert call.virtual_bucket == call.bucket
        if allowed:
            make_verifier(NOW).verify(request, virtual_bucket=call.virtual_bucket)
        else:
            with pytest.raises(Refused) as refused:
                make_verifier(NOW).verify(request, virtual_bucket=call.virtual_bucket)
            assert refused.value.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH


SIGNED = sorted(SIGNED_PARAMETERS - {"select-type"})
keys = st.text(st.sampled_from("ab/.~-_ +%=&?ü中"), min_size=1, max_size=20)
visible = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&"), min_size=1, max_size=12)


@settings(max_examples=400, deadline=None)
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]),
    key=keys,
    name=st.sampled_from(["", *SIGNED]),
    value=visible,
    headers=st.dictionaries(
        st.sampled_from(["x-amz-meta-a", "x-amz-meta-b", "content-type", "content-md5"]), visible, max_size=3
    ),
    data=st.data(),
)
def test_one_changed_byte_of_anything_signed_is_refused(
    make_request, make_verifier, method, key, name, value, headers, data
):
    """A random request is accepted; with any byte of its target or signed headers altered it is refused."""
    query = f"?{name}={quote(value, safe='')}" if name else ""
    target, sent = presign(method, f"{ENDPOINT}/bucket/{quote(key, safe='/~')}{query}", headers)
    verifier = make_verifier(NOW)
    verifier.verify(make_request(method, target, sent))
    where = data.draw(st.sampled_from(["target", "method", *headers]))
    at, to = 1 + data.draw(st.integers(0, 9999)) % (len(target) - 1), data.draw(st.sampled_from("aZ1/&=%."))
    if where == "method":
        altered = ("GET" if method != "GET" else "PUT", target, sent)
    elif where == "target":
        changed = target[:at] + to + target[at + 1 :]
        if same_meaning(target, changed):
            return
        altered = (method, changed, sent)
    else:
        altered = (method, target, sent | {where: headers[where] + data.draw(st.sampled_from(["x", ",", " y"]))})
    try:
        caller = verifier.verify(make_request(*altered))
    except DrystoneError:
        return
    assert caller.anonymous, altered


def same_meaning(one, other):
    """Do two targets decode to the same key and parameters (an upper-case hex digit, an empty parameter)?"""
    try:
        return parts_of(one) == parts_of(other)
    except (Refused, ValueError):
        return False


def parts_of(target):
    path, _, query = target.partition("?")
    pairs = [piece.partition("=") for piece in query.split("&") if piece]
    named = sorted((uri_decode(n, plus_is_space=True), uri_decode(v, plus_is_space=True)) for n, _, v in pairs)
    return uri_decode(path), named


@pytest.mark.parametrize(
    "extra",
    [
        "prefix=secret",
        "list-type=2",
        "marker=a",
        "max-keys=1",
        "encryption",
        "attributes",
        "legal-hold",
        "renameObject",
        "annotation",
        "unknown=1",
        "%75nknown=1",
        "x-amz-copy-source=/bucket/secret",
        "x-amz-acl=public-read",
        "X-Amz-Copy-Source=/bucket/secret",
        "X-Amz-Date=1",
        "content-type=text/html",
        "content-md5=aaaa",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_parameters_that_version_two_does_not_sign_are_refused(make_request, make_verifier, method, extra):
    """Nothing that is not signed may choose the operation or what it is done to, in any place of the query."""
    target, headers = presign(method, f"{ENDPOINT}/bucket/k")
    for altered in (f"{target}&{extra}", target.replace("?", f"?{extra}&", 1)):
        request = make_request(method, altered, headers)
        with pytest.raises(Refused) as refused:
            make_verifier(NOW).verify(request)
        assert refused.value.code in (ErrorCode.ACCESS_DENIED, ErrorCode.INVALID_ARGUMENT)


def test_what_changes_nothing_may_be_added(make_request, make_verifier):
    """x-id, and a content-type that repeats the signed header as botocore writes it, are let through."""
    target, headers = presign("PUT", f"{ENDPOINT}/bucket/k", {"content-type": "text/plain"})
    assert "content-type=text%2Fplain" in target
    request = make_request("PUT", target + "&x-id=PutObject", headers)
    assert Router().route(request).operation is Operation.PUT_OBJECT
    make_verifier(NOW).verify(request)
    for other in ({"host": headers["host"]}, headers | {"content-type": "text/html"}):
        assert refusal(make_verifier(NOW), make_request("PUT", target, other)).code is ErrorCode.ACCESS_DENIED


@pytest.mark.parametrize("operation", [op for op in Operation if op.value.startswith("List")])
def test_listings_are_refused_but_for_parts(operation):
    """Their prefix and marker are not signed: dropping them would widen what a URL shows."""
    known = {
        Operation.LIST_BUCKETS,
        Operation.LIST_DIRECTORY_BUCKETS,
        Operation.LIST_MULTIPART_UPLOADS,
        Operation.LIST_OBJECTS,
        Operation.LIST_OBJECTS_V2,
        Operation.LIST_OBJECT_VERSIONS,
    }
    if operation in known:
        with pytest.raises(Refused):
            check_operation_v2(operation)
    else:
        check_operation_v2(operation)


def test_time_is_absolute(make_request, make_verifier):
    """Good until Expires, refused a second later with both times; what is no number is refused too."""
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k", expires=600)
    expires = int(target.partition("Expires=")[2].partition("&")[0])
    make_verifier(expires).verify(make_request("GET", target, headers))
    error = refusal(make_verifier(expires + 1), make_request("GET", target, headers))
    assert (error.code, error.message) == (ErrorCode.ACCESS_DENIED, "Request has expired")
    assert {"Expires", "ServerTime"} <= error.details.keys()
    for text in ("", "abc", "-1", "1e9", "٣", "9" * 12):
        altered = target.replace(f"Expires={expires}", f"Expires={quote(text)}")
        assert refusal(make_verifier(NOW), make_request("GET", altered, headers)).code is ErrorCode.ACCESS_DENIED
    later = target.replace(f"Expires={expires}", f"Expires={expires + 1}")
    error = refusal(make_verifier(NOW), make_request("GET", later, headers))
    assert error.code is ErrorCode.SIGNATURE_DOES_NOT_MATCH
    assert SECRET not in str(error.details)


def test_incomplete_doubled_and_mixed_credentials_are_refused(make_request, make_verifier):
    """Never anonymity: a missing parameter, a second one, another version beside it, a header beside it."""
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k")
    path, _, query = target.partition("?")
    pieces = query.split("&")
    for at, piece in enumerate(pieces):
        left_out = "&".join(pieces[:at] + pieces[at + 1 :])
        code = refusal(make_verifier(NOW), make_request("GET", f"{path}?{left_out}", headers)).code
        assert code in (ErrorCode.ACCESS_DENIED, ErrorCode.NOT_IMPLEMENTED), piece
        code = refusal(make_verifier(NOW), make_request("GET", f"{target}&{piece}", headers)).code
        assert code is ErrorCode.INVALID_ARGUMENT, piece
    for mixed in (
        make_request("GET", f"{target}&X-Amz-Signature=0", headers),
        make_request("GET", f"{target}&X-Amz-Algorithm=AWS4-HMAC-SHA256", headers),
        make_request("GET", target, headers | {"authorization": "AWS4-HMAC-SHA256 Credential=a"}),
    ):
        assert refusal(make_verifier(NOW), mixed).code is ErrorCode.INVALID_ARGUMENT
    unknown = make_request("GET", target.replace(ACCESS, "AKIAUNKNOWN"), headers)
    assert refusal(make_verifier(NOW), unknown).code is ErrorCode.INVALID_ACCESS_KEY_ID


def test_two_readings_of_one_string_are_not_both_accepted(make_request, make_verifier):
    """A version signed as a parameter of its own cannot be hidden in the value before it, nor a line end in a value."""
    override = "response-content-disposition"
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k?{override}=a&versionId=v")
    make_verifier(NOW).verify(make_request("GET", target, headers))
    merged = target.replace(f"{override}=a&versionId=v", f"{override}=a%26versionId%3Dv")
    assert refusal(make_verifier(NOW), make_request("GET", merged, headers)).code is ErrorCode.ACCESS_DENIED
    plain, headers = presign("GET", f"{ENDPOINT}/bucket/k?{override}=a%26b%3Dc")
    make_verifier(NOW).verify(make_request("GET", plain, headers))
    for other in ("uploadId=u", "torrent", "tagging", "acl"):
        target, headers = presign("GET", f"{ENDPOINT}/bucket/k?{override}=a&{other}")
        assert refusal(make_verifier(NOW), make_request("GET", target, headers)).code is ErrorCode.ACCESS_DENIED
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k?{override}=a%0Ab")
    assert refusal(make_verifier(NOW), make_request("GET", target, headers)).code is ErrorCode.ACCESS_DENIED
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k?{override}=a%2Bb")
    make_verifier(NOW).verify(make_request("GET", target, headers))
    spaced = target.replace("a%2Bb", "a+b")
    assert refusal(make_verifier(NOW), make_request("GET", spaced, headers)).code is ErrorCode.SIGNATURE_DOES_NOT_MATCH


def test_extra_amz_headers_are_refused(make_request, make_verifier):
    """A bearer cannot turn an upload into a copy."""
    target, headers = presign("PUT", f"{ENDPOINT}/bucket/k")
    request = make_request("PUT", target, headers | {"x-amz-copy-source": "/bucket/secret"})
    assert refusal(make_verifier(NOW), request).code is ErrorCode.SIGNATURE_DOES_NOT_MATCH


def test_temporary_credentials_carry_their_token(make_request, make_verifier):
    """The token is signed and compared; without it, or with another, the request is refused."""
    known = {
        ACCESS: Credential(ACCESS, SECRET, "123456789012", session_token="tok+en/1==", expires_us=(NOW + 9) * 10**6)
    }
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k", token="tok+en/1==")
    make_verifier(NOW, credentials=known).verify(make_request("GET", target, headers))
    other = make_request("GET", target.replace("=tok", "=tik"), headers)
    assert refusal(make_verifier(NOW, credentials=known), other).code is ErrorCode.INVALID_TOKEN
    none, headers = presign("GET", f"{ENDPOINT}/bucket/k")
    request = make_request("GET", none, headers)
    assert refusal(make_verifier(NOW, credentials=known), request).code is ErrorCode.INVALID_TOKEN
    assert refusal(make_verifier(NOW), make_request("GET", target, headers)).code is ErrorCode.INVALID_TOKEN


def test_a_customer_key_is_not_echoed(make_request, make_verifier):
    """The string to sign holds the headers: not shown when one of them is a secret."""
    target, headers = presign("PUT", f"{ENDPOINT}/bucket/k")
    secret = {"x-amz-server-side-encryption-customer-key": "c2VjcmV0"}
    assert "c2VjcmV0" not in str(refusal(make_verifier(NOW), make_request("PUT", target, headers | secret)).details)


def test_it_can_be_switched_off_and_is_never_taken_from_the_header(make_request, make_verifier, credential):
    """With presigned_v2 off the URL is refused by name; Authorization: AWS … is refused in any case."""
    clock = make_verifier(NOW)._clock
    off = Verifier(credentials={ACCESS: credential}.get, region="us-east-1", clock=clock, presigned_v2=False)
    target, headers = presign("GET", f"{ENDPOINT}/bucket/k")
    assert refusal(off, make_request("GET", target, headers)).code is ErrorCode.INVALID_REQUEST
    header = make_request("GET", "/bucket/k", headers | {"authorization": f"AWS {ACCESS}:c2ln"})
    assert refusal(make_verifier(NOW), header).code is ErrorCode.INVALID_REQUEST
