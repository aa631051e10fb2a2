# SPDX-License-Identifier: Apache-2.0
"""The XML documents S3 answers with, built by f-strings: one pass, no tree.

Invariants
  X1  Every text from outside goes through `xml_text` (or is percent-encoded first, with encoding-type=url).
  X2  All documents are in the S3 namespace; only Error (see `errors`) has none.
Sizes: a page of 1,000 objects costs about 1 ms. Source: S3 API reference; s3-surface §5 #23, #24, #58 to #67, #71, #72.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from drystone_core.listing import ListedObject, ObjectPage, PartPage, UploadPage, VersionPage
from drystone_core.objects import Bucket, Checksum, ObjectVersion, Part
from drystone_gateway.s3.amz_time import iso_date
from drystone_gateway.s3.escape import uri_encode, xml_text
from drystone_gateway.s3.listing import (
    ListBucketsQuery,
    ListObjectsQuery,
    ListPartsQuery,
    ListUploadsQuery,
    ListVersionsQuery,
)

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'
CONTENT_TYPE = b"Content-Type: application/xml\r\n"

_ORDINARY = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/"
"""Bytes that are themselves in XML and in percent encoding."""

_Namer = Callable[[bytes], str]


def document(root: str, content: str) -> bytes:
    """A whole document; `content` is XML already."""
    return f'{PROLOG}<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()


def _plain(raw: bytes) -> str:
    return xml_text(raw.decode("utf-8", "replace"))


def _url(raw: bytes) -> str:
    return uri_encode(raw, keep_slash=True)


def _namer(encode_url: bool) -> _Namer:
    return _url if encode_url else _plain


class _Dates:
    """ISO dates; the days and seconds of a page are each computed once."""

    __slots__ = ("_days", "_seconds")

    def __init__(self) -> None:
        self._days: dict[int, str] = {}
        self._seconds: dict[int, str] = {}

    def __call__(self, ms: int) -> str:
        seconds = ms // 1000
        text = self._seconds.get(seconds)
        if text is None:
            days, rest = divmod(seconds, 86400)
            day = self._days.get(days)
            if day is None:
                day = self._days[days] = iso_date(days * 86400)[:11]
            minutes, second = divmod(rest, 60)
            text = self._seconds[seconds] = f"{day}{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.000Z"
        return text


def _names(keys: list[bytes], namer: _Namer) -> list[str]:
    """All keys of a page as text; when none holds a character that needs care (as is usual) they are just decoded."""
    if not b"".join(keys).translate(None, _ORDINARY):
        return [key.decode("ascii") for key in keys]
    return [namer(key) for key in keys]


def owner_xml(account: str, tag: str = "Owner") -> str:
    """An owner (or initiator): the account id is id and display name."""
    name = xml_text(account)
    return f"<{tag}><ID>{name}</ID><DisplayName>{name}</DisplayName></{tag}>"


def list_buckets(buckets: Iterable[Bucket], *, owner: str, query: ListBucketsQuery, next_token: str = "") -> bytes:
    """ListAllMyBucketsResult."""
    rows = "".join(
        f"<Bucket><Name>{xml_text(bucket.name)}</Name>"
        f"<CreationDate>{iso_date(bucket.created_ms // 1000)}</CreationDate>"
        + (f"<BucketRegion>{xml_text(bucket.region)}</BucketRegion>" if query.paged or query.prefix else "")
        + "</Bucket>"
        for bucket in buckets
    )
    token = f"<ContinuationToken>{xml_text(next_token)}</ContinuationToken>" if next_token else ""
    prefix = f"<Prefix>{xml_text(query.prefix)}</Prefix>" if query.prefix else ""
    return document("ListAllMyBucketsResult", f"{owner_xml(owner)}<Buckets>{rows}</Buckets>{token}{prefix}")


def location_constraint(region: str) -> bytes:
    """LocationConstraint: the region is the root's text, empty for us-east-1 (#71)."""
    return document("LocationConstraint", "" if region == "us-east-1" else xml_text(region))


def _common_prefixes(prefixes: Iterable[bytes], namer: _Namer) -> str:
    return "".join([f"<CommonPrefixes><Prefix>{namer(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes])


def _contents(rows: Sequence[ListedObject], namer: _Namer, owner: str) -> str:
    dates = _Dates()
    pieces = []
    names = _names([row[0] for row in rows], namer)
    for name, (_, size, etag, modified_ms, storage_class, algorithm, kind) in zip(names, rows, strict=True):
        checksum = ""
        if algorithm:
            checksum = f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"
        pieces.append(
            f"<Contents><Key>{name}</Key><LastModified>{dates(modified_ms)}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag>{checksum}<Size>{size}</Size>{owner}"
            f"<StorageClass>{storage_class}</StorageClass></Contents>"
        )
    return "".join(pieces)


def _page_head(bucket: str, query: ListObjectsQuery, namer: _Namer) -> str:
    delimiter = f"<Delimiter>{namer(query.delimiter)}</Delimiter>" if query.delimiter else ""
    encoding = "<EncodingType>url</EncodingType>" if query.encode_url else ""
    return (
        f"<Name>{xml_text(bucket)}</Name><Prefix>{namer(query.prefix)}</Prefix>{delimiter}"
        f"<MaxKeys>{query.limit}</MaxKeys>{encoding}"
    )


def list_objects_v1(page: ObjectPage, *, bucket: str, owner: str, query: ListObjectsQuery) -> bytes:
    """ListBucketResult of ListObjects; NextMarker only with a delimiter (#61)."""
    namer = _namer(query.encode_url)
    next_marker = ""
    if page.truncated and query.delimiter:
        next_marker = f"<NextMarker>{namer(page.next_after)}</NextMarker>"
    return document(
        "ListBucketResult",
        f"{_page_head(bucket, query, namer)}<Marker>{namer(query.marker)}</Marker>{next_marker}"
        f"<IsTruncated>{_bool(page.truncated)}</IsTruncated>"
        f"{_contents(page.objects, namer, owner_xml(owner))}{_common_prefixes(page.common_prefixes, namer)}",
    )


def list_objects_v2(
    page: ObjectPage, *, bucket: str, owner: str, query: ListObjectsQuery, next_token: str = ""
) -> bytes:
    """ListBucketResult of ListObjectsV2; KeyCount includes prefixes, owners only when asked for (#61, #62)."""
    namer = _namer(query.encode_url)
    token = f"<ContinuationToken>{xml_text(query.token)}</ContinuationToken>" if query.token else ""
    following = ""
    if page.truncated:
        following = f"<NextContinuationToken>{xml_text(next_token)}</NextContinuationToken>"
    start_after = f"<StartAfter>{namer(query.start_after)}</StartAfter>" if query.start_after else ""
    return document(
        "ListBucketResult",
        f"{_page_head(bucket, query, namer)}{token}{following}{start_after}"
        f"<KeyCount>{len(page.objects) + len(page.common_prefixes)}</KeyCount>"
        f"<IsTruncated>{_bool(page.truncated)}</IsTruncated>"
        f"{_contents(page.objects, namer, owner_xml(owner) if query.fetch_owner else '')}"
        f"{_common_prefixes(page.common_prefixes, namer)}",
    )


def list_versions(page: VersionPage, *, bucket: str, owner: str, query: ListVersionsQuery) -> bytes:
    """ListVersionsResult: versions and markers interleaved in one stream (#56)."""
    namer = _namer(query.encode_url)
    dates = _Dates()
    owner_text = owner_xml(owner)
    pieces = []
    for row in page.versions:
        common = (
            f"<Key>{namer(row.key)}</Key><VersionId>{row.version_id}</VersionId>"
            f"<IsLatest>{_bool(row.is_latest)}</IsLatest><LastModified>{dates(row.modified_ms)}</LastModified>"
        )
        if row.delete_marker:
            pieces.append(f"<DeleteMarker>{common}{owner_text}</DeleteMarker>")
            continue
        checksum = ""
        if row.checksum_algorithm:
            checksum = (
                f"<ChecksumAlgorithm>{row.checksum_algorithm}</ChecksumAlgorithm>"
                f"<ChecksumType>{row.checksum_type}</ChecksumType>"
            )
        pieces.append(
            f"<Version>{common}<ETag>&quot;{row.etag}&quot;</ETag>{checksum}<Size>{row.size}</Size>{owner_text}"
            f"<StorageClass>{row.storage_class}</StorageClass></Version>"
        )
    following = ""
    if page.truncated:
        following = (
            f"<NextKeyMarker>{namer(page.next_key)}</NextKeyMarker>"
            f"<NextVersionIdMarker>{xml_text(page.next_version)}</NextVersionIdMarker>"
        )
    delimiter = f"<Delimiter>{namer(query.delimiter)}</Delimiter>" if query.delimiter else ""
    return document(
        "ListVersionsResult",
        f"<Name>{xml_text(bucket)}</Name><Prefix>{namer(query.prefix)}</Prefix>"
        f"<KeyMarker>{namer(query.key_marker)}</KeyMarker><VersionIdMarker>{xml_text(query.version_marker)}"
        f"</VersionIdMarker>{following}{delimiter}<MaxKeys>{query.limit}</MaxKeys>"
        f"{'<EncodingType>url</EncodingType>' if query.encode_url else ''}"
        f"<IsTruncated>{_bool(page.truncated)}</IsTruncated>{''.join(pieces)}"
        f"{_common_prefixes(page.common_prefixes, namer)}",
    )


def list_uploads(page: UploadPage, *, bucket: str, query: ListUploadsQuery) -> bytes:
    """ListMultipartUploadsResult."""
    namer = _namer(query.encode_url)
    dates = _Dates()
    rows = "".join(
        f"<Upload><Key>{namer(upload.key)}</Key><UploadId>{upload.upload_id}</UploadId>"
        f"{owner_xml(upload.owner, 'Initiator')}{owner_xml(upload.owner)}"
        f"<StorageClass>{upload.storage_class}</StorageClass><Initiated>{dates(upload.initiated_ms)}</Initiated>"
        + (
            f"<ChecksumAlgorithm>{upload.checksum_algorithm}</ChecksumAlgorithm>"
            f"<ChecksumType>{upload.checksum_type}</ChecksumType>"
            if upload.checksum_algorithm
            else ""
        )
        + "</Upload>"
        for upload in page.uploads
    )
    following = ""
    if page.truncated:
        following = (
            f"<NextKeyMarker>{namer(page.next_key)}</NextKeyMarker>"
            f"<NextUploadIdMarker>{page.next_upload or ''}</NextUploadIdMarker>"
        )
    delimiter = f"<Delimiter>{namer(query.delimiter)}</Delimiter>" if query.delimiter else ""
    return document(
        "ListMultipartUploadsResult",
        f"<Bucket>{xml_text(bucket)}</Bucket><KeyMarker>{namer(query.key_marker)}</KeyMarker>"
        f"<UploadIdMarker>{xml_text(query.upload_marker)}</UploadIdMarker>{following}"
        f"<Prefix>{namer(query.prefix)}</Prefix>{delimiter}<MaxUploads>{query.limit}</MaxUploads>"
        f"{'<EncodingType>url</EncodingType>' if query.encode_url else ''}"
        f"<IsTruncated>{_bool(page.truncated)}</IsTruncated>{rows}{_common_prefixes(page.common_prefixes, namer)}",
    )


def list_parts(page: PartPage, *, bucket: str, query: ListPartsQuery) -> bytes:
    """ListPartsResult."""
    upload = page.upload
    dates = _Dates()
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{dates(part.modified_ms)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size>{checksum_xml(part.checksum, typed=False)}</Part>"
        for part in page.parts
    )
    following = f"<NextPartNumberMarker>{page.next_part}</NextPartNumberMarker>" if page.truncated else ""
    algorithm = ""
    if upload.checksum_algorithm:
        algorithm = (
            f"<ChecksumAlgorithm>{upload.checksum_algorithm}</ChecksumAlgorithm>"
            f"<ChecksumType>{upload.checksum_type}</ChecksumType>"
        )
    return document(
        "ListPartsResult",
        f"<Bucket>{xml_text(bucket)}</Bucket><Key>{_namer(query.encode_url)(upload.key)}</Key>"
        f"<UploadId>{upload.upload_id}</UploadId>{owner_xml(upload.owner, 'Initiator')}{owner_xml(upload.owner)}"
        f"<StorageClass>{upload.storage_class}</StorageClass>{algorithm}"
        f"<PartNumberMarker>{query.after}</PartNumberMarker>{following}<MaxParts>{query.limit}</MaxParts>"
        f"{'<EncodingType>url</EncodingType>' if query.encode_url else ''}"
        f"<IsTruncated>{_bool(page.truncated)}</IsTruncated>{rows}",
    )


def checksum_xml(checksum: Checksum | None, *, typed: bool = True) -> str:
    """`<ChecksumCRC32>…</ChecksumCRC32>` (and its type), empty for none."""
    if checksum is None:
        return ""
    element = f"<Checksum{checksum.algorithm}>{xml_text(checksum.value)}</Checksum{checksum.algorithm}>"
    return f"{element}<ChecksumType>{checksum.type.value}</ChecksumType>" if typed else element


def initiate_upload(*, bucket: str, key: bytes, upload_id: str) -> bytes:
    """InitiateMultipartUploadResult."""
    return document(
        "InitiateMultipartUploadResult",
        f"<Bucket>{xml_text(bucket)}</Bucket><Key>{_plain(key)}</Key><UploadId>{xml_text(upload_id)}</UploadId>",
    )


def complete_upload(*, location: str, bucket: str, key: bytes, etag: str, checksum: Checksum | None = None) -> bytes:
    """CompleteMultipartUploadResult."""
    return document(
        "CompleteMultipartUploadResult",
        f"<Location>{xml_text(location)}</Location><Bucket>{xml_text(bucket)}</Bucket><Key>{_plain(key)}</Key>"
        f"<ETag>&quot;{etag}&quot;</ETag>{checksum_xml(checksum)}",
    )


def copy_object(*, etag: str, modified_ms: int, checksum: Checksum | None = None) -> bytes:
    """CopyObjectResult."""
    return document("CopyObjectResult", _copied(etag, modified_ms, checksum, typed=True))


def copy_part(*, etag: str, modified_ms: int, checksum: Checksum | None = None) -> bytes:
    """CopyPartResult."""
    return document("CopyPartResult", _copied(etag, modified_ms, checksum, typed=False))


def _copied(etag: str, modified_ms: int, checksum: Checksum | None, *, typed: bool) -> str:
    return (
        f"<LastModified>{iso_date(modified_ms // 1000)}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
        f"{checksum_xml(checksum, typed=typed)}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """One key of a DeleteObjects answer that is gone."""

    key: bytes
    version_id: str = ""
    """As asked for."""
    delete_marker: bool = False
    marker_version_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteFailure:
    """One key of a DeleteObjects answer that was refused."""

    key: bytes
    version_id: str = ""
    code: str
    message: str


def delete_result(results: Iterable[Deleted | DeleteFailure], *, quiet: bool) -> bytes:
    """DeleteResult; quiet leaves out what went well (#39)."""
    pieces = []
    for result in results:
        version = f"<VersionId>{xml_text(result.version_id)}</VersionId>" if result.version_id else ""
        if isinstance(result, DeleteFailure):
            pieces.append(
                f"<Error><Key>{_plain(result.key)}</Key>{version}<Code>{xml_text(result.code)}</Code>"
                f"<Message>{xml_text(result.message)}</Message></Error>"
            )
        elif not quiet:
            marker = "<DeleteMarker>true</DeleteMarker>" if result.delete_marker else ""
            if result.marker_version_id:
                marker += f"<DeleteMarkerVersionId>{xml_text(result.marker_version_id)}</DeleteMarkerVersionId>"
            pieces.append(f"<Deleted><Key>{_plain(result.key)}</Key>{version}{marker}</Deleted>")
    return document("DeleteResult", "".join(pieces))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesQuery:
    """What GetObjectAttributes asks for."""

    wanted: frozenset[str]
    """Of ETag, Checksum, ObjectParts, StorageClass, ObjectSize."""
    after_part: int = 0
    max_parts: int = 1000


def object_attributes(version: ObjectVersion, query: AttributesQuery, parts: Sequence[Part] = ()) -> bytes:
    """GetObjectAttributesResponse (#49): the ETag is not quoted; parts are listed only when they have checksums."""
    wanted = query.wanted
    pieces = []
    if "ETag" in wanted:
        pieces.append(f"<ETag>{version.etag}</ETag>")
    if "Checksum" in wanted and version.checksum is not None:
        pieces.append(f"<Checksum>{checksum_xml(version.checksum)}</Checksum>")
    if "ObjectParts" in wanted and version.parts_count:
        pieces.append(_object_parts(version.parts_count, query, parts))
    if "StorageClass" in wanted:
        pieces.append(f"<StorageClass>{version.storage_class}</StorageClass>")
    if "ObjectSize" in wanted:
        pieces.append(f"<ObjectSize>{version.size}</ObjectSize>")
    return document("GetObjectAttributesResponse", "".join(pieces))


def _object_parts(count: int, query: AttributesQuery, parts: Sequence[Part]) -> str:
    summed = [part for part in parts if part.checksum is not None and part.number > query.after_part]
    shown = summed[: query.max_parts]
    if parts and not any(part.checksum for part in parts):
        return f"<ObjectParts><PartsCount>{count}</PartsCount></ObjectParts>"
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><Size>{part.size}</Size>"
        f"{checksum_xml(part.checksum, typed=False)}</Part>"
        for part in shown
    )
    last = shown[-1].number if shown else 0
    return (
        f"<ObjectParts><PartsCount>{count}</PartsCount><PartNumberMarker>{query.after_part}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker><MaxParts>{query.max_parts}</MaxParts>"
        f"<IsTruncated>{_bool(len(summed) > len(shown))}</IsTruncated>{rows}</ObjectParts>"
    )


def _bool(value: bool) -> str:
    return "true" if value else "false"
