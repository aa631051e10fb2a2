# SPDX-License-Identifier: Apache-2.0
"""Clients that keep us waiting: each connection is judged now and then by the state it is in.

Invariants
  T1  Only the client's share of the time counts: while a handler works, nothing of its connection grows older.
  T2  An answer whose head went out ends in a reset; what has no answer yet is told RequestTimeout.

What is waited for                      how long                                        then
  an answer to be taken, in any state   pace `download`                                 reset
  HEAD, part of a head has come         `head_timeout_s` from its first byte            refused, RequestTimeout
  HEAD, nothing has come                `head_timeout_s` at first, `idle_timeout_s` later   closed
  BUSY, a handler waits for the body    pace `upload`; `crowded_upload` when crowded    the body fails, RequestTimeout
  DISCARD, the rest of a body           the same                                        reset
  LINGER, the client's end              `linger_s`                                      closed
"""

from drystone_core.errors import ErrorCode
from drystone_gateway.http.bodies import IncomingBody, slow_body
from drystone_gateway.http.connection import DISCARD, HEAD, LINGER, Connection
from drystone_gateway.http.heads import HeadRefused


def sweep(connection: Connection, elapsed: float) -> None:
    """Apply the timeouts; `elapsed` seconds passed since the last sweep."""
    shared, out, state = connection.shared, connection.out, connection.state
    settings = shared.settings
    if out.too_slow(elapsed, settings.download):
        _reset(connection)
    elif state == HEAD:
        connection.age += elapsed
        if connection.pending:
            if connection.age > settings.head_timeout_s:
                shared.stats.timeouts += 1
                connection.refuse(HeadRefused(slow_body().message, ErrorCode.REQUEST_TIMEOUT))
        elif connection.age > (settings.idle_timeout_s if out.written else settings.head_timeout_s):
            out.close(settings.farewell_s)
    elif state == LINGER:
        connection.age += elapsed
        if connection.age > settings.linger_s:
            out.abort()
    elif connection.incoming is not None:
        _sweep_body(connection, connection.incoming, elapsed)


def close_idle(connection: Connection) -> None:
    """The server drains, so idle connections have no time left; one whose request is being answered has."""
    if connection.state == HEAD and not connection.pending:
        connection.out.close(connection.shared.settings.farewell_s)


def _sweep_body(connection: Connection, incoming: IncomingBody, elapsed: float) -> None:
    dropped = connection.state == DISCARD
    if not incoming.waiting and not dropped:
        incoming.progress.rest()
    elif incoming.progress.too_slow(incoming.received, elapsed, connection.shared.upload_pace()):
        if dropped:
            _reset(connection)
        else:
            connection.shared.stats.timeouts += 1
            incoming.fail(slow_body())


def _reset(connection: Connection) -> None:
    connection.shared.stats.timeouts += 1
    connection.reset()
