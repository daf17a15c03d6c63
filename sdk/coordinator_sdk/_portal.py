"""From ordinary threads into one background event loop.

A face of the sync client is a thin cover over an asynchronous object that lives in that loop;
it holds no state of its own.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from .errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
T = TypeVar("T")
InnerT = TypeVar("InnerT")
FaceT = TypeVar("FaceT", bound="Face[Any]")
JOIN_SECONDS = 5.0


class Portal:
    """A thread with an event loop, and the way into it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be run any more in this process."""
        return self._closed or os.getpid() != self._pid

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result; Ctrl-C cancels it.

        Raises:
            ClientClosed: The client has been closed, or was made before a fork.
        """
        try:
            loop = self._started()
        except ClientClosed:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop and join the thread."""
        if self.closed:
            return
        with self._lock:
            self._closed = True
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(JOIN_SECONDS)

    def _started(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._pid:
            raise ClientClosed(
                "this client was made before a fork and does not work in the child: "
                "make one in each process"
            )
        if self._closed:
            raise ClientClosed("the client has been closed")
        if threading.current_thread() is self._thread:
            raise ClientClosed("the sync client cannot be used from its own event loop")
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    loop = asyncio.new_event_loop()
                    self._thread = threading.Thread(
                        target=_serve, args=(loop,), name="coordinator-client", daemon=True
                    )
                    self._thread.start()
                    self._loop = loop
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Face(Generic[InnerT]):
    """A cover over an asynchronous object."""

    def __init__(self, portal: Portal, inner: InnerT) -> None:
        self._portal = portal
        self._inner = inner

    def _read(self, name: str) -> Any:
        """Read an attribute of the inner object, in the loop."""

        async def read() -> Any:
            return getattr(self._inner, name)

        return self._portal.run(read())

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"


def bare(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The asynchronous objects behind those that have a face."""
    return tuple(arg._inner if isinstance(arg, Face) else arg for arg in args)


def bare_values(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The same for keyword arguments."""
    return {name: arg._inner if isinstance(arg, Face) else arg for name, arg in kwargs.items()}


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The same method without ``await``."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        plain: Any = method  # what has a face is handed on without it
        work: Coroutine[Any, Any, T] = plain(self._inner, *bare(args), **bare_values(kwargs))
        return self._portal.run(work)

    return call


def immediate(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The same method, which does not wait, run in the loop."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        plain: Any = method

        async def run() -> T:
            return cast("T", plain(self._inner, *bare(args), **bare_values(kwargs)))

        return self._portal.run(run())

    return call


def making(
    method: Callable[Concatenate[Any, P], Any], face: type[FaceT]
) -> Callable[Concatenate[Any, P], FaceT]:
    """The same method; what it makes gets a face. Nothing is awaited."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> FaceT:
        return face(self._portal, immediate(method)(self, *args, **kwargs))

    return call


def opening(
    method: Callable[Concatenate[Any, P], Any], face: type[FaceT]
) -> Callable[Concatenate[Any, P], FaceT]:
    """The same method; what it makes is opened at once, and gets a face."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> FaceT:
        plain: Any = method

        async def run() -> Any:
            return await plain(self._inner, *bare(args), **bare_values(kwargs))

        return face(self._portal, self._portal.run(run()))

    return call


class Attribute(Generic[T]):
    """An attribute of the inner object, read in the loop."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, face: Face[Any], owner: type[Any] | None = None) -> T:
        return cast("T", face._read(self._name))


class Signal(Face[Any]):
    """An event of the background loop, such as the loss of a lock."""

    def is_set(self) -> bool:
        """Whether it has happened."""
        return bool(self._inner.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it happens, for ``timeout`` seconds at most; returns whether it has."""

        async def wait() -> bool:
            try:
                async with asyncio.timeout(timeout):
                    await self._inner.wait()
            except TimeoutError:
                return False
            return True

        return self._portal.run(wait())


class Iteration(Face[Any], Generic[T]):
    """A plain iterator over a stream."""

    resumes = Attribute(int)
    closed = Attribute(bool)

    def open(self) -> Self:
        """Open the stream and wait until the server has confirmed it."""
        self._portal.run(self._inner.open())
        return self

    def close(self) -> None:
        """End the stream."""
        self._portal.run(self._inner.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return cast("T", self._portal.run(self._next()))
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next(self) -> Any:
        return await self._inner.__anext__()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()
