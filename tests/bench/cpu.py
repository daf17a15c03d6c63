"""``python -m tests.bench.cpu``: where the time of a put goes, written into docs/performance.md.

Drives one connection of a member in this process, without a network, and counts in its thread:
CPU time, the best of many short runs, which others on the machine disturb least; and the calls
and byte codes of Python, which nothing disturbs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import uvloop
from websockets.speedups import apply_mask  # type: ignore[import-not-found,unused-ignore]

from coordinator.api.registry import Caller
from coordinator.api.websocket import WebSocketConnection
from coordinator.domains import DOMAINS
from coordinator.replica.machine import Machine
from coordinator.wire.command import FORMAT, Envelope
from coordinator.wire.raft import ConfState, Entry
from coordinator_sdk.protocol.cluster import ClientRegister
from coordinator_sdk.protocol.codec import MSGPACK
from coordinator_sdk.protocol.kv import Put
from tests.api.member import running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- cpu: written by `python -m tests.bench.cpu` -->"
END = "<!-- end of cpu -->"
CLIENT = 77
KEYS = 6400
RUNS = 200
PUTS = 256
"""Puts of one run."""


def put(number: int) -> Put:
    """Give the put of a request: 256 bytes, to a key that is written again and again."""
    return Put(b"key%d" % (number % KEYS), b"v" * 256)


class _Transport:
    """Takes what a connection writes."""

    def __init__(self) -> None:
        self.frames = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 4000)

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.frames += 1

    writelines = write


class _Client:
    """A client whose frames come from memory."""

    def __init__(self, serving: Any) -> None:
        self.transport = _Transport()
        place = serving.census.admit("127.0.0.1", self.transport)
        self.connection = one = WebSocketConnection(serving, ("127.0.0.1", 4000), place)
        one.connection_made(cast("asyncio.BaseTransport", self.transport))
        one.codec, one._decode = MSGPACK, serving.decoders[MSGPACK.name].decode
        one._first_byte, one._message_max = 0x82, serving.limits.message_bytes
        one._is_open = one._is_greeted = True
        one.caller = Caller(origin="127.0.0.1:4000", client=CLIENT)
        self.next = 1

    def frame(self, puts: int) -> bytes:
        """Give a masked frame of so many puts."""
        first, self.next = self.next, self.next + puts
        numbers = range(first, self.next)
        body = MSGPACK.encode_requests(first, [(number, put(number)) for number in numbers])
        head = bytes((0x82, 0xFE)) + len(body).to_bytes(2, "big") + b"mask"
        return head + apply_mask(body, b"mask")

    async def ask(self, frames: list[bytes]) -> None:
        """Send frames, each after the answer to the one before."""
        for frame in frames:
            wanted = self.transport.frames + 1
            self.connection.data_received(frame)
            while self.transport.frames < wanted:  # noqa: ASYNC110 - nothing else to wait for
                await asyncio.sleep(0)


class _Tracer:
    """Counts calls and byte codes by the room they are in."""

    def __init__(self) -> None:
        self.calls = 0
        self.codes: Counter[str] = Counter()

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        path = frame.f_code.co_filename
        if "coordinator" not in path:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "call":
            self.calls += 1
        elif event == "opcode":
            self.codes[Path(path).parent.name] += 1
        return self


async def of_member(puts: int) -> tuple[float, _Tracer]:
    """Measure a member that gets frames of so many puts: microseconds of a put, and its codes."""
    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        async with running(Path(folder)) as member:
            member.node._loop._tick_ms = 3_600_000  # Ticks belong to no put.
            await asyncio.sleep(0.2)
            await member.node.execute(ClientRegister(CLIENT))
            client = _Client(member.serving)
            await client.ask([client.frame(64) for _ in range(2 * KEYS // 64)])
            gc.collect()
            gc.freeze()
            best = float("inf")
            for _ in range(RUNS):
                frames = [client.frame(puts) for _ in range(PUTS // puts)]
                started = time.thread_time()
                await client.ask(frames)
                best = min(best, time.thread_time() - started)
            tracer = _Tracer()
            frames = [client.frame(puts) for _ in range(PUTS // puts)]
            sys.settrace(tracer)
            await client.ask(frames)
            sys.settrace(None)
            return best / PUTS * 1e6, tracer


def of_machine() -> tuple[float, _Tracer]:
    """Measure the state machine alone."""
    machine = Machine(DOMAINS)
    machine.begin(1, 1, ConfState(voters=(1,)))

    def entry(body: Any, client: int = 0, sequence: int = 0) -> Entry:
        floor = sequence // 64 * 64
        envelope = Envelope(FORMAT, client, sequence, floor, "", "", "", "", 1, body)
        return Entry(1, index, data=machine.codec.encode(envelope))

    index = 2
    machine.apply(entry(ClientRegister(CLIENT)))
    best, tracer = float("inf"), _Tracer()
    runs = 2 * KEYS // PUTS + RUNS
    for run in range(runs):
        entries = []
        for _ in range(PUTS):
            index += 1
            entries.append(entry(put(index), CLIENT, index))
        if run == runs - 1:
            sys.settrace(tracer)
        started = time.thread_time()
        for each in entries:
            machine.apply(each)
        best = min(best, time.thread_time() - started)
        sys.settrace(None)
        machine.changes.versions.clear()
    return best / PUTS * 1e6, tracer


def shared_memory() -> str | None:
    """Give a folder whose disk costs nothing, if there is one."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def line(title: str, measured: tuple[float, _Tracer]) -> str:
    """Give a line of the table."""
    cpu_us, tracer = measured
    total = sum(tracer.codes.values())
    rooms = ", ".join(f"{room} {count / total:.0%}" for room, count in tracer.codes.most_common(7))
    return (
        f"| {title} | {cpu_us:.1f} µs | {tracer.calls / PUTS:.0f} | {total / PUTS:,.0f} | {rooms} |"
    )


def main() -> int:
    """Measure, and rewrite the part of the page."""
    gc.set_threshold(50_000, 20, 100)
    lines = [
        "| what | CPU | calls | byte codes | of which, by room |",
        "| --- | --- | --- | --- | --- |",
        line("put, alone in its turn", uvloop.run(of_member(1))),
        line("put, one of 64 in a frame", uvloop.run(of_member(64))),
        line("its application, by the state machine alone", of_machine()),
    ]
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(head + "\n".join([BEGIN, "", *lines, "", END]) + tail)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
