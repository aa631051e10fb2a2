# SPDX-License-Identifier: Apache-2.0
"""XML that clients send, parsed by expat into a small bounded tree, then read strictly.

Invariants
  N1  A document type, an entity declaration or a reference to anything external is refused (XXE, billion laughs).
  N2  Size is checked before parsing; depth, number of elements and length of a tag while parsing.
  N3  Elements in any order, with or without namespace or prefix; unknown or repeated ones are MalformedXML.
Source: s3-surface §5 #17, #39, #45, #70, #72; reliability §5.1 (XML).
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

from drystone_core.errors import ErrorCode, Refused
from drystone_core.mutations import NO_CONDITIONS, Preconditions
from drystone_gateway.s3.checksums import ALGORITHMS
from drystone_gateway.s3.conditions import parse_match_modified, parse_match_size, plain_etag

SMALL_BODY = 64 * 1024
"""Limit of configuration documents, bytes."""
DELETE_BODY = 8 * 1024 * 1024
"""1,000 keys of 1,024 bytes, each byte perhaps a reference of six characters, and the elements around them."""
COMPLETE_BODY = 4 * 1024 * 1024
"""10,000 parts."""
DEPTH_LIMIT = 32
ELEMENT_LIMIT = 100_000
_SLICE = 64 * 1024
_TOKEN_LIMIT = 4 * _SLICE
"""Bytes of one tag or comment that is not complete: expat builds all attributes of a tag before anybody can refuse."""
DELETE_LIMIT = 1000
PARTS_LIMIT = 10_000

_CHECKSUM_ELEMENTS = {algorithm.element: name for name, algorithm in ALGORITHMS.items()}
_PART_ELEMENTS = frozenset({"PartNumber", "ETag", *_CHECKSUM_ELEMENTS})
_OBJECT_ELEMENTS = frozenset({"Key", "VersionId", "ETag", "Size", "LastModifiedTime"})


class Element:
    """One element: local name, its text when it has no children, its children."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []


class DeleteEntry(NamedTuple):
    """One object of a DeleteObjects request."""

    key: bytes
    version_id: str
    """As sent; empty when none was."""
    conditions: Preconditions


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """A DeleteObjects request of 1 … 1000 objects."""

    entries: list[DeleteEntry]
    quiet: bool


class SentPart(NamedTuple):
    """One part of a CompleteMultipartUpload request."""

    number: int
    etag: str
    """Without quotes."""
    checksums: dict[str, str]
    """Algorithm → base64 value; one at most."""


@dataclass(frozen=True, slots=True)
class BucketConfiguration:
    """CreateBucketConfiguration; all defaults for an empty body."""

    location: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def parse_xml(body: bytes, *, root: str, limit: int = SMALL_BODY) -> Element:
    """The tree under `root`; MalformedXML for anything else, MaxMessageLengthExceeded beyond `limit` bytes."""
    if len(body) > limit:
        raise Refused(ErrorCode.MAX_MESSAGE_LENGTH_EXCEEDED, MaxMessageLengthBytes=str(limit))
    top = _TreeBuilder().parse(body)
    if top.name != root:
        raise malformed()
    return top


class _TreeBuilder:
    """Collects expat's events."""

    def __init__(self) -> None:
        self._stack: list[Element] = []
        self._top: Element | None = None
        self._count = 0
        self._text: list[str] = []

    def parse(self, body: bytes) -> Element:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse
        try:
            for at in range(0, len(body), _SLICE):
                parser.Parse(body[at : at + _SLICE], False)
                if at + _SLICE - parser.CurrentByteIndex > _TOKEN_LIMIT:
                    raise malformed()
            parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise malformed() from error
        if self._top is None:
            raise malformed()
        return self._top

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENT_LIMIT or len(self._stack) >= DEPTH_LIMIT:
            raise malformed()
        element = Element(name.rpartition(":")[2])
        if self._stack:
            self._leave_text(self._stack[-1])
            self._stack[-1].children.append(element)
        else:
            self._top = element
        self._text.clear()
        self._stack.append(element)

    def _end(self, name: str) -> None:
        element = self._stack.pop()
        if element.children:
            self._leave_text(element)
        else:
            element.text = "".join(self._text)
        self._text.clear()

    def _leave_text(self, element: Element) -> None:
        """Text beside child elements may only be blanks."""
        if self._text and "".join(self._text).strip():
            raise malformed()


def _refuse(*_: object) -> int:
    raise malformed()


def malformed() -> Refused:
    """MalformedXML with S3's usual text."""
    return Refused(ErrorCode.MALFORMED_XML)


def fields_of(element: Element, allowed: Collection[str]) -> dict[str, Element]:
    """Children by name, each at most once and of the allowed names."""
    if element.text and not element.text.isspace():
        raise malformed()
    found: dict[str, Element] = {}
    for child in element.children:
        if child.name not in allowed or child.name in found:
            raise malformed()
        found[child.name] = child
    return found


def parse_create_bucket(body: bytes) -> BucketConfiguration:
    """CreateBucketConfiguration; an empty body is legal. NotImplemented for directory buckets."""
    if not body.strip():
        return BucketConfiguration()
    found = fields_of(
        parse_xml(body, root="CreateBucketConfiguration"), ("LocationConstraint", "Location", "Bucket", "Tags")
    )
    if "Location" in found or "Bucket" in found:
        raise Refused(ErrorCode.NOT_IMPLEMENTED, "Directory buckets are not offered.")
    tags: dict[str, str] = {}
    if "Tags" in found:
        for tag in found["Tags"].children:
            pair = fields_of(tag, ("Key", "Value"))
            if tag.name != "Tag" or pair.keys() != {"Key", "Value"} or pair["Key"].text in tags:
                raise malformed()
            tags[pair["Key"].text] = pair["Value"].text
    location = found["LocationConstraint"].text.strip() if "LocationConstraint" in found else ""
    return BucketConfiguration(location, tags)


def check_location(location: str, region: str) -> None:
    """IllegalLocationConstraintException unless a bucket of `location` may be made in a cell of `region`."""
    if location not in ("", region):
        raise Refused(
            ErrorCode.ILLEGAL_LOCATION_CONSTRAINT,
            f"The {location} location constraint is incompatible for the region specific endpoint this request was sent"
            " to.",
        )


def parse_delete(body: bytes) -> DeleteRequest:
    """Delete, 1 … 1000 objects, else MalformedXML (#39)."""
    quiet = False
    entries: list[DeleteEntry] = []
    for child in parse_xml(body, root="Delete", limit=DELETE_BODY).children:
        if child.name == "Quiet" and not child.children:
            quiet = _boolean(child.text)
        elif child.name == "Object":
            entries.append(_delete_entry(child))
        else:
            raise malformed()
    if not 1 <= len(entries) <= DELETE_LIMIT:
        raise malformed()
    return DeleteRequest(entries, quiet)


def _delete_entry(element: Element) -> DeleteEntry:
    key = version_id = ""
    found = fields_of(element, _OBJECT_ELEMENTS)
    if "Key" in found:
        key = found["Key"].text
    if not key:
        raise malformed()
    if "VersionId" in found:
        version_id = found["VersionId"].text.strip()
    conditions = NO_CONDITIONS
    if len(found) > 1 and not found.keys() <= {"Key", "VersionId"}:
        etag = plain_etag(found["ETag"].text) if "ETag" in found else ""
        if "ETag" in found and not etag:
            raise malformed()  # it would mean no condition at all
        conditions = Preconditions(
            if_match=etag,
            if_match_size=parse_match_size(found["Size"].text.strip()) if "Size" in found else None,
            if_match_modified_ms=(
                parse_match_modified(found["LastModifiedTime"].text.strip()) if "LastModifiedTime" in found else None
            ),
        )
    return DeleteEntry(key.encode("utf-8"), version_id, conditions)


def parse_complete(body: bytes) -> list[SentPart]:
    """CompleteMultipartUpload: 1 … 10,000 parts in ascending order (MalformedXML, InvalidPartOrder; #45)."""
    parts: list[SentPart] = []
    last = 0
    for child in parse_xml(body, root="CompleteMultipartUpload", limit=COMPLETE_BODY).children:
        if child.name != "Part":
            raise malformed()
        part = _sent_part(child)
        if part.number <= last:
            raise Refused(ErrorCode.INVALID_PART_ORDER)
        last = part.number
        parts.append(part)
    if not 1 <= len(parts) <= PARTS_LIMIT:
        raise malformed()
    return parts


def _sent_part(element: Element) -> SentPart:
    found = fields_of(element, _PART_ELEMENTS)
    number = found["PartNumber"].text.strip() if "PartNumber" in found else ""
    if not (number.isascii() and number.isdecimal()) or len(number) > 9:
        raise malformed()
    if not 1 <= int(number) <= PARTS_LIMIT:
        raise Refused(
            ErrorCode.INVALID_ARGUMENT,
            "PartNumber must be >= 1 and <= 10000",
            ArgumentName="partNumber",
            ArgumentValue=number,
        )
    etag = plain_etag(found["ETag"].text) if "ETag" in found else ""
    if not etag:
        raise malformed()
    checksums = {
        algorithm: found[element_name].text.strip()
        for element_name, algorithm in _CHECKSUM_ELEMENTS.items()
        if element_name in found
    }
    if len(checksums) > 1:
        raise Refused(ErrorCode.INVALID_ARGUMENT, "A part has one checksum.", PartNumber=number)
    return SentPart(int(number), etag, checksums)


def _boolean(text: str) -> bool:
    match text.strip().lower():
        case "true" | "1":
            return True
        case "false" | "0" | "":
            return False
    raise malformed()
