"""Running somebody's command while something is held: signals, and stopping it on loss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from coordinator.cli.command import CommandError, Signals, seconds
from coordinator.cli.output import tell

ON_LOST = ("term", "kill", "ignore")

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordinator.cli.command import Context, Parser


def loss_flags(parser: Parser) -> None:
    """Add the flags that tell what becomes of a command when what it needs is lost."""
    add_flag = parser.add_argument
    add_flag("--on-lost", choices=ON_LOST, default="term", help="what becomes of the command")
    add_flag(
        "--kill-after", type=seconds, default=5.0, help="SIGKILL follows SIGTERM after so long"
    )


NOT_FOUND = 127
NOT_EXECUTABLE = 126


class Child:
    """A command that runs below coordctl.

    It is in a process group of its own, so that stopping it reaches what it started; on a
    terminal it stays in the foreground group, where the keyboard's signals reach it anyway.
    """

    def __init__(self, process: asyncio.subprocess.Process, has_group: bool) -> None:
        self._process = process
        self._has_group = has_group

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a command.

        Raises:
            CommandError: It cannot be started.
        """
        has_group = not sys.stdin.isatty()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **environment},
                process_group=0 if has_group else None,
            )
        except FileNotFoundError:
            raise CommandError(f"{command[0]}: command not found", NOT_FOUND) from None
        except OSError as error:
            raise CommandError(f"{command[0]}: {error.strerror}", NOT_EXECUTABLE) from None
        return cls(process, has_group)

    async def wait(self) -> int:
        """Wait for its end; gives its exit code, 128 + n if signal n ended it."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def send(self, number: int) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            if self._has_group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    async def stop(self, number: int, kill_after: float) -> int:
        """Send it a signal, and SIGKILL should it not have ended after so many seconds."""
        self.send(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kill_after):
                return await self.wait()
        self.send(signal.SIGKILL)
        return await self.wait()

    async def wait_while_held(
        self, context: Context, lost: asyncio.Event, why: Callable[[], str]
    ) -> int:
        """Wait for its end, and stop it if what it needs is lost.

        Args:
            context: Its signals go on to the command, its flags are those of `loss_flags`.
            lost: Set when what it needs is lost.
            why: Tells what was lost, for the person at the terminal.

        Returns:
            Its exit code, 128 + n if signal n ended it.
        """
        running = asyncio.ensure_future(self.wait_and_forward(context.signals))
        losing = asyncio.ensure_future(lost.wait())
        await asyncio.wait({running, losing}, return_when=asyncio.FIRST_COMPLETED)
        losing.cancel()
        if not running.done():
            tell(why())
            if context.flags.on_lost == "term":
                await self.stop(signal.SIGTERM, context.flags.kill_after)
            elif context.flags.on_lost == "kill":
                self.send(signal.SIGKILL)
        return await running

    async def wait_and_forward(self, signals: Signals) -> int:
        """Wait for its end; signals that reach coordctl go on to it."""
        queue = signals.catch()
        ending = asyncio.ensure_future(self.wait())
        try:
            while True:
                news = asyncio.ensure_future(queue.get())
                await asyncio.wait({ending, news}, return_when=asyncio.FIRST_COMPLETED)
                if ending.done():
                    news.cancel()
                    return ending.result()
                number = news.result()
                if self._has_group or number != signal.SIGINT:
                    self.send(number)
        finally:
            ending.cancel()
