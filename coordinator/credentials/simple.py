"""Simple tokens, as etcd calls those that are no JSON Web Tokens.

One says who, since when and at which revision, sealed with a secret that all members share. It goes
on being good while it is used: on the member that it is used at.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from coordinator.credentials.proof import Proof, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SEAL_BYTES: Final = 32
LENGTH_MAX: Final = 1024
REMEMBERED_MAX: Final = 16_384
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([0-9]+)")


class _Facts(Struct, array_like=True):
    kid: str
    user: str
    revision: int
    issued_ms: int


def sealed_part(token: str) -> bytes:
    """Give what is sealed of a token that was believed: all texts of one token have the same."""
    text = token.partition(".")[0]
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))[:-SEAL_BYTES]


_decode = msgspec.msgpack.Decoder(_Facts).decode


class SimpleTokens:
    """Issues simple tokens and believes them.

    Args:
        secrets: Gives the secrets by name, the newest last.
        life_ms: How long one is good without being used.
    """

    def __init__(self, secrets: Callable[[], Mapping[str, bytes]], life_ms: int) -> None:
        self._secrets = secrets
        self._life_ms = life_ms
        self._used: dict[str, int] = {}

    def issue(self, kid: str, user: str, revision: int, now_ms: int) -> tuple[str, int]:
        """Issue a token.

        Args:
            kid: The name of the secret that it is sealed with.
            user: Whom it is about.
            revision: The revision of users and roles at which that was proved.
            now_ms: Unix time.

        Returns:
            The token, and the Unix time in ms from which on it is void unless it is used.
        """
        facts = msgspec.msgpack.encode(_Facts(kid, user, revision, now_ms))
        sealed = facts + self._seal(self._secrets()[kid], facts)
        text = urlsafe_b64encode(sealed).rstrip(b"=").decode()
        return f"{text}.{revision}", now_ms + self._life_ms

    def verify(self, token: str, now_ms: int) -> Proof:
        """Believe a token, or not.

        Args:
            token: The token.
            now_ms: Unix time.

        Raises:
            Refused: It proves nothing.
        """
        parts = _FORM.fullmatch(token) if len(token) <= LENGTH_MAX else None
        if parts is None:
            raise Refused("no simple token")
        text, revision = parts.groups()
        try:
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            facts = _decode(sealed[:-SEAL_BYTES])
        except (ValueError, RecursionError):
            raise Refused("no simple token") from None
        secret = self._secrets().get(facts.kid)
        if (
            revision != str(facts.revision)
            or secret is None
            or not hmac.compare_digest(
                self._seal(secret, sealed[:-SEAL_BYTES]), sealed[-SEAL_BYTES:]
            )
        ):
            raise Refused("its seal is wrong")
        used_ms = self._used.get(token, facts.issued_ms)
        if now_ms >= used_ms + self._life_ms:
            self._used.pop(token, None)
            raise Refused("expired")
        if len(self._used) >= REMEMBERED_MAX:
            self._used.clear()
        self._used[token] = now_ms
        return Proof(facts.user, facts.revision, expires_ms=now_ms + self._life_ms, is_login=True)

    def forget(self, token: str) -> None:
        """Forget that a token was used."""
        self._used.pop(token, None)

    def _seal(self, secret: bytes, facts: bytes) -> bytes:
        return hmac.digest(secret, b"simple token\0" + facts, "sha256")
