# SPDX-License-Identifier: Apache-2.0
"""The border every call crosses on its way to a handler: who calls, with what time left, and what becomes of errors.

Invariants
  D1  The caller is judged before a byte of the request is parsed: handlers get their messages from here.
  D2  No call reaches a handler of ours or of gRPC's own services (health, reflection) around this module.
  D3  An error is mapped once (status.py); a bug becomes INTERNAL, never a stack trace on the wire; a message that cannot be
      parsed is the caller's fault. Cancellation goes on to the handler and is never turned into anything else.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isasyncgenfunction
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from drystone_core.errors import DrystoneError, ErrorCode, Refused
from drystone_runtime.rpc.call_context import take_over
from drystone_runtime.rpc.counters import OK, MethodCounter, RpcCounters
from drystone_runtime.rpc.status import DETAIL_KEY, status_of, to_detail

log = logging.getLogger(__name__)
_CANCELLED = grpc.StatusCode.CANCELLED.name


class Door(Protocol):
    """Decides who may come in."""

    def admit(self, method: str, context: Any) -> None:
        """Nothing when the call may go on; Refused otherwise."""
        ...


class Border(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """The one interceptor of a server."""

    def __init__(self, *, door: Door, counters: RpcCounters) -> None:
        self._door, self._counters = door, counters
        self._guarded: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler behind its guard; None (UNIMPLEMENTED) when there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            known = self._guarded[method] = handler, self._guard(method, handler)
        return known[1]

    def _guard(self, method: str, handler: Any) -> Any:
        call = _Call(method, self._door, self._counters.of(method))
        if handler.request_streaming:
            if handler.response_streaming:
                return handler._replace(stream_stream=_answers(call, handler.stream_stream, _as_it_is))
            return handler._replace(stream_unary=_answer(call, handler.stream_unary, _as_it_is))
        parse = _parser(handler.request_deserializer)
        if handler.response_streaming:
            return handler._replace(request_deserializer=None, unary_stream=_answers(call, handler.unary_stream, parse))
        return handler._replace(request_deserializer=None, unary_unary=_answer(call, handler.unary_unary, parse))


class _Call:
    """What is done around every call of one method."""

    __slots__ = ("_counter", "_door", "_method")

    def __init__(self, method: str, door: Door, counter: MethodCounter) -> None:
        self._method, self._door, self._counter = method, door, counter

    def enter(self, context: Any) -> float:
        self._counter.begin()
        take_over(context.invocation_metadata(), context.time_remaining())
        return time.perf_counter()

    def admit(self, context: Any) -> None:
        self._door.admit(self._method, context)

    def leave(self, code: str, began: float) -> None:
        self._counter.end(code, time.perf_counter() - began)


def _answer(call: _Call, inner: Callable[[Any, Any], Awaitable[Any]], parse: Callable[[Any], Any]) -> Any:
    async def serve(request: Any, context: Any) -> Any:
        began, code = call.enter(context), _CANCELLED
        try:
            call.admit(context)
            answer = await inner(parse(request), context)
            code = OK
            return answer
        except DrystoneError as error:
            code = status_of(error.code).name
            await _refuse(context, error)
        except grpc.aio.AbortError:  # the handler's own refusal, as gRPC's services do it
            code = _code_of(context)
            raise
        except Exception:  # the outermost loop
            code = grpc.StatusCode.INTERNAL.name
            log.exception("rpc.call_failed")
            await _refuse(context, DrystoneError(ErrorCode.INTERNAL_ERROR))
        finally:
            call.leave(code, began)

    return serve


def _answers(call: _Call, inner: Callable[[Any, Any], Any], parse: Callable[[Any], Any]) -> Any:
    if not isasyncgenfunction(inner):
        raise TypeError(f"{inner} streams its answers by context.write; yield them")

    async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
        began, code = call.enter(context), _CANCELLED
        try:
            call.admit(context)
            async for answer in inner(parse(request), context):
                yield answer
            code = OK
        except DrystoneError as error:
            code = status_of(error.code).name
            await _refuse(context, error)
        except grpc.aio.AbortError:  # as above
            code = _code_of(context)
            raise
        except Exception:  # as above
            code = grpc.StatusCode.INTERNAL.name
            log.exception("rpc.call_failed")
            await _refuse(context, DrystoneError(ErrorCode.INTERNAL_ERROR))
        finally:
            call.leave(code, began)

    return serve


def _parser(deserialize: Callable[[bytes], Any]) -> Callable[[Any], Any]:
    def parse(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError as error:
            raise Refused(ErrorCode.INVALID_ARGUMENT, "the message is not what this method takes") from error

    return parse


def _as_it_is(requests: Any) -> Any:
    """A stream of requests, which gRPC parses when it is asked for the next."""
    return requests


def _code_of(context: Any) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name


async def _refuse(context: Any, error: DrystoneError) -> None:
    detail = to_detail(error).SerializeToString()
    await context.abort(status_of(error.code), str(error), ((DETAIL_KEY, detail),))
