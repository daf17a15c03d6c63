"""The load that every client puts on every server: what is written, where, by how many."""

from __future__ import annotations

SECONDS = 3.0
VALUE = b"v" * 256
KEYS = 10_000
CALLERS = 64


def key(number: int) -> bytes:
    """Give the key of a call; calls that follow each other go to keys far apart."""
    return b"bench/%08d" % (number * 7919 % KEYS)
