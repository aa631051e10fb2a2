# SPDX-License-Identifier: Apache-2.0
"""Documents out, read back by botocore's parsers, and documents in, from botocore's serializer and from attackers."""

import datetime
import io
import tracemalloc
from urllib.parse import unquote

import botocore.awsrequest
import botocore.handlers
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drystone_core.errors import ErrorCode, Refused
from drystone_core.listing import ListedObject, ListedVersion, ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.mutations import Preconditions
from drystone_core.objects import Bucket, Checksum, ChecksumType, ObjectVersion, Part, Upload
from drystone_gateway.s3 import listing, xml_in, xml_out
from drystone_gateway.s3.operation import Operation
from drystone_gateway.s3.unconfigured import DELETES, DOCUMENTS, REFUSALS, unconfigured_answer

MODEL = botocore.session.get_session().get_service_model("s3")
MS = 1_795_443_521_000
WHEN = datetime.datetime(2026, 11, 23, 14, 18, 41, tzinfo=datetime.UTC)
OWNER = "123456789012"


def parse(operation, body):
    shape = MODEL.operation_model(operation).output_shape
    parsed = botocore.parsers.RestXMLParser().parse({"status_code": 200, "headers": {}, "body": body}, shape)
    parsed.pop("ResponseMetadata")
    return parsed


def serialize(operation, **arguments):
    request = botocore.serialize.RestXMLSerializer().serialize_to_request(arguments, MODEL.operation_model(operation))
    return request["body"]


def row(key, **options):
    values = {"size": 5, "etag": "e" * 32, "modified_ms": MS, "storage_class": "STANDARD"} | options
    return ListedObject(key, **({"checksum_algorithm": "", "checksum_type": ""} | values))


def page(*rows, prefixes=(), truncated=False, next_after=b""):
    return ObjectPage(objects=list(rows), common_prefixes=list(prefixes), truncated=truncated, next_after=next_after)


def test_list_buckets_is_read_by_botocore():
    """Names, dates, owner and the token of a page."""
    buckets = [Bucket(bucket_id=1, name="b&1", owner=OWNER, created_ms=MS, region="us-east-1")]
    query = listing.list_buckets({"max-buckets": "1"})
    parsed = parse("ListBuckets", xml_out.list_buckets(buckets, owner=OWNER, query=query, next_token="t"))
    assert parsed["Buckets"] == [{"Name": "b&1", "CreationDate": WHEN, "BucketRegion": "us-east-1"}]
    assert (parsed["Owner"]["ID"], parsed["ContinuationToken"]) == (OWNER, "t")


@pytest.mark.parametrize(("region", "text"), [("us-east-1", None), ("eu-west-1", "eu-west-1")])
def test_pitfall_71_location_constraint_is_the_root(region, text):
    """Empty for us-east-1, the region otherwise."""
    body = xml_out.location_constraint(region)
    parsed = {}
    answer = botocore.awsrequest.AWSResponse("http://h/b?location", 200, {}, io.BytesIO(body))
    answer._content = body
    botocore.handlers.parse_get_bucket_location(parsed, answer)
    assert parsed["LocationConstraint"] == text
    assert b"<LocationConstraint xmlns=" in body


def test_pitfall_61_and_62_version_one_and_two_listings():
    """V1 has owners and NextMarker only with a delimiter; V2 counts prefixes and shows owners on request."""
    found = page(row(b"a", checksum_algorithm="CRC32", checksum_type="FULL_OBJECT"), prefixes=[b"p/"], truncated=True,
                 next_after=b"p/")  # fmt: skip
    one = parse("ListObjects", xml_out.list_objects_v1(
        found, bucket="b", owner=OWNER, query=listing.list_objects_v1({"delimiter": "/", "marker": "M"})))  # fmt: skip
    assert (one["NextMarker"], one["Marker"], one["IsTruncated"], one["MaxKeys"]) == ("p/", "M", True, 1000)
    assert one["Contents"][0]["Owner"]["ID"] == OWNER
    assert one["Contents"][0]["ETag"] == '"' + "e" * 32 + '"'
    assert one["Contents"][0]["ChecksumAlgorithm"] == ["CRC32"]
    assert one["Contents"][0]["LastModified"] == WHEN
    plain = parse("ListObjects", xml_out.list_objects_v1(
        found, bucket="b", owner=OWNER, query=listing.list_objects_v1({})))  # fmt: skip
    assert "NextMarker" not in plain
    assert "Delimiter" not in plain
    for asked, shown in (("true", True), ("false", False)):
        query = listing.list_objects_v2({"fetch-owner": asked, "start-after": "s", "delimiter": "/"})
        two = parse("ListObjectsV2", xml_out.list_objects_v2(
            found, bucket="b", owner=OWNER, query=query, next_token="tok"))  # fmt: skip
        assert (two["KeyCount"], two["StartAfter"], two["NextContinuationToken"]) == (2, "s", "tok")
        assert ("Owner" in two["Contents"][0]) is shown
        assert two["CommonPrefixes"] == [{"Prefix": "p/"}]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=5))
def test_pitfall_63_url_encoding_carries_every_key(keys):
    """With encoding-type=url any key survives, `/` stays and `+` is %2B."""
    query = listing.list_objects_v2({"encoding-type": "url", "prefix": "a+b c", "delimiter": "/"})
    body = xml_out.list_objects_v2(page(*[row(key.encode()) for key in keys]), bucket="b", owner=OWNER, query=query)
    parsed = parse("ListObjectsV2", body)
    assert [unquote(item["Key"]) for item in parsed.get("Contents", [])] == keys
    assert (parsed["Prefix"], parsed["Delimiter"], parsed["EncodingType"]) == ("a%2Bb%20c", "/", "url")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)))
def test_plain_listings_carry_every_key_that_xml_can_hold(keys):
    """Without encoding-type keys are escaped, not altered."""
    query = listing.list_objects_v1({})
    body = xml_out.list_objects_v1(page(*[row(key.encode()) for key in keys]), bucket="b", owner=OWNER, query=query)
    assert [item["Key"] for item in parse("ListObjects", body).get("Contents", [])] == keys


def test_pitfall_64_control_characters_are_references():
    """Characters XML 1.0 cannot hold go out as references, as AWS does; carriage returns survive."""
    body = xml_out.list_objects_v1(
        page(row(b"a\x00\x1f\rb")), bucket="b", owner=OWNER, query=listing.list_objects_v1({})
    )
    assert b"<Key>a&#0;&#31;&#13;b</Key>" in body


def test_pitfall_56_versions_and_markers_keep_their_order():
    """One stream in document order; markers have no size; next markers when truncated."""
    versions = [
        ListedVersion(b"k", "v2", True, True, 0, "", MS, "STANDARD", "", ""),
        ListedVersion(b"k", "null", False, False, 7, "e" * 32, MS, "STANDARD", "CRC32C", "COMPOSITE"),
    ]
    found = VersionPage(versions=versions, common_prefixes=[b"x/"], truncated=True, next_key=b"k", next_version="null")
    query = listing.list_versions({"key-marker": "j", "version-id-marker": "v1"})
    body = xml_out.list_versions(found, bucket="b", owner=OWNER, query=query)
    parsed = parse("ListObjectVersions", body)
    assert body.index(b"<DeleteMarker>") < body.index(b"<Version>")
    assert parsed["DeleteMarkers"][0]["VersionId"] == "v2"
    assert parsed["Versions"][0]["ChecksumType"] == "COMPOSITE"
    assert (parsed["NextKeyMarker"], parsed["NextVersionIdMarker"], parsed["VersionIdMarker"]) == ("k", "null", "v1")


UPLOAD = Upload(key=b"k&", upload_id="u1", initiated_ms=MS, owner=OWNER, checksum_algorithm="SHA256",
                checksum_type=ChecksumType.COMPOSITE)  # fmt: skip


def part(number, checksum=None):
    return Part(number=number, size=9, etag="f" * 32, modified_ms=MS, uid=b"u", checksum=checksum)


def test_pitfall_66_uploads_and_parts_are_read_by_botocore():
    """ListMultipartUploads and ListParts with markers, checksums and owners."""
    uploads = UploadPage(uploads=[UPLOAD], common_prefixes=[b"p/"], truncated=True, next_key=b"k&", next_upload="u1")
    query = listing.list_uploads({"prefix": "k", "delimiter": "/", "max-uploads": "1"})
    parsed = parse("ListMultipartUploads", xml_out.list_uploads(uploads, bucket="b", query=query))
    assert parsed["Uploads"][0]["Key"] == "k&"
    assert (parsed["NextKeyMarker"], parsed["NextUploadIdMarker"], parsed["MaxUploads"]) == ("k&", "u1", 1)
    parts = PartPage(upload=UPLOAD, parts=[part(3, Checksum("SHA256", "x="))], truncated=True, next_part=3)
    query = listing.list_parts({"part-number-marker": "2", "max-parts": "1"})
    parsed = parse("ListParts", xml_out.list_parts(parts, bucket="b", query=query))
    assert parsed["Parts"][0] == {"PartNumber": 3, "LastModified": WHEN, "ETag": '"' + "f" * 32 + '"', "Size": 9,
                                  "ChecksumSHA256": "x="}  # fmt: skip
    assert (parsed["PartNumberMarker"], parsed["NextPartNumberMarker"], parsed["ChecksumAlgorithm"]) == (2, 3, "SHA256")


def test_results_of_uploads_and_copies_are_read_by_botocore():
    """Initiate, Complete, CopyObject and UploadPartCopy."""
    assert (
        parse("CreateMultipartUpload", xml_out.initiate_upload(bucket="b", key=b"k", upload_id="u"))["UploadId"] == "u"
    )
    checksum = Checksum("CRC32", "AAAA-2", ChecksumType.COMPOSITE)
    body = xml_out.complete_upload(location="http://h/b/k", bucket="b", key=b"k", etag="e-2", checksum=checksum)
    parsed = parse("CompleteMultipartUpload", body)
    assert (parsed["ETag"], parsed["ChecksumCRC32"], parsed["ChecksumType"]) == ('"e-2"', "AAAA-2", "COMPOSITE")
    copied = parse("CopyObject", xml_out.copy_object(etag="e", modified_ms=MS))["CopyObjectResult"]
    assert copied == {"ETag": '"e"', "LastModified": WHEN}
    assert parse("UploadPartCopy", xml_out.copy_part(etag="e", modified_ms=MS))["CopyPartResult"]["ETag"] == '"e"'


def test_pitfall_39_delete_results_and_quiet():
    """Quiet leaves out what went well and keeps errors."""
    results = [
        xml_out.Deleted(key=b"a", delete_marker=True, marker_version_id="m"),
        xml_out.DeleteFailure(key=b"b<", code="AccessDenied", message="no"),
    ]
    parsed = parse("DeleteObjects", xml_out.delete_result(results, quiet=False))
    assert parsed["Deleted"] == [{"Key": "a", "DeleteMarker": True, "DeleteMarkerVersionId": "m"}]
    assert parsed["Errors"] == [{"Key": "b<", "Code": "AccessDenied", "Message": "no"}]
    quiet = parse("DeleteObjects", xml_out.delete_result(results, quiet=True))
    assert "Deleted" not in quiet
    assert len(quiet["Errors"]) == 1


def test_pitfall_49_object_attributes():
    """The ETag is bare, PartsCount is the total, parts appear only with checksums and page by number."""
    parts = tuple(part(number, Checksum("CRC32", "x=")) for number in (1, 2, 3))
    version = ObjectVersion(key=b"k", uid=b"", version_id="null", modified_ms=MS, size=27, etag="e-3", parts=parts,
                            parts_count=3, checksum=Checksum("CRC32", "y=-3", ChecksumType.COMPOSITE))  # fmt: skip
    wanted = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
    query = xml_out.AttributesQuery(wanted=wanted, after_part=1, max_parts=1)
    parsed = parse("GetObjectAttributes", xml_out.object_attributes(version, query, parts))
    assert (parsed["ETag"], parsed["ObjectSize"], parsed["Checksum"]["ChecksumCRC32"]) == ("e-3", 27, "y=-3")
    listed = parsed["ObjectParts"]
    assert (listed["TotalPartsCount"], listed["NextPartNumberMarker"], listed["IsTruncated"]) == (3, 2, True)
    assert [one["PartNumber"] for one in listed["Parts"]] == [2]
    query = xml_out.AttributesQuery(wanted=wanted, after_part=3)
    listed = parse("GetObjectAttributes", xml_out.object_attributes(version, query, ()))["ObjectParts"]
    assert (listed["PartNumberMarker"], listed["IsTruncated"], listed["TotalPartsCount"]) == (3, False, 3)
    bare = xml_out.object_attributes(version, xml_out.AttributesQuery(wanted=frozenset({"ObjectParts"})), (part(1),))
    assert parse("GetObjectAttributes", bare) == {"ObjectParts": {"TotalPartsCount": 3}}


@pytest.mark.parametrize("operation", sorted(DOCUMENTS))
def test_pitfall_58_unconfigured_documents_are_read_by_botocore(operation):
    """Every default document parses as the operation's answer and says nothing is configured."""
    status, body = unconfigured_answer(operation, owner=OWNER)
    assert status == 200
    parsed = parse(operation.value, body)
    assert parsed in ({}, {"IsTruncated": False}, {"Payer": "BucketOwner"}, {"TagSet": []}, {"Buckets": []},
                      {"AbacStatus": {"Status": "Disabled"}})  # fmt: skip


def test_pitfall_58_unconfigured_refusals_and_deletes():
    """Names AWS uses for what was never set; deletes of nothing are 204; other operations are no probes."""
    for operation, code in REFUSALS.items():
        with pytest.raises(Refused) as refused:
            unconfigured_answer(operation, owner=OWNER)
        assert refused.value.code is code
    assert {unconfigured_answer(operation, owner=OWNER) for operation in DELETES} == {(204, b"")}
    for operation in (Operation.PUT_BUCKET_POLICY, Operation.GET_OBJECT, Operation.PUT_BUCKET_ACL):
        assert unconfigured_answer(operation, owner=OWNER) is None
    acl = parse("GetBucketAcl", unconfigured_answer(Operation.GET_BUCKET_ACL, owner=OWNER)[1])
    assert acl["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert acl["Grants"][0]["Grantee"]["Type"] == "CanonicalUser"


def code_of(call, *args):
    with pytest.raises(Refused) as refused:
        call(*args)
    return refused.value.code


def test_pitfall_72_botocore_documents_are_read():
    """Delete, Complete and CreateBucketConfiguration as botocore serializes them."""
    body = serialize("DeleteObjects", Bucket="b", Delete={"Quiet": True, "Objects": [
        {"Key": "a b&<\u4e2d"}, {"Key": "k", "VersionId": "v", "ETag": '"e"', "Size": 4}]})  # fmt: skip
    request = xml_in.parse_delete(body)
    assert request.quiet
    assert request.entries[0][:2] == ("a b&<\u4e2d".encode(), "")
    assert request.entries[1] == (b"k", "v", Preconditions(if_match="e", if_match_size=4))
    body = serialize("CompleteMultipartUpload", Bucket="b", Key="k", UploadId="u", MultipartUpload={"Parts": [
        {"PartNumber": 1, "ETag": '"e1"', "ChecksumCRC32": "AAAA"}, {"PartNumber": 5, "ETag": "e5"}]})  # fmt: skip
    assert xml_in.parse_complete(body) == [(1, "e1", {"CRC32": "AAAA"}), (5, "e5", {})]
    body = serialize("CreateBucket", Bucket="b", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert xml_in.parse_create_bucket(body).location == "eu-west-1"
    assert xml_in.parse_create_bucket(b"").location == ""


def test_pitfall_72_namespaces_order_and_blanks_do_not_matter():
    """Prefixed, bare and default namespaces; any order; blanks between elements."""
    for body in (
        b"<Delete><Object><VersionId>v</VersionId><Key> k </Key></Object></Delete>",
        (
            b'<s:Delete xmlns:s="http://s3.amazonaws.com/doc/2006-03-01/">\n <s:Object>\n<s:Key> k </s:Key>'
            b"<s:VersionId>v</s:VersionId></s:Object><s:Quiet>false</s:Quiet></s:Delete>"
        ),
        b'<Delete xmlns="urn:x"><Object><Key><![CDATA[ k ]]></Key><VersionId>v</VersionId></Object></Delete>',
    ):
        assert xml_in.parse_delete(body).entries[0][:2] == (b" k ", "v")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete>",
        b"<Delete/>",
        b"<Other/>",
        b"{}",
        b"<Delete><Object><Key/></Object></Delete>",
        b"<Delete><Object><VersionId>v</VersionId></Object></Delete>",
        b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
        b"<Delete><Object><Key>a</Key><Evil/></Object></Delete>",
        b"<Delete><Object><Key>a</Key><ETag/></Object></Delete>",
        b'<Delete><Object><Key>a</Key><ETag>""</ETag></Object></Delete>',
        b"<Delete>text<Object><Key>a</Key></Object></Delete>",
        b"<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>",
        b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>",
        b"<a>" * 40 + b"</a>" * 40,
        b'<!DOCTYPE d [<!ENTITY x "y">]><Delete><Object><Key>&x;</Key></Object></Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete><Object><Key>a</Key></Object></Delete>',
        b"<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        b'<?xml version="1.0" encoding="no-such"?><Delete><Object><Key>a</Key></Object></Delete>',
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
    ],
)
def test_pitfall_17_and_39_bad_documents_are_malformed(body):
    """Wrong shape, too many, too deep, a document type or an entity: MalformedXML."""
    assert code_of(xml_in.parse_delete, body) is ErrorCode.MALFORMED_XML


def test_pitfall_17_bodies_are_capped_before_parsing():
    """A body over its limit is refused unread."""
    assert code_of(xml_in.parse_delete, b" " * (xml_in.DELETE_BODY + 1)) is ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED
    assert code_of(xml_in.parse_create_bucket, b"x" * (xml_in.SMALL_BODY + 1)) is ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED


def parts_xml(*numbers):
    rows = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>" for number in numbers)
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (parts_xml(2, 1), ErrorCode.INVALID_PART_ORDER),
        (parts_xml(1, 1), ErrorCode.INVALID_PART_ORDER),
        (parts_xml(), ErrorCode.MALFORMED_XML),
        (parts_xml(0), ErrorCode.INVALID_ARGUMENT),
        (parts_xml(10001), ErrorCode.INVALID_ARGUMENT),
        (parts_xml("x"), ErrorCode.MALFORMED_XML),
        (b"<CompleteMultipartUpload><Part><ETag>e</ETag></Part></CompleteMultipartUpload>", ErrorCode.MALFORMED_XML),
        (
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
            ErrorCode.MALFORMED_XML,
        ),
        (
            parts_xml(1).replace(b"</Part>", b"<ChecksumCRC32>a</ChecksumCRC32><ChecksumSHA1>b</ChecksumSHA1></Part>"),
            ErrorCode.INVALID_ARGUMENT,
        ),
        (b"", ErrorCode.MALFORMED_XML),
    ],
)
def test_pitfall_45_complete_wants_ascending_parts(body, code):
    """Order, range and presence of part numbers, an ETag and at most one checksum each."""
    assert code_of(xml_in.parse_complete, body) is code
    assert len(xml_in.parse_complete(parts_xml(*range(1, 10_001)))) == 10_000


def test_locations_outside_the_region_are_refused():
    """A bucket is made in this cell's region or not at all; directory buckets are not offered."""
    xml_in.check_location("", "us-east-1")
    xml_in.check_location("us-east-1", "us-east-1")
    assert code_of(xml_in.check_location, "eu-west-1", "us-east-1") is ErrorCode.ILLEGAL_LOCATION_CONSTRAINT
    body = b"<CreateBucketConfiguration><Bucket><Type>Directory</Type></Bucket></CreateBucketConfiguration>"
    assert code_of(xml_in.parse_create_bucket, body) is ErrorCode.NOT_IMPLEMENTED


FRAGMENTS = st.sampled_from(
    [b"<Delete>", b"</Delete>", b"<Object>", b"</Object>", b"<Key>", b"</Key>", b"a", b"&amp;", b"&#0;", b"<!--x-->",
     b"<![CDATA[", b"]]>", b"<?x?>", b'<!DOCTYPE a [<!ENTITY b "c">]>', b"&b;", b"<a b='c'/>", b"\xff", b"\0"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(FRAGMENTS, max_size=30).map(b"".join)))
def test_no_document_does_worse_than_being_refused(body):
    """Arbitrary bytes end in a result or in Refused, never in another exception."""
    for parser in (xml_in.parse_delete, xml_in.parse_complete, xml_in.parse_create_bucket):
        try:
            parser(body)
        except Refused:
            continue


def test_a_tag_of_megabytes_is_refused_before_its_attributes_are_built():
    """Expat makes all attributes of a tag at once; half a million of them must not be built."""
    attributes = b" ".join(b'a%d=""' % number for number in range(500_000))
    for document in (b"<Delete " + attributes + b"/>", b"<Delete><!--" + b"x" * 5_000_000 + b"--></Delete>"):
        tracemalloc.start()
        with pytest.raises(Refused) as refused:
            xml_in.parse_delete(document)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert refused.value.code is ErrorCode.MALFORMED_XML
        assert peak < 2_000_000
    keys = b"".join(b"<Object><Key>%s</Key></Object>" % (b"&#x41;" * 1024) for _ in range(1000))
    request = xml_in.parse_delete(b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' + keys + b"</Delete>")
    assert [entry.key for entry in request.entries] == [b"A" * 1024] * 1000
