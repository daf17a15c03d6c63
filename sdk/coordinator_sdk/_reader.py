"""Reading a stream: an asynchronous iterator that closes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .errors import ClientClosed

if TYPE_CHECKING:
    from ._connection import Connection
    from ._streams import Stream

T = TypeVar("T")
ItemT = TypeVar("ItemT")


class Reader(Generic[T]):
    """What a stream brings, for ``async for``.

    The stream is opened by the first step of the iteration, or by ``async with``, which also
    waits until the server has confirmed it: what happens after that is not missed. It is
    closed at the end of ``async with``, by `close`, or when the iterator is dropped.
    """

    def __init__(self, link: Connection, stream: Stream[Any]) -> None:
        self._link = link
        self._stream = stream
        self._opened = False

    @property
    def resumes(self) -> int:
        """How often the stream was opened again after a broken connection."""
        return self._stream.resumes

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._stream.done()

    async def open(self) -> Self:
        """Open the stream and wait until the server has confirmed it.

        Raises:
            CoordinatorError: It cannot be opened.
        """
        self._begin()
        stream = self._stream
        while not stream.ready:
            if stream.error is not None:
                raise stream.error
            await self._change()
        return self

    async def close(self) -> None:
        """End the stream."""
        self._link.close_stream(self._stream)
        if self._stream.wake is not None:
            self._stream.wake()

    def _begin(self) -> None:
        if not self._opened:
            self._opened = True
            self._link.open(self._stream)

    async def _change(self) -> None:
        """Wait until the stream has something to say."""
        stream = self._stream
        future = self._link.loop.create_future()
        if stream.wake is not None:
            raise ClientClosed("the iterator is being read by another task already")

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        stream.wake = wake
        try:
            await future
        finally:
            stream.wake = None

    async def _next(self) -> Any:
        """The next item of the stream."""
        stream = self._stream
        if not self._opened:
            self._begin()
        while not stream.items:
            if stream.error is not None:
                raise stream.error
            if stream.closed:
                raise StopAsyncIteration
            await self._change()
        item = stream.take()
        due = stream.credit_due()
        if due:
            self._link.grant(stream, due)
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item: T = await self._next()
        return item

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._opened and not self._stream.done() and not self._link.closed:
            loop = self._link.loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._link.close_stream, self._stream)
