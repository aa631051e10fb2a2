# SPDX-License-Identifier: Apache-2.0
"""A TCP line between a client and a server that can be held, let go and torn, without either side being told."""

import asyncio
from contextlib import suppress


class TcpLine:
    """Forwards a loopback port to a server's."""

    def __init__(self, port: int) -> None:
        """`port`: the server's."""
        self._target = port
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tear_after: int | None = None
        self._answers = asyncio.Event()
        self._answers.set()
        self.port = 0
        """Where clients connect, after `start`."""

    @property
    def endpoint(self) -> str:
        """HOST:PORT for clients."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> "TcpLine":
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def hold(self) -> None:
        """Bytes stay where they are, in both directions; new connections are taken and lead nowhere."""
        self._open.clear()

    def let_go(self) -> None:
        """Held bytes go on, as after lost packets."""
        self._open.set()
        self._answers.set()

    def tear(self) -> None:
        """Every connection ends now; new ones work as the line is."""
        for writer in list(self._writers):
            writer.transport.abort()

    def tear_after(self, count: int) -> None:
        """The next connection ends after so many bytes from the server."""
        self._tear_after = count

    def hold_answers(self) -> None:
        """What clients send arrives; what the server says stays where it is."""
        self._answers.clear()

    async def close(self) -> None:
        """Listen no more, end all."""
        if self._server is not None:
            self._server.close()
        self.tear()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        limit, self._tear_after = self._tear_after, None
        try:
            await self._open.wait()
            onward, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(back)
        tasks = {
            asyncio.ensure_future(self._forward(reader, back, None, from_server=False)),
            asyncio.ensure_future(self._forward(onward, writer, limit, from_server=True)),
        }
        self._tasks |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._tasks -= tasks
            for each in (writer, back):
                each.transport.abort()
                self._writers.discard(each)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None, *, from_server: bool
    ) -> None:
        sent = 0
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if from_server:
                    await self._answers.wait()
                if limit is not None and sent + len(data) > limit:
                    writer.write(data[: limit - sent])
                    return
                sent += len(data)
                writer.write(data)
                await writer.drain()
