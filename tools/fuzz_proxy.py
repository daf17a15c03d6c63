"""Stands between a member and a fuzzer that waits for the end of answers: ends those of streams.

    python tools/fuzz_proxy.py PORT MEMBER_PORT

An answer without a length ends after a short silence. 503 becomes 429: the fuzzer may take the
quorum away, and a member that refuses then is right; what it looks for are failures.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

SILENCE_S = 0.05


async def answer(
    client: asyncio.StreamReader, to_client: asyncio.StreamWriter, member_port: int
) -> None:
    """Hand one request to the member, and the answer back, with an end."""
    member, to_member = await asyncio.open_connection("127.0.0.1", member_port)
    asking = asyncio.ensure_future(hand_on(client, to_member))
    is_chunked = False
    try:
        first = (await member.readline()).replace(b" 503 ", b" 429 ")
        head = await member.readuntil(b"\r\n\r\n")
        to_client.write(first + b"connection: close\r\n" + head)
        fields = dict(line.lower().split(b": ", 1) for line in head.splitlines() if line)
        is_chunked = fields.get(b"transfer-encoding") == b"chunked"
        left = int(fields.get(b"content-length", b"0"))
        while is_chunked or left > 0:
            async with asyncio.timeout(SILENCE_S):
                data = await member.read(1 << 16)
            if not data:
                break
            left -= len(data)
            to_client.write(data)
    except TimeoutError:
        if is_chunked:
            to_client.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        """The member hung up; the fuzzer is to see it."""
    finally:
        asking.cancel()
        to_member.close()
        to_client.close()


async def hand_on(client: asyncio.StreamReader, to_member: asyncio.StreamWriter) -> None:
    """Hand on what the fuzzer sends."""
    with contextlib.suppress(ConnectionError):
        while data := await client.read(1 << 16):
            to_member.write(data)
            await to_member.drain()


async def main(port: int, member_port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(
        lambda reader, writer: answer(reader, writer, member_port), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*map(int, sys.argv[1:])))
