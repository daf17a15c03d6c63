"""`make cluster`: three members on this machine, their logs in one view, until Ctrl-C.

A member that ends is shown; the others go on. Try it: kill one with the pid that is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

SIZE = 3
STEP = 10
"""Between the ports of two members; a member's peer port is next to its client port."""
STOP_SECONDS = 10.0
COLOURS = (36, 33, 35)


@dataclass
class Member:
    """One member and its process."""

    number: int
    port: int
    data_dir: Path
    process: asyncio.subprocess.Process | None = None
    reading: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name."""
        return f"m{self.number}"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def peer_url(self) -> str:
        """Where the other members connect."""
        return f"http://127.0.0.1:{self.port + 1}"

    def flags(self, members: list[Member]) -> list[str]:
        """Give the flags that it is started with."""
        return [
            *("--name", self.name),
            *("--data-dir", str(self.data_dir)),
            *("--listen-client-urls", self.url),
            *("--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", ",".join(f"{one.name}={one.peer_url}" for one in members)),
        ]


def say(text: str, member: Member | None = None, bold: bool = False) -> None:
    """Print a line, with the member it is about in front, in its colour if this is a terminal."""
    label = f"{member.name} | " if member is not None else ""
    if sys.stdout.isatty():
        if member is not None:
            label = f"\033[{COLOURS[(member.number - 1) % len(COLOURS)]}m{label}\033[0m"
        text = f"\033[1m{text}\033[0m" if bold else text
    print(f"{label}{text}", flush=True)


async def start(member: Member, members: list[Member]) -> None:
    member.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "coordinator", "serve", *member.flags(members)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for us; we tell them.
    )
    member.reading = [asyncio.ensure_future(show_log(member))]


async def show_log(member: Member) -> None:
    """Show what a member says, and that it has ended."""
    assert member.process is not None
    assert member.process.stdout is not None
    async for line in member.process.stdout:
        say(line.decode("utf-8", "replace").rstrip("\n"), member)
    status = await member.process.wait()
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    say(f"has ended: {how}", member, bold=True)


def is_ready(member: Member) -> bool:
    with contextlib.suppress(OSError):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{member.url}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    return False


async def introduce(members: list[Member]) -> None:
    """Wait until all are ready, then tell what to try."""
    awaited = list(members)
    while awaited:
        awaited = [one for one in awaited if not await asyncio.to_thread(is_ready, one)]
        await asyncio.sleep(0.1)
    endpoints = ",".join(member.url for member in members)
    pids = ", ".join(f"{one.name} {one.process.pid}" for one in members if one.process)
    for line in (
        f"{SIZE} members are ready: {endpoints}",
        f"pids: {pids}",
        "Try, in another terminal:",
        f"  export COORDINATOR_ENDPOINTS={endpoints}",
        "  .venv/bin/coordctl endpoint status --cluster",
        "  .venv/bin/coordctl member list",
        "  .venv/bin/coordctl put greeting hello",
        "Kill one by its pid and watch the others go on. Ctrl-C stops all.",
    ):
        say(line, bold=True)


async def stop(members: list[Member]) -> None:
    """Ask all to end; end those that do not."""
    for member in members:
        if member.process is not None and member.process.returncode is None:
            member.process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*(task for one in members for task in one.reading))
    except TimeoutError:
        for member in members:
            if member.process is not None and member.process.returncode is None:
                member.process.kill()


async def run(members: list[Member]) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    introducing = asyncio.ensure_future(introduce(members))
    stopping = asyncio.ensure_future(told.wait())
    try:
        for member in members:
            await start(member, members)
        ended = asyncio.gather(*(task for one in members for task in one.reading))
        await asyncio.wait((stopping, ended), return_when=asyncio.FIRST_COMPLETED)
        if not told.is_set():
            say("No member is left.", bold=True)
            return 1
        say("Stopping.", bold=True)
        return 0
    finally:
        introducing.cancel()
        stopping.cancel()
        await stop(members)


def main() -> int:
    """Run the members until Ctrl-C, SIGTERM or the end of the last one."""
    parser = argparse.ArgumentParser(prog="python -m examples.cluster", description=__doc__)
    parser.add_argument("--port", type=int, default=2379, help="of the first member")
    parser.add_argument("--data-dir", type=Path, default=Path(".data"))
    given = parser.parse_args()
    folder = given.data_dir / "cluster"
    folder.mkdir(parents=True, exist_ok=True)
    members = [
        Member(number, given.port + STEP * (number - 1), folder / f"m{number}")
        for number in range(1, SIZE + 1)
    ]
    say(f"Starting {SIZE} members, data in {folder}; their logs follow.", bold=True)
    return asyncio.run(run(members))


if __name__ == "__main__":
    sys.exit(main())
