"""What signs and verifies tokens, for one algorithm and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jose.backends.base import Key

KID_CHARACTERS_MAX: Final = 128


class WrongKey(ValueError):
    """A key can't be used; says why, and never quotes it."""


class TokenKey:
    """A key.

    Attributes:
        kid: Its name in the header of tokens.
        algorithm: The one algorithm that it is for.
        verifying: Verifies signatures.
        signing: Makes them; None if this key only verifies.
        public: It as a JSON Web Key; None for a secret.
    """

    __slots__ = ("algorithm", "kid", "public", "signing", "verifying")

    def __init__(
        self,
        kid: str,
        algorithm: str,
        verifying: Key,
        signing: Key | None = None,
        public: dict[str, str] | None = None,
    ) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.verifying = verifying
        self.signing = signing
        self.public = public

    def __repr__(self) -> str:
        return f"TokenKey(kid={self.kid!r}, algorithm={self.algorithm!r})"
