"""Keys and values as callers give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .errors import InvalidRequest

if TYPE_CHECKING:
    from .protocol.kv import Guard

Bytes = str | bytes | bytearray | memoryview
"""Text is encoded as UTF-8."""

EVERYTHING = b"\0"
"""As the end of a range: no end."""


@runtime_checkable
class Guarding(Protocol):
    """Something held that can guard a write, such as a lock or a leadership."""

    def guard(self) -> Guard:
        """Proof of ownership, for the server to check before it writes."""


def to_bytes(value: Bytes, name: str) -> bytes:
    """Turn what a caller gave into bytes.

    Raises:
        InvalidRequest: It is neither text nor bytes.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{name}: is not Unicode text: {error}", field=name) from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvalidRequest(f"{name}: expected str or bytes, got {type(value).__name__}", field=name)


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with ``prefix``."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes((prefix[at] + 1,))
    return EVERYTHING


def key_range(
    key: Bytes | None, prefix: Bytes | None, range_end: Bytes | None
) -> tuple[bytes, bytes]:
    """Turn a key, a prefix or a pair of bounds into the bounds of a range.

    Returns:
        The first key, and the end; an empty end means one key.

    Raises:
        InvalidRequest: None or more than one of them is given.
    """
    if prefix is not None:
        if key is not None or range_end is not None:
            raise InvalidRequest("prefix: excludes key and range_end", field="prefix")
        start = to_bytes(prefix, "prefix")
        return (start, prefix_end(start)) if start else (EVERYTHING, EVERYTHING)
    if key is None:
        raise InvalidRequest("key: a key or a prefix is required", field="key")
    end = b"" if range_end is None else to_bytes(range_end, "range_end")
    return to_bytes(key, "key"), end


def to_guard(guard: Guarding | Guard | None) -> Guard | None:
    """Turn what is held into the proof that travels with a write."""
    return guard.guard() if isinstance(guard, Guarding) else guard


class Identified(Protocol):
    """Something with an id, such as a lease."""

    @property
    def id(self) -> int:
        """Its id."""


def lease_id(lease: int | Identified) -> int:
    """The id of a lease given as such or by its id."""
    return lease if isinstance(lease, int) else lease.id


def to_milliseconds(seconds: float, name: str) -> int:
    """Turn seconds into whole milliseconds.

    Raises:
        InvalidRequest: It is not a number of seconds from 0 to ten years.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidRequest(f"{name}: expected seconds, got {seconds!r}", field=name)
    if not 0 <= seconds <= 315_360_000:
        raise InvalidRequest(f"{name}: {seconds!r} is out of range", field=name)
    return max(1, round(seconds * 1000)) if seconds else 0
