"""Asking DNS for SRV records: as much of RFC 1035 and RFC 2782 as that takes.

The system's own resolver gives addresses of names, but no SRV records. A question goes to the
name servers of ``/etc/resolv.conf`` over UDP, and over TCP if the answer is too long for that.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

RESOLV_CONF: Final = Path("/etc/resolv.conf")
DNS_PORT: Final = 53
ATTEMPTS: Final = 3
ATTEMPT_S: Final = 2.0
"""How long one name server may take to answer."""
ANSWERS_MAX: Final = 256
"""Records that are looked at in one answer."""

_CLASS_IN, _TYPE_SRV = 1, 33
_RECURSION_WANTED, _TRUNCATED, _IS_ANSWER = 0x0100, 0x0200, 0x8000
_NO_SUCH_NAME = 3
_CODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_HEADER = struct.Struct("!6H")

Server = tuple[str, int]


class DnsFailed(Exception):
    """No name server could answer; asking again later may help."""


class Malformed(Exception):
    """A name or a message is not what DNS has."""


@dataclass(frozen=True, slots=True, order=True)
class Srv:
    """One SRV record."""

    target: str
    port: int
    priority: int = 0
    weight: int = 0


# ---------------------------------------------------------------- messages


def encode_name(name: str) -> bytes:
    """Encode a domain name.

    Raises:
        Malformed: It is none.
    """
    labels = name.removesuffix(".").split(".")
    try:
        encoded = [label.encode("ascii") for label in labels]
    except UnicodeEncodeError:
        raise Malformed(f"{name!r}: a domain name is ASCII") from None
    if any(not 1 <= len(label) <= 63 for label in encoded) or len(name) > 253:
        raise Malformed(f"{name!r} is no domain name")
    return b"".join(bytes((len(label),)) + label for label in encoded) + b"\0"


def encode_question(id: int, name: str) -> bytes:
    """Encode the question for the SRV records of a name."""
    question = encode_name(name) + struct.pack("!2H", _TYPE_SRV, _CLASS_IN)
    return _HEADER.pack(id, _RECURSION_WANTED, 1, 0, 0, 0) + question


def decode_name(message: bytes, at: int) -> tuple[str, int]:
    """Decode the name at a position.

    Returns:
        The name without its last dot, and the position behind it.

    Raises:
        Malformed: It is none.
    """
    labels: list[str] = []
    behind = 0
    limit = at
    """Names are abbreviated by what stands earlier; so nothing can go round in circles."""
    while True:
        size = _byte(message, at)
        if size >= 0xC0:
            target = (size & 0x3F) << 8 | _byte(message, at + 1)
            behind = behind or at + 2
            if target >= limit:
                raise Malformed("a name points forward")
            at = limit = target
        elif size >= 0x40:
            raise Malformed("a label of unknown kind")
        elif size == 0:
            return ".".join(labels), behind or at + 1
        else:
            label = message[at + 1 : at + 1 + size]
            if len(label) < size or len(labels) > 127:
                raise Malformed("a name ends early")
            labels.append(label.decode("ascii", "backslashreplace").lower())
            at += 1 + size


def _byte(message: bytes, at: int) -> int:
    if at >= len(message):
        raise Malformed("the message ends early")
    return message[at]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name server said: the records, whether they are not all, the reason if none."""

    records: tuple[Srv, ...] = ()
    is_truncated: bool = False
    failure: str = ""


def decode_answer(message: bytes, id: int, name: str) -> Answer:
    """Decode the answer to the question for the SRV records of a name.

    Raises:
        Malformed: It is no answer to that question.
    """
    try:
        found, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if found != id or not flags & _IS_ANSWER or questions != 1:
            raise Malformed("not the answer to the question")
        asked, at = decode_name(message, _HEADER.size)
        if asked != name.removesuffix(".").lower():
            raise Malformed("the answer to another question")
        at += 4
        code = flags & 0x0F
        if code and code != _NO_SUCH_NAME:
            return Answer(failure=_CODES.get(code, f"code {code}"))
        if flags & _TRUNCATED:
            return Answer(is_truncated=True)
        records = []
        for _ in range(min(answers, ANSWERS_MAX)):
            _, at = decode_name(message, at)
            kind, kind_class, _, size = struct.unpack_from("!2HIH", message, at)
            at += 10
            if (kind, kind_class) == (_TYPE_SRV, _CLASS_IN):
                priority, weight, port = struct.unpack_from("!3H", message, at)
                target, _ = decode_name(message, at + 6)
                if target:  # the root as a target says that there is no such service
                    records.append(Srv(target, port, priority, weight))
            at += size
        return Answer(tuple(sorted(records)))
    except struct.error:
        raise Malformed("the message ends early") from None


# ---------------------------------------------------------------- asking


def system_servers(path: Path = RESOLV_CONF) -> list[Server]:
    """Give the name servers that this machine uses."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [(host, DNS_PORT) for host in found] or [("127.0.0.1", DNS_PORT)]


class Resolver:
    """Asks name servers, one after the other.

    Args:
        servers: Addresses of name servers; those of the system unless given.
        attempt_s: How long one of them may take, in seconds.
    """

    def __init__(
        self, servers: Sequence[Server] | None = None, attempt_s: float = ATTEMPT_S
    ) -> None:
        self._servers = list(servers) if servers is not None else None
        self._attempt_s = attempt_s

    async def srv(self, name: str) -> tuple[Srv, ...]:
        """Give the SRV records of a name, sorted; none if there is no such name.

        Raises:
            DnsFailed: Nobody could answer.
            Malformed: It is no domain name.
        """
        servers = self._servers if self._servers is not None else system_servers()
        reason = "no name server"
        encode_name(name)
        for _ in range(ATTEMPTS):
            for server in servers:
                where = f"{server[0]} port {server[1]}"
                try:
                    answer = await self._ask(server, name)
                except TimeoutError:
                    reason = f"{where} does not answer"
                    continue
                except (OSError, Malformed, EOFError) as error:
                    reason = f"{where}: {error}"
                    continue
                if not answer.failure:
                    return answer.records
                reason = f"{where} answers {answer.failure}"
        raise DnsFailed(f"the SRV records of {name} could not be had: {reason}")

    async def _ask(self, server: Server, name: str) -> Answer:
        id = secrets.randbits(16)
        question = encode_question(id, name)
        async with asyncio.timeout(self._attempt_s):
            answer = await _over_udp(server, question, id, name)
            if answer.is_truncated:
                answer = decode_answer(await _over_tcp(server, question), id, name)
        return answer


async def _over_udp(server: Server, question: bytes, id: int, name: str) -> Answer:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | Exception] = asyncio.Queue()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Listener(arrived), remote_addr=server
    )
    try:
        transport.sendto(question)
        while True:
            message = await arrived.get()
            if isinstance(message, Exception):
                raise message
            try:
                return decode_answer(message, id, name)
            except Malformed:
                continue  # Anybody can send a datagram: the answer may still come.
    finally:
        transport.close()


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, arrived: asyncio.Queue[bytes | Exception]) -> None:
        self._arrived = arrived

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._arrived.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self._arrived.put_nowait(exc)


async def _over_tcp(server: Server, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    finally:
        writer.close()
