"""Tokens that are void before they expire, because their users have logged out with them.

A member remembers those itself, until they expire; the others hear nothing of it. A user can make
the member remember only so many, and nobody else's are forgotten for them.
"""

from __future__ import annotations

import hashlib
from typing import Final

from coordinator.credentials.simple import sealed_part
from coordinator.credentials.tokens import looks_like_token

OF_USER_MAX: Final = 256
"""Tokens of one user that are remembered; of more, those that were first are forgotten."""


class VoidTokens:
    """What is believed no more."""

    def __init__(self) -> None:
        self._by_user: dict[str, dict[bytes, int]] = {}

    def add(self, user: str, token: str, expires_ms: int, now_ms: int) -> None:
        """Make a token void.

        Args:
            user: Whom it stands for.
            token: The token, believed up to now.
            expires_ms: Unix time from which on it need not be remembered.
            now_ms: Unix time.
        """
        self._sweep(now_ms)
        marks = self._by_user.setdefault(user, {})
        marks[_mark(token)] = expires_ms
        if len(marks) > OF_USER_MAX:
            del marks[next(iter(marks))]

    def holds(self, user: str, token: str) -> bool:
        """Tell whether a token, believed otherwise, is void."""
        marks = self._by_user.get(user)
        return marks is not None and _mark(token) in marks

    def __len__(self) -> int:
        return sum(map(len, self._by_user.values()))

    def _sweep(self, now_ms: int) -> None:
        kept = {
            user: {mark: until for mark, until in marks.items() if until > now_ms}
            for user, marks in self._by_user.items()
        }
        self._by_user = {user: marks for user, marks in kept.items() if marks}


def _mark(token: str) -> bytes:
    """Give what all texts of a token have in common: a signature can be written in several ways."""
    if looks_like_token(token):
        return hashlib.sha256(token.rpartition(".")[0].encode()).digest()
    return hashlib.sha256(b"simple\0" + sealed_part(token)).digest()
