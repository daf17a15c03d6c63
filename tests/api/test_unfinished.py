"""What clients send of requests that never come whole has a size, all together."""

from __future__ import annotations

from pathlib import Path

from coordinator.api.unfinished import UnfinishedRequests
from coordinator_sdk.errors import Exhausted
from tests.api.member import few, running, until
from tests.drill.wire import close_code, frame, upgrade


class Part:
    """Holds a part of a request."""

    def __init__(self) -> None:
        self.errors: list[Exhausted] = []

    def give_up(self, error: Exhausted) -> None:
        self.errors.append(error)


def test_the_longest_of_the_largest_address_goes() -> None:
    """When it is too much, the one that is longest about it goes, of the largest address."""
    unfinished = UnfinishedRequests(100)
    modest, first, second = Part(), Part(), Part()
    unfinished.hold(modest, "a", 30)
    unfinished.hold(first, "b", 10)
    unfinished.hold(second, "b", 60)
    assert unfinished.held_bytes == 100
    unfinished.hold(second, "b", 61)
    assert [len(one.errors) for one in (modest, first, second)] == [0, 1, 0]
    assert first.errors[0].details["limit"] == "unfinished_bytes"
    assert unfinished.held_bytes == 91
    unfinished.hold(second, "b", 200)
    assert [len(one.errors) for one in (modest, first, second)] == [0, 1, 1]
    unfinished.hold(modest, "a", 0)
    unfinished.hold(modest, "a", 0)
    assert (unfinished.held_bytes, unfinished.dropped) == (0, 2)


async def test_bodies_that_never_end_make_room(tmp_path: Path) -> None:
    """Of bodies that never end the oldest is refused with 429, and whoever sends a whole one is
    served meanwhile."""
    async with running(tmp_path, limits=few(unfinished_bytes=300_000)) as member:
        unfinished = member.serving.unfinished
        async with member.raw() as first, member.raw() as second:
            head = b"PUT /v1/kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000\r\n\r\n"
            first.send(head + b"x" * 140_000)
            await until(lambda: unfinished.held_bytes == 140_000)
            second.send(head + b"x" * 140_000)
            await until(lambda: unfinished.held_bytes == 280_000)
            answer = await member.ask("PUT", "/v1/kv/b", b"y" * 100_000)
            assert answer.status == 200
            refused = await first.answer("PUT")
            assert refused.status == 429
            assert refused.error["details"]["limit"] == "unfinished_bytes"
            second.send(b"x" * 60_000)
            assert (await second.answer("PUT")).status == 200
        await until(lambda: unfinished.held_bytes == 0)
        assert unfinished.dropped == 1


async def test_messages_that_never_end_make_room(tmp_path: Path) -> None:
    """A frame that never ends, and fragments of a message that never ends, are counted alike; who
    has to go is closed with 1013."""
    async with running(tmp_path, limits=few(unfinished_bytes=300_000)) as member:
        unfinished = member.serving.unfinished
        async with member.raw() as first, member.raw() as second, member.raw() as third:
            for raw in first, second, third:
                raw.send(upgrade())
                await raw.reader.readuntil(b"\r\n\r\n")
            first.send(frame(1, b" " * 150_000)[:-1])
            await until(lambda: unfinished.held_bytes > 140_000)
            second.send(frame(1, b" " * 70_000, fin=False) + frame(0, b" " * 70_000, fin=False))
            await until(lambda: unfinished.held_bytes > 280_000)
            third.send(frame(1, b" " * 70_000, fin=False))
            assert close_code(await first.reader.read()) == 1013
            second.send(frame(0, b"x"))
            assert close_code(await second.reader.read()) == 1007, "it came whole, and is no JSON"
        await until(lambda: unfinished.held_bytes == 0)
        assert unfinished.dropped == 1
