# SPDX-License-Identifier: Apache-2.0
"""Every gRPC method there is, from the descriptors, and live servers of them that only remember who reached a handler."""

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import drystone
from drystone_core.ports import Entropy
from drystone_runtime.rpc.server import RpcService


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcMethod:
    """One method of one contract."""

    service: str
    name: str
    request: type[Message]
    answer: type[Message]
    streams_requests: bool
    streams_answers: bool

    @property
    def path(self) -> str:
        """As it stands on the wire."""
        return f"/{self.service}/{self.name}"

    def __str__(self) -> str:
        return self.path

    async def call(self, channel: grpc.aio.Channel, request: Message | bytes, *, timeout: float = 10.0) -> None:
        """Call it and take all answers; bytes are sent as they are."""
        form = ("stream" if self.streams_requests else "unary") + ("_stream" if self.streams_answers else "_unary")
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        multicallable = getattr(channel, form)(self.path)
        sent = iter((raw,)) if self.streams_requests else raw
        if self.streams_answers:
            async for _ in multicallable(sent, timeout=timeout):
                pass
        else:
            await multicallable(sent, timeout=timeout)


def contract_methods() -> list[RpcMethod]:
    """Of all our contracts, also those that nobody serves."""
    found: list[RpcMethod] = []
    for root in map(Path, drystone.__path__):
        for file in sorted(root.rglob("*_pb2.py")):
            module = ".".join(("drystone", *file.relative_to(root).with_suffix("").parts))
            for service in importlib.import_module(module).DESCRIPTOR.services_by_name.values():
                found += _methods(service)
    return found


def borrowed_methods() -> list[RpcMethod]:
    """Of gRPC's own services, which every server of ours serves."""
    found: list[RpcMethod] = []
    for module in (health_pb2, reflection_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            found += _methods(service)
    return found


def _methods(service: Any) -> Iterable[RpcMethod]:
    for method in service.methods:
        yield RpcMethod(
            service=service.full_name,
            name=method.name,
            request=message_factory.GetMessageClass(method.input_type),
            answer=message_factory.GetMessageClass(method.output_type),
            streams_requests=method.client_streaming,
            streams_answers=method.server_streaming,
        )


def any_message(kind: type[Message], entropy: Entropy, *, depth: int = 2) -> Message:
    """A message with every field set to something."""
    message = kind()
    for what in kind.DESCRIPTOR.fields:
        if what.message_type is not None and (depth == 0 or what.message_type.GetOptions().map_entry):
            continue
        values = [_value(what, entropy, depth) for _ in range(2 if what.is_repeated else 1)]
        if what.is_repeated:
            target = getattr(message, what.name)
            target.extend(values)
        elif what.message_type is not None:
            getattr(message, what.name).CopyFrom(values[0])
        else:
            setattr(message, what.name, values[0])
    return message


def _value(what: Any, entropy: Entropy, depth: int) -> Any:
    if what.message_type is not None:
        descriptor: Descriptor = what.message_type
        return any_message(message_factory.GetMessageClass(descriptor), entropy, depth=depth - 1)
    number = int(entropy.uniform(1, 100))
    if what.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return entropy.token(8) if what.type == FieldDescriptor.TYPE_BYTES else entropy.token(4).hex()
    if what.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if what.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return what.enum_type.values[-1].number
    return number


@dataclass
class Recorder:
    """Servicers of any methods, whose handlers remember that they ran."""

    reached: list[str] = field(default_factory=list)
    before: Callable[[str, Any], Awaitable[None]] | None = None
    """Runs inside each handler, with its path and context."""

    def services(self, methods: Iterable[RpcMethod]) -> list[RpcService]:
        """One RpcService per contract."""
        by_service: dict[str, dict[str, Any]] = {}
        for method in methods:
            by_service.setdefault(method.service, {})[method.name] = self._handler(method)
        return [
            RpcService(name=name, register=partial(_register, name=name, handlers=handlers))
            for name, handlers in by_service.items()
        ]

    def _handler(self, method: RpcMethod) -> Any:
        async def note(context: Any) -> None:
            self.reached.append(method.path)
            if self.before is not None:
                await self.before(method.path, context)

        async def unary(request: Message, context: Any) -> Message:
            await note(context)
            return method.answer()

        async def stream(request: Message, context: Any) -> AsyncIterator[Message]:
            await note(context)
            yield method.answer()

        make: Any = (
            grpc.unary_stream_rpc_method_handler if method.streams_answers else grpc.unary_unary_rpc_method_handler
        )
        handler: Any = make(
            stream if method.streams_answers else unary,
            request_deserializer=method.request.FromString,
            response_serializer=method.answer.SerializeToString,
        )
        return handler


def _register(server: grpc.aio.Server, *, name: str, handlers: dict[str, Any]) -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
