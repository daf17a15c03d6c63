"""Hellos: how they are written, and what is wrong with one."""

from __future__ import annotations

from typing import Final

import msgspec

from coordinator.transport.frames import Violation
from coordinator.transport.ports import PEER_FORMAT, PeerHello, Purpose

REFUSAL_CHARACTERS_MAX: Final = 500
"""So that a hello with a refusal stays below the limit for hellos."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(PeerHello)


def encode_hello(hello: PeerHello) -> bytes:
    """Write a hello."""
    return _encoder.encode(hello)


def decode_hello(body: bytes) -> PeerHello:
    """Read a hello.

    Raises:
        Violation: It is none.
    """
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Violation(f"an unreadable hello: {error}") from None


def anonymous(purpose: Purpose) -> PeerHello:
    """Say hello as one who is nobody yet."""
    return PeerHello(PEER_FORMAT, 0, 0, 0, 0, purpose)


def answer(own: PeerHello, hello: PeerHello, refusal: str) -> PeerHello:
    """Answer a hello."""
    return msgspec.structs.replace(
        own,
        purpose=hello.purpose,
        target=hello.member,
        refusal=refusal[:REFUSAL_CHARACTERS_MAX],
    )


def format_problem(hello: PeerHello) -> str:
    """Say what is wrong with the format of somebody, or ""."""
    if hello.format == PEER_FORMAT:
        return ""
    return f"peer format {hello.format} is not the one spoken here, which is {PEER_FORMAT}"


def problem_of_caller(hello: PeerHello, own: PeerHello) -> str:
    """Say what is wrong with one who dialled us, apart from who it is, or ""."""
    if problem := format_problem(hello):
        return problem
    if hello.purpose not in list(Purpose):
        return f"purpose {hello.purpose} is not known here"
    if hello.target and hello.target != own.member:
        return f"this is member {own.member:x}, not {hello.target:x}"
    if hello.purpose == Purpose.INQUIRY:
        return ""
    if not hello.member:
        return "a member without an id can only inquire"
    if hello.member == own.member:
        return f"this is member {own.member:x} itself"
    return ""


def problem_of_answer(hello: PeerHello, target: int) -> str:
    """Say what is wrong with one who answered us, apart from who it is, or ""."""
    if problem := format_problem(hello):
        return problem
    if target and hello.member != target:
        return f"member {hello.member:x} answers there, not {target:x}"
    return ""
