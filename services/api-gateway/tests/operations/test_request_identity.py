# SPDX-License-Identifier: Apache-2.0
"""Whatever is logged or called for a request carries its id, and nothing carries another's."""

import asyncio

from drystone_gateway.app import GatewayApp
from drystone_gateway.http.messages import Request, Response
from drystone_gateway.http.stepping import start
from drystone_gateway.s3.operation import Operation
from drystone_runtime.background import Background
from drystone_runtime.clock import SystemClock
from drystone_runtime.logs import REQUEST_ID


async def test_each_of_two_interleaved_requests_sees_its_own_id_and_nothing_leaks(make_cell) -> None:
    """The id is set in the context of the one request, before and after a wait; the caller's context stays as it was."""
    cell = await make_cell()
    before = REQUEST_ID.get()
    seen: list[tuple[str, str, str]] = []
    gate = asyncio.Event()

    async def look(call) -> Response:
        first = REQUEST_ID.get()
        await gate.wait()
        seen.append((call.request.request_id, first, REQUEST_ID.get()))
        return Response(200)

    app = GatewayApp(
        gateway=cell.app._gateway,
        router=cell.app._router,
        verifier=cell.app._verifier,
        operations={Operation.LIST_BUCKETS: look},
    )
    requests = [cell.caller.request("GET", "/") for _ in range(2)]
    for number, request in enumerate(requests):
        request.request_id = f"{number:016X}"
    tasks = [start(_answer(app, request), asyncio.get_running_loop()) for request in requests]
    gate.set()
    await asyncio.gather(*(task for task in tasks if task is not None))
    assert sorted(seen) == [("0" * 16, "0" * 16, "0" * 16), ("0" * 15 + "1", "0" * 15 + "1", "0" * 15 + "1")]
    assert REQUEST_ID.get() == before


async def _answer(app: GatewayApp, request: Request) -> None:
    await app.handle(request)


async def test_a_shared_task_does_not_keep_the_id_of_the_request_that_began_it() -> None:
    """Work that outlives the request, and serves others, logs without an id rather than with a wrong one."""
    background = Background(clock=SystemClock())
    token = REQUEST_ID.set("F" * 16)
    seen: list[str] = []

    async def work() -> None:
        seen.append(REQUEST_ID.get())

    await background.once("looks", work())
    REQUEST_ID.reset(token)
    await background.stop()
    assert seen == [""]
