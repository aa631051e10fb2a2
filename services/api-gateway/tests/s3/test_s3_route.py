# SPDX-License-Identifier: Apache-2.0
"""Routing against botocore's model: every operation reaches its own name (§5 #1, #2, #17, #37, #69)."""

from urllib.parse import quote

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_gateway.s3.bucket_name import check_new_bucket
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.route import Router
from drystone_gateway.s3.route_tables import BUCKET_PLAIN, BUCKET_SUB, OBJECT_PLAIN, OBJECT_SUB

MODEL = botocore.session.get_session().get_service_model("s3")
SAME_ROUTE = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
NEEDS = {"ListDirectoryBuckets": "max-directory-buckets=1"}


def route(make_request, method, target, headers=None, **options):
    return Router(**options).route(make_request(method, target, {"host": "h"} | (headers or {})))


def refusal(make_request, method, target, headers=None, **options):
    with pytest.raises(Refused) as refused:
        route(make_request, method, target, headers, **options)
    return refused.value


def model_target(name):
    """Path and query of an operation with its required parameters."""
    operation = MODEL.operation_model(name)
    path, _, query = operation.http["requestUri"].partition("?")
    pieces = [query] if query else []
    for member, shape in operation.input_shape.members.items() if operation.input_shape else ():
        if shape.serialization.get("location") == "querystring" and member in operation.input_shape.required_members:
            pieces.append(shape.serialization["name"] + "=1")
    if name in NEEDS:
        pieces.append(NEEDS[name])
    target = path.replace("{Bucket}", "bucket").replace("{Key+}", "some/key")
    return operation.http["method"], target + ("?" + "&".join(pieces) if pieces else "")


@pytest.mark.parametrize("name", sorted(MODEL.operation_names))
def test_every_operation_of_the_model_is_routed_to_itself(make_request, name):
    """Each of botocore's operations, built from its model, is recognised."""
    method, target = model_target(name)
    headers = {"x-amz-copy-source": "/b/k"} if name in ("CopyObject", "UploadPartCopy") else {}
    assert route(make_request, method, target, headers).operation == SAME_ROUTE.get(name, name)


@pytest.mark.parametrize("name", sorted(MODEL.operation_names))
def test_every_query_parameter_of_the_model_is_known(make_request, name):
    """No documented parameter is taken for an unknown sub-resource, and none changes the operation."""
    method, target = model_target(name)
    headers = {"x-amz-copy-source": "/b/k"} if name in ("CopyObject", "UploadPartCopy") else {}
    shape = MODEL.operation_model(name).input_shape
    extra = [
        member.serialization["name"]
        for member in (shape.members.values() if shape else ())
        if member.serialization.get("location") == "querystring" and member.serialization["name"] + "=" not in target
    ]
    if name in ("ListObjectAnnotations",):
        extra = [one for one in extra if one != "annotationName"]
    query = "&".join(f"{one}=1" for one in extra)
    full = target + ("&" if "?" in target else "?") + query if query else target
    assert route(make_request, method, full, headers).operation == SAME_ROUTE.get(name, name)


def test_the_operations_are_the_model_and_two_more():
    """The enum holds exactly botocore's operations, POST Object and the preflight."""
    assert {op.value for op in Operation} == set(MODEL.operation_names) | {"PostObject", "OptionsPreflight"}


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "GET", "HEAD"])
@pytest.mark.parametrize(
    "target", ["/bucket?foo", "/bucket/key?foo", "/bucket/key?foo=", "/bucket/key?publicAccessBlock", "/?foo"]
)
def test_pitfall_69_unknown_sub_resources_never_fall_through(make_request, method, target):
    """A bare unknown name is refused on every method: `DELETE /b/k?foo` deletes nothing."""
    assert refusal(make_request, method, target).code is ErrorCode.NOT_IMPLEMENTED


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_pitfall_69_unknown_parameters_are_refused_on_writes_and_ignored_on_reads(make_request, method):
    """`?v=1` is a cache buster on a GET and could be anything on a write."""
    assert refusal(make_request, method, "/bucket/key?v=1").code is ErrorCode.NOT_IMPLEMENTED
    assert route(make_request, "GET", "/bucket/key?v=1").operation is Operation.GET_OBJECT


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/bucket?publicAccessBlock"),
        ("HEAD", "/bucket?acl"),
        ("DELETE", "/bucket?acl"),
        ("DELETE", "/bucket/key?acl"),
        ("PUT", "/bucket?versions"),
        ("DELETE", "/bucket?uploads"),
        ("POST", "/bucket/key"),
        ("PUT", "/"),
        ("PATCH", "/bucket/key"),
        ("TRACE", "/bucket"),
    ],
)
def test_methods_without_operation_are_refused(make_request, method, target):
    """A known sub-resource with the wrong method is MethodNotAllowed, never another operation."""
    assert refusal(make_request, method, target).code is ErrorCode.METHOD_NOT_ALLOWED


def test_pitfall_69_no_sub_resource_reaches_what_is_done_without_one(make_request):
    """Each sub-resource with each method: an operation of its own, or a refusal."""
    plain = {*BUCKET_PLAIN.values(), *OBJECT_PLAIN.values(), Operation.COPY_OBJECT, Operation.LIST_OBJECTS_V2}
    for path, table in (("/bucket", BUCKET_SUB), ("/bucket/key", OBJECT_SUB)):
        for sub in table:
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                try:
                    operation = route(make_request, method, f"{path}?{sub}&partNumber=1&select-type=2").operation
                except Refused as refused:
                    assert refused.code in (ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.NOT_IMPLEMENTED)
                else:
                    assert operation not in plain and method in table[sub], (method, sub)


def test_two_sub_resources_or_doubled_parameters_are_refused(make_request):
    """`?acl&tagging` and `?versionId=a&versionId=b` are ambiguous, so refused."""
    assert refusal(make_request, "GET", "/bucket/key?acl&tagging").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(make_request, "GET", "/bucket/key?versionId=a&versionId=b").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(make_request, "PUT", "/bucket/key?partNumber=1").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(make_request, "PUT", "/bucket/key?uploadId=1").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(make_request, "GET", "/bucket?list-type=3").code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/b/a+b", b"a+b"),
        ("/b/a%2Bb", b"a+b"),
        ("/b/a%20b", b"a b"),
        ("/b/a//b", b"a//b"),
        ("/b//a", b"/a"),
        ("/b/a/", b"a/"),
        ("/b/../x", b"../x"),
        ("/b/a%2Fb", b"a/b"),
        ("/b/%2525", b"%25"),
        ("/b/%00%01", b"\x00\x01"),
        ("/b/%E4%B8%AD", "中".encode()),
        ("/b/" + "中".encode().decode("latin-1"), "中".encode()),
        ("/b/a%3Fversions", b"a?versions"),
    ],
)
def test_pitfall_02_and_37_keys_are_bytes_decoded_once(make_request, path, key):
    """`+` is literal, slashes and dots are ordinary, escapes are decoded exactly once."""
    call = route(make_request, "GET", path)
    assert (call.bucket, call.key, call.operation) == ("b", key, Operation.GET_OBJECT)


@given(st.text(min_size=1, max_size=200).filter(lambda text: len(text.encode("utf-8", "surrogatepass")) <= 1024))
def test_any_key_survives_the_path(make_request, key):
    """Whatever UTF-8 a client percent-encodes is the key it gets."""
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        return
    assert route(make_request, "GET", "/bucket/" + quote(raw)).key == raw


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/b/%zz", ErrorCode.INVALID_URI),
        ("/b/%", ErrorCode.INVALID_URI),
        ("/b/%ff", ErrorCode.INVALID_URI),
        ("/b?prefix=%ff", ErrorCode.INVALID_URI),
        ("/b?prefix=%f", ErrorCode.INVALID_URI),
        ("b/k", ErrorCode.INVALID_URI),
        ("//k", ErrorCode.INVALID_BUCKET_NAME),
        ("/b%2Fc/k", ErrorCode.INVALID_BUCKET_NAME),
        ("/../k", ErrorCode.INVALID_BUCKET_NAME),
        ("/b%00/k", ErrorCode.INVALID_BUCKET_NAME),
        ("/b/" + "k" * 1025, ErrorCode.KEY_TOO_LONG),
        ("/b/" + "%E4%B8%AD" * 342, ErrorCode.KEY_TOO_LONG),
        ("/b/k?versionId=" + "v" * 20000, ErrorCode.URI_TOO_LONG),
    ],
)
def test_pitfall_17_limits_and_malformed_targets(make_request, target, code):
    """Keys over 1,024 bytes, stray escapes, bad UTF-8 and impossible buckets are refused by their codes."""
    assert refusal(make_request, "GET", target).code is code


def test_a_key_of_1024_bytes_is_accepted_encoded(make_request):
    """The limit counts decoded bytes."""
    assert len(route(make_request, "PUT", "/b/" + "%41" * 1024).key) == 1024


def test_query_values_are_form_decoded(make_request):
    """In a query value `+` is a space; names are kept as sent; signature parameters are left out."""
    call = route(make_request, "GET", "/b?prefix=a+b%2Bc&delimiter=%2F&X-Amz-Signature=1&list-type=2")
    assert call.query == {"prefix": "a b+c", "delimiter": "/", "list-type": "2"}
    assert call.operation is Operation.LIST_OBJECTS_V2


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("my.bucket.s3.example.com", "/a/b", "my.bucket", b"a/b"),
        ("MyBucket.S3.example.com:9000", "/", "mybucket", b""),
        ("s3.example.com:9000", "/bucket/k", "bucket", b"k"),
        ("127.0.0.1:9000", "/bucket/k", "bucket", b"k"),
        ("[::1]:9000", "/bucket/k", "bucket", b"k"),
        ("xs3.example.com", "/bucket/k", "bucket", b"k"),
    ],
)
def test_virtual_host_and_path_style(make_request, host, target, bucket, key):
    """A host under one of our domains names the bucket, any other host leaves it to the path."""
    call = route(make_request, "GET", target, {"host": host}, domains=["s3.example.com"])
    assert (call.bucket, call.key) == (bucket, key)


def test_hoisted_headers_count_as_headers(make_request):
    """Presigners move x-amz-* headers into the query: they are acted upon (or refused) all the same."""
    call = route(make_request, "PUT", "/b/k?X-Amz-Acl=public-read&x-amz-copy-source=b%2Fsecret")
    assert call.headers["x-amz-acl"] == "public-read"
    assert call.operation is Operation.COPY_OBJECT
    call = route(make_request, "PUT", "/b/k?x-amz-meta-a=%E4%B8%AD")
    assert call.headers["x-amz-meta-a"].encode("latin-1").decode() == "中"
    assert refusal(make_request, "PUT", "/b/k?x-amz-meta-a=%0D%0A").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(make_request, "PUT", "/b/k?x-amz-acl=private", {"x-amz-acl": "public-read"}).code is (
        ErrorCode.INVALID_ARGUMENT
    )


@pytest.mark.parametrize("name", ["abc", "a-b.c", "1bucket", "a" * 63])
def test_new_bucket_names_that_are_allowed(name):
    """Ordinary names pass."""
    check_new_bucket(name)


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "Abc", "a_b", "a..b", "-abc", "abc-", "a.-b", "a-.b", "192.168.5.4", "xn--abc", "abc-s3alias",
     "abc--ol-s3", "sthree-abc", "abc.mrap", "abc--x-s3", "ab\n"],
)  # fmt: skip
def test_pitfall_70_new_bucket_names_that_are_not(name):
    """AWS's rules, the reserved prefixes and suffixes included."""
    with pytest.raises(Refused) as refused:
        check_new_bucket(name)
    assert refused.value.code is ErrorCode.INVALID_BUCKET_NAME


PIECES = st.sampled_from(
    ["/", "bucket", "key", "?", "&", "=", "%", "%2F", "%00", "%ff", "+", "..", "acl", "versionId", "uploads",
     "uploadId", "partNumber=1", "x-amz-acl", "list-type=2", "\xff", "WriteGetObjectResponse", "X-Amz-Signature=1",
     "delete"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "X"]), st.lists(PIECES, max_size=12))
def test_no_target_does_worse_than_being_refused(make_request, method, pieces):
    """Any target ends in a call whose key and bucket fit its operation, or in Refused."""
    try:
        call = route(make_request, method, "/" + "".join(pieces))
    except Refused:
        return
    assert len(call.key) <= 1024
    assert call.bucket or not call.key
    if call.operation in (Operation.GET_OBJECT, Operation.PUT_OBJECT, Operation.DELETE_OBJECT):
        assert call.key
        assert not {"acl", "uploads", "uploadId", "delete"} & call.query.keys() or method == "GET"
    if call.operation in (Operation.CREATE_BUCKET, Operation.DELETE_BUCKET):
        assert call.bucket
        assert not call.key
        assert not call.query.keys() - {"versionId", "partNumber", "list-type", "x-amz-acl"}


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", ""),
        ("PUT", "uploadId=u&partNumber=1&"),
        ("POST", "uploads&"),
        ("POST", "uploadId=u&"),
        ("DELETE", "uploadId=u&"),
    ],
)
def test_a_version_cannot_be_chosen_where_none_is_meant(make_request, method, query):
    """A PUT with versionId would replace the current version, so it is refused as AWS does."""
    for version in ("v1", "", "null"):
        error = refusal(make_request, method, f"/bucket/key?{query}versionId={version}")
        assert (error.code, error.details["ArgumentName"]) == (ErrorCode.INVALID_ARGUMENT, "versionId")
    assert route(make_request, "DELETE", "/bucket/key?versionId=v1").operation is Operation.DELETE_OBJECT
