# SPDX-License-Identifier: Apache-2.0
"""Messages with one long field of bytes, which never passes through a message object.

On the wire they are the protobuf messages of the contract, whoever made them; here the long field is joined to the others' bytes
once when it goes out, and is a view of what came in. A parsed message costs about 3 ms of CPU a MiB and hop more.

Invariants
  B1  What is encoded here any protobuf decoder reads, and the other way round, in any order of fields; the last of several
      occurrences counts (protobuf encoding, "Last One Wins").
  B2  What cannot be read raises DecodeError, as a message's own parser does.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from drystone_core.ports import Buffer

_VARINT, _FIXED64, _COUNTED, _FIXED32 = 0, 1, 2, 5
_SIZES = MappingProxyType({_FIXED64: 8, _FIXED32: 4})
_NONE: Mapping[str, str] = MappingProxyType({})
M = TypeVar("M", bound=Message)


class Bulk(NamedTuple, Generic[M]):
    """A message, and the long field it is without."""

    message: M
    payload: Sequence[Buffer]
    """Joined they are the field. What came in is one view, valid as long as it is held."""


class BulkField(Generic[M]):
    """The long field of one kind of message."""

    def __init__(self, kind: type[M], field: str) -> None:
        """`field`: of type `bytes`, not repeated."""
        self._parse = kind.FromString
        self._number: int = kind.DESCRIPTOR.fields_by_name[field].number
        self._tag = _varint(self._number << 3 | _COUNTED)

    def encode(self, value: Bulk[M]) -> bytes:
        """One copy of the payload; the long field comes last."""
        length = sum(map(len, value.payload))
        return b"".join((value.message.SerializeToString(), self._tag, _varint(length), *value.payload))

    def decode(self, raw: bytes) -> Bulk[M]:
        """No copy of the payload. Raises DecodeError."""
        rest: list[bytes] = []
        payload, kept = memoryview(b""), 0
        for number, begin, start, end in _fields(raw):
            if number == self._number:
                if start < 0:
                    raise DecodeError("the long field is not one of bytes")
                rest.append(raw[kept:begin])
                payload, kept = memoryview(raw)[start:end], end
        rest.append(raw[kept:])
        return Bulk(self._parse(b"".join(rest)), (payload,))


class BulkMethods:
    """The methods of a service whose requests or answers are Bulk, at both ends."""

    def __init__(
        self, service: ServiceDescriptor, *, requests: Mapping[str, str] = _NONE, answers: Mapping[str, str] = _NONE
    ) -> None:
        """`requests`, `answers`: method → the long field of its message. All methods take one request."""
        self._service = service
        methods = service.methods_by_name
        self._requests = {
            name: BulkField(GetMessageClass(methods[name].input_type), field) for name, field in requests.items()
        }
        self._answers = {
            name: BulkField(GetMessageClass(methods[name].output_type), field) for name, field in answers.items()
        }

    def at_client(self, stub: Any, channel: Any) -> Any:
        """The stub, which was made from the channel; its bulk methods take and give Bulk now."""
        for name in self._requests.keys() | self._answers.keys():
            method = self._service.methods_by_name[name]
            asked, told = self._requests.get(name), self._answers.get(name)
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{self._service.full_name}/{name}",
                request_serializer=asked.encode if asked else GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=told.decode if told else GetMessageClass(method.output_type).FromString,
                _registered_method=True,
            )
            setattr(stub, name, call)
        return stub

    def at_server(self, server: grpc.aio.Server) -> Any:
        """What the generated code may add its handlers to: those of bulk methods get and give Bulk."""
        return _Server(self, server)

    def handlers(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """The generated handlers with the forms of bulk methods."""
        found = dict(plain)
        for name, field in self._requests.items():
            found[name] = found[name]._replace(request_deserializer=field.decode)
        for name, field in self._answers.items():
            found[name] = found[name]._replace(response_serializer=field.encode)
        return found


class _Server:
    """A server as generated code sees it. It adds the same handlers in two forms; the table of methods is the one it needs."""

    def __init__(self, bulk: BulkMethods, server: grpc.aio.Server) -> None:
        self._bulk, self._server = bulk, server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """They come again, as a table."""

    def add_registered_method_handlers(self, service: str, plain: Mapping[str, Any]) -> None:
        found = self._bulk.handlers(plain)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, found),))
        self._server.add_registered_method_handlers(service, found)


def _fields(raw: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, begin of the tag, start of what is counted (-1: it is not), end, of each field. Raises DecodeError."""
    at, size = 0, len(raw)
    while at < size:
        begin = at
        tag, at = _read_varint(raw, at)
        kind, start = tag & 7, -1
        if kind == _COUNTED:
            length, at = _read_varint(raw, at)
            start, at = at, at + length
        elif kind == _VARINT:
            _, at = _read_varint(raw, at)
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:
            raise DecodeError("a field of a kind that is not used here")
        if at > size:
            raise DecodeError("the message is cut off")
        yield tag >> 3, begin, start, at


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(raw) and shift < 70:
        byte = raw[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise DecodeError("a number is cut off")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
