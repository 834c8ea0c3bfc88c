"""A proxy before the store that loses replies: the request is carried out, its answer never arrives."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self


class Proxy:
    """Passes everything through, but for the replies to requests that contain `lose`: those connections break."""

    def __init__(self, target: str, place: Path) -> None:
        self._target = target.removeprefix("unix://")
        self._place = place
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self.lose = b""
        """Part of the requests whose replies are lost; empty: none."""
        self.left = 0
        """How many replies are still to be lost."""

    @property
    def url(self) -> str:
        """What a broker takes."""
        return f"unix://{self._place}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._place)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        store_reader, store_writer = await asyncio.open_unix_connection(self._target)
        try:
            await self._pass_on(reader, writer, store_reader, store_writer)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for end in (writer, store_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _pass_on(self, reader, writer, store_reader, store_writer) -> None:
        """Until one side closes, or a reply is lost."""
        replies = asyncio.create_task(_copy(store_reader, writer))
        try:
            while request := await reader.read(1 << 20):
                losing = bool(self.left and self.lose and self.lose in request)
                if losing:
                    self.left -= 1
                    replies.cancel()
                    await asyncio.wait([replies])
                store_writer.write(request)
                await store_writer.drain()
                if losing:
                    await store_reader.read(1 << 20)  # it has been carried out
                    return
        finally:
            replies.cancel()
            await asyncio.wait([replies])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 20):
        writer.write(data)
        await writer.drain()
    writer.close()
