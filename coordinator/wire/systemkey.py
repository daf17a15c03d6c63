"""System keys: order-preserving tuples of text and numbers.

A key of the system space is a tuple such as ``(namespace, domain, kind, name, sequence)``.
The encoding keeps the tuples' order, element by element, and no tuple's encoding is a
prefix of another one's unless the tuple itself is. It follows the tuple layer of
FoundationDB: a type byte, then the value; text ends with a zero byte, and a zero byte
inside it is escaped.
"""

from __future__ import annotations

from functools import lru_cache

_TEXT = b"\x02"
_NUMBER = b"\x15"

Part = str | int


def pack(*parts: Part) -> bytes:
    """Encode a tuple.

    Args:
        parts: Text, or numbers from 0 to 2**63 - 1.

    Returns:
        The key. Keys compare as their tuples do.
    """
    # Keys differ mostly in their last element: what comes before it is remembered.
    return _join(parts[:-1]) + _element(parts[-1])


@lru_cache(maxsize=4096)
def _join(parts: tuple[Part, ...]) -> bytes:
    return b"".join([_element(part) for part in parts])


def _element(part: Part) -> bytes:
    return _text(part) if type(part) is str else _number(part)


@lru_cache(maxsize=4096)
def _text(part: str) -> bytes:
    return _TEXT + part.encode("utf-8", "surrogatepass").replace(b"\x00", b"\x00\xff") + b"\x00"


def _number(part: Part) -> bytes:
    assert type(part) is int
    assert 0 <= part < 1 << 63
    return _NUMBER + part.to_bytes(8, "big")


def children(*parts: Part) -> tuple[bytes, bytes]:
    """Give the range [start, end) of all keys that extend the tuple ``parts``."""
    prefix = pack(*parts)
    return prefix, prefix + b"\xff"


def text_prefix(*parts: Part, prefix: str) -> tuple[bytes, bytes]:
    """Give the range of keys whose next element is text that starts with ``prefix``."""
    start = pack(*parts) + _text(prefix)[:-1]
    return start, start + b"\xff" * 5


def unpack(key: bytes) -> tuple[Part, ...]:
    """Decode a key that `pack` made.

    Raises:
        ValueError: ``key`` is not a packed tuple.
    """
    parts: list[Part] = []
    at = 0
    while at < len(key):
        kind = key[at : at + 1]
        if kind == _NUMBER:
            parts.append(int.from_bytes(key[at + 1 : at + 9], "big"))
            at += 9
        elif kind == _TEXT:
            end = key.index(b"\x00", at + 1)
            while key[end + 1 : end + 2] == b"\xff":
                end = key.index(b"\x00", end + 2)
            raw = key[at + 1 : end].replace(b"\x00\xff", b"\x00")
            parts.append(raw.decode("utf-8", "surrogatepass"))
            at = end + 1
        else:
            raise ValueError(f"not a system key: unknown type byte {kind!r} at {at}")
    return tuple(parts)
