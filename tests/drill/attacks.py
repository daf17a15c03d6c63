"""What a fuzz does: each attack is a coroutine on a target, with a seeded source of chance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

from tests.drill.wire import ANSWER_S, Target, crowd, frame, upgrade

HOST = b"host: localhost\r\n"
GET = b"GET /v1/kv/a HTTP/1.1\r\n" + HOST + b"\r\n"
HOLD_S = 4.0
"""How long connections are held that say little or nothing."""
HELLO = json.dumps([0, [[1, ["hello", 1]]]]).encode()
Attack = Callable[[Target, random.Random], Coroutine[Any, Any, None]]


# ---------------------------------------------------------------- HTTP


async def slowloris(target: Target, chance: random.Random) -> None:
    """Headers that come a byte at a time, on many connections."""

    async def one() -> None:
        _, writer = await target.connect()
        try:
            writer.write(b"GET /v1/kv/a HTTP/1.1\r\nx-slow: ")
            for _ in range(int(HOLD_S / 0.25)):
                await asyncio.sleep(0.25)
                writer.write(chance.randbytes(1).hex().encode())
        finally:
            writer.transport.abort()

    await crowd((one() for _ in range(400)), 400)


async def half_open(target: Target, chance: random.Random) -> None:
    """Connections that say nothing, that stop amid a request, or whose half is closed."""

    async def one(start: bytes, ends: bool) -> None:
        await target.send(start, read_s=HOLD_S, ends=ends)

    starts = [
        b"",
        b"G",
        GET[:-2],
        upgrade()[:40],
        b"POST /v1/kv HTTP/1.1\r\ncontent-length: 9\r\n\r\n{",
    ]
    await crowd((one(starts[n % len(starts)], n % 2 == 0) for n in range(500)), 500)


async def large_bodies(target: Target, chance: random.Random) -> None:
    """Bodies that are declared or sent much too large, and large ones that never end."""
    put = b"PUT /v1/kv/a HTTP/1.1\r\n" + HOST
    block = chance.randbytes(65_536)
    chunk = b"10000\r\n" + block + b"\r\n"
    endless = [put + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 200]
    # As large as is allowed, all but the end.
    stuck = [put + b"content-length: 2000000\r\n\r\n", *[block] * 30]
    attempts = [
        *(target.send(put + b"content-length: 10000000000\r\n\r\n", block) for _ in range(50)),
        *(target.send(*endless) for _ in range(20)),
        *(target.send(*stuck, read_s=HOLD_S) for _ in range(200)),
    ]
    await crowd(attempts, 300)


async def large_headers(target: Target, chance: random.Random) -> None:
    """20,000 headers, headers and targets of a megabyte."""
    many = b"".join(b"x-%d: %d\r\n" % (n, n) for n in range(20_000))
    long = b"x" * (1 << 20)
    start = b"GET /v1/kv/a HTTP/1.1\r\n" + HOST
    attempts = []
    for _ in range(20):
        attempts += [
            target.send(start + many + b"\r\n"),
            target.send(start + b"x-long: " + long + b"\r\n\r\n"),
            target.send(start + long + b": x\r\n\r\n"),
            target.send(b"GET /" + long + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
            target.send(long),
        ]
    await crowd(attempts)


SMUGGLED = b"GET /v1/kv/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
SMUGGLING = [
    b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    b"content-length: 0\r\ncontent-length: 80\r\n\r\n",
    b"content-length: 0, 80\r\n\r\n",
    b"content-length: -1\r\n\r\n",
    b"content-length: +5\r\n\r\nhello",
    b"content-length: 0x5\r\n\r\nhello",
    b"content-length : 5\r\n\r\nhello",
    b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"transfer-encoding: identity, chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n",
    b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
    b"transfer-encoding: chunked\r\n\r\n5;x=\n\r\nhello\r\n0\r\n\r\n",
    b"x: y\nhost: evil.test\r\n\r\n",
    b" folded: x\r\n\r\n",
    b"x\0y: z\r\n\r\n",
    b"host: evil.test\r\n\r\n",
]
"""Ends of a request's head on which two parsers may not agree, and bodies."""


async def smuggling(target: Target, chance: random.Random) -> None:
    """Requests whose end is in doubt, with another behind them."""
    attempts = []
    for end in SMUGGLING * 3:
        head = b"POST /v1/kv HTTP/1.1\r\n" + HOST + end
        attempts += [target.send(head + SMUGGLED, ends=True), target.send(head, SMUGGLED, read_s=1)]
    await crowd(attempts)


async def nonsense(target: Target, chance: random.Random) -> None:
    """Requests with bytes changed, added and taken away; and no requests at all."""
    good = [
        GET,
        upgrade(),
        b"PUT /v1/kv/a HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n\r\nhello",
        b"POST /v3/kv/range HTTP/1.1\r\n" + HOST + b'content-length: 13\r\n\r\n{"key":"YQ=="}',
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    ]
    attempts = [target.send(changed(chance.choice(good), chance), read_s=0.5) for _ in range(600)]
    attempts += [
        target.send(chance.randbytes(chance.randrange(1, 5000)), read_s=0.5) for _ in range(200)
    ]
    await crowd(attempts, 100)


def changed(data: bytes, chance: random.Random) -> bytes:
    """Change some bytes."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(made))
        how = chance.randrange(3)
        if how == 0:
            made[at] = chance.randrange(256)
        elif how == 1:
            made[at:at] = chance.randbytes(chance.randrange(1, 50))
        else:
            del made[at : at + chance.randrange(1, 10)]
            made = made or bytearray(b"\0")
    return bytes(made)


async def broken_text(target: Target, chance: random.Random) -> None:
    """Paths, queries and bodies that are not UTF-8, or JSON that never ends to nest."""
    attempts = []
    for raw in (b"\xff\xfe", b"%ff%fe", b"%c0%af", b"%ed%a0%80", b"%00", b"..%2f..%2f"):
        attempts.append(target.send(b"GET /v1/locks/" + raw + b" HTTP/1.1\r\n" + HOST + b"\r\n"))
        attempts.append(
            target.send(b"GET /v1/kv?prefix=" + raw + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        )
    for body in (
        b"\xff\xfe",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ):
        for path in (b"/v1/txn", b"/v3/kv/txn", b"/v1/sessions", b"/v1/auth/login"):
            head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
            attempts.append(
                target.send(head + b"content-length: %d\r\n\r\n" % len(body) + body, read_s=2)
            )
    await crowd(attempts)


async def unread_answers(target: Target, chance: random.Random) -> None:
    """Many requests at once, whose answers nobody reads."""

    async def one() -> None:
        _, writer = await target.connect()
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(HOLD_S):
                    for _ in range(200):
                        writer.write(b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n")
                        await writer.drain()
                    await asyncio.sleep(HOLD_S)
        finally:
            writer.transport.abort()

    await crowd((one() for _ in range(30)), 30)


# ---------------------------------------------------------------- WebSocket


async def wrong_frames(target: Target, chance: random.Random) -> None:
    """Frames against the rules: lengths, bits, opcodes, masks, fragments, closes, text."""
    text = frame(1, HELLO)
    wrong = [
        frame(1, HELLO, masked=False),
        frame(1, HELLO, bits=0x40),
        frame(3, b"x"),
        frame(11, b"x"),
        frame(9, b"x" * 200),
        frame(9, b"x", fin=False),
        frame(0, b"x"),
        frame(1, b"a", fin=False) + frame(1, b"b"),
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        b"\x81\xfe\0\1\0\0\0\0x",
        frame(8, b"\3"),
        frame(8, b"\x03\xee"),
        frame(8, b"\3\xe8\xff\xfe"),
        frame(1, b"\xff\xfe\xfd"),
        frame(1, b"[0,[[1,[" + b"[" * 50_000),
        frame(2, HELLO),
        frame(1, b"[]"),
        frame(1, b'[0,[[1,["no.such"]]]]'),
        frame(1, b'[99999999999999999999,[[1,["hello",1]]]]'),
        frame(1, b"[0,[" + b'[1,["hello",1]],' * 20_000 + b'[1,["hello",1]]]]'),
    ]
    attempts = [target.speak(start + one, read_s=2) for one in wrong for start in (b"", text)]
    await crowd(attempts)


async def fragments(target: Target, chance: random.Random) -> None:
    """Messages in very many parts, in parts too large together, and ones that never end."""
    many = frame(1, b"[", fin=False) + frame(0, b" ", fin=False) * 5000
    block = frame(0, b" " * 65_536, fin=False)
    large = [frame(1, b"[", fin=False), *[block] * 200]
    stuck = [frame(1, b"[", fin=False), *[block] * 30]
    whole = [frame(1, b" " * 2_000_000)[:-1]]
    attempts = [
        *(target.speak(many) for _ in range(20)),
        *(target.speak(*large) for _ in range(20)),
        *(target.speak(*stuck, read_s=HOLD_S) for _ in range(100)),
        *(target.speak(*whole, read_s=HOLD_S) for _ in range(100)),
    ]
    await crowd(attempts, 300)


async def floods(target: Target, chance: random.Random) -> None:
    """Pings, greetings and requests without end, and answers that nobody reads."""

    async def unread() -> None:
        _, writer = await target.upgraded()
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(frame(1, HELLO))
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(HOLD_S):
                    for number in range(2, 20_000):
                        request = [0, [[number, ["kv.range", "AA==", "AA=="]]]]
                        writer.write(frame(1, json.dumps(request).encode()))
                        await writer.drain()
        finally:
            writer.transport.abort()

    attempts = [
        *(target.speak(frame(1, HELLO), frame(9, b"x") * 5000) for _ in range(10)),
        *(target.speak(frame(10, b"x") * 5000) for _ in range(10)),
        *(target.speak(frame(1, HELLO) * 2000, read_s=2) for _ in range(10)),
        *(unread() for _ in range(20)),
    ]
    await crowd(attempts)


async def changed_frames(target: Target, chance: random.Random) -> None:
    """Good frames with bytes changed, in both encodings."""
    asked = [
        ["hello", 1],
        ["kv.put", "YQ==", "YQ=="],
        ["watch.open", "YQ=="],
        ["locks.acquire", "a", "b"],
    ]
    bodies = [json.dumps([0, [[number + 1, one] for number, one in enumerate(asked)]]).encode()]
    packed = b"\x92\x00\x91\x92\x01\x92\xa5hello\x01"
    attempts = []
    for _ in range(300):
        attempts.append(target.speak(frame(1, changed(chance.choice(bodies), chance)), read_s=0.5))
        binary = frame(2, changed(packed, chance))
        attempts.append(target.speak(binary, read_s=0.5, subprotocol="coordinator.v1.msgpack"))
        attempts.append(target.speak(changed(frame(1, HELLO) * 2, chance), read_s=0.5))
    await crowd(attempts, 100)


async def silent_sockets(target: Target, chance: random.Random) -> None:
    """WebSockets that are opened and then say nothing."""

    async def one() -> None:
        _, writer = await target.upgraded()
        try:
            await asyncio.sleep(HOLD_S)
        finally:
            writer.transport.abort()

    await crowd((one() for _ in range(400)), 400)


async def http2_nonsense(target: Target, chance: random.Random) -> None:
    """HTTP/2: frames by chance, settings and pings without end, headers that never end."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

    def made(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (
            len(payload).to_bytes(3, "big")
            + bytes([kind, flags])
            + stream.to_bytes(4, "big")
            + payload
        )

    ping, settings = made(6, 0, 0, b"12345678"), made(4, 0, 0, b"")
    endless = made(1, 0, 1, b"\x82") + made(9, 0, 1, b"\x40\x01a\x01b" * 200) * 500
    attempts = [
        target.send(preface, one * 20_000, read_s=2) for one in (ping, settings) for _ in range(5)
    ]
    attempts += [target.send(preface, endless, read_s=2) for _ in range(10)]
    for _ in range(200):
        by_chance = b"".join(
            made(
                chance.randrange(12),
                chance.randrange(256),
                chance.randrange(5),
                chance.randbytes(chance.randrange(64)),
            )
            for _ in range(5)
        )
        attempts.append(target.send(preface, by_chance, read_s=0.5))
    await crowd(attempts)


ATTACKS: tuple[Attack, ...] = (
    slowloris,
    half_open,
    large_bodies,
    large_headers,
    smuggling,
    nonsense,
    broken_text,
    unread_answers,
    wrong_frames,
    fragments,
    floods,
    changed_frames,
    silent_sockets,
    http2_nonsense,
)
LONGEST_S = 60
"""How long one attack may take; several wait `ANSWER_S` for an answer."""
assert LONGEST_S > 2 * ANSWER_S
