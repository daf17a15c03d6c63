"""Who the client is: what it says first on every connection, and says again before that expires.

No loop and no socket; time is an argument, in seconds of the client's clock, and randomness is
handed in. Only the function of a `Token` is called from here.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

from .credentials import ApiKey, Credential, Password, Token
from .errors import (
    Conflict,
    ConnectFailed,
    CoordinatorError,
    InvalidRequest,
    PermissionDenied,
    Unauthenticated,
)
from .protocol.auth import AUTH_NOT_ENABLED, Identity, Login, LoginResult, Reauthenticate

if TYPE_CHECKING:
    from collections.abc import Callable

Proof = Login | Reauthenticate
ANSWERS: dict[type[Proof], type[LoginResult] | type[Identity]] = {
    Login: LoginResult,
    Reauthenticate: Identity,
}
"""What a proof is answered with."""

NEVER = float("inf")
RENEW_FROM, RENEW_SPREAD = 0.5, 0.25
"""The part of a token's life after which it is renewed, and how far that is spread: clients that
were started together do not come back all at once."""

_ADVICE: dict[type[Any], str] = {
    type(None): "authentication is on: pass auth=Password(...), Token(...) or ApiKey(...)",
    Password: "check the user and the password in auth=Password(...)",
    Token: "the token of auth=Token(...) is wrong, or has expired: pass a fresh one, or a function "
    "that gives fresh ones",
    ApiKey: "the key of auth=ApiKey(...) is wrong, revoked or expired: make another one with "
    "`coordctl api-key create`",
}


class Prover:
    """Knows how to prove who the client is.

    Attributes:
        is_anonymous: Whether the cluster did not want to know, as its authentication was off.
    """

    def __init__(self, auth: Credential | None, random: Callable[[], float]) -> None:
        if not isinstance(auth, Credential | None):
            raise InvalidRequest(
                "auth: is Password(...), Token(...) or ApiKey(...), or None", field="auth"
            )
        self._auth = auth
        self._random = random
        self._token = ""
        self._renew_at = self._expires_at = NEVER
        self.is_anonymous = False

    @property
    def has_credential(self) -> bool:
        """Whether there is anything to prove with."""
        return self._auth is not None

    async def proof(self, at: float, *, is_renewal: bool = False) -> Proof | None:
        """Make the request that proves who the client is; None if it has no credential.

        Args:
            at: The time.
            is_renewal: Whether what was proved with before is not enough any more.

        Raises:
            ConnectFailed: The function of the token failed; it may work later.
            Unauthenticated: It gave no token.
        """
        auth = self._auth
        if auth is None:
            return None
        if self._token and at < self._renew_at and not is_renewal:
            return Reauthenticate(self._token)
        if isinstance(auth, Password):
            return Login(auth.user, auth.password)
        if isinstance(auth, ApiKey):
            return Reauthenticate(auth.key.strip())
        try:
            return Reauthenticate(await _text_of(auth))
        except ConnectFailed:
            if self._token and at < self._expires_at and not is_renewal:
                return Reauthenticate(self._token)
            raise

    def accepted(self, proof: Proof, result: LoginResult | Identity, at: float) -> None:
        """Take note that a proof was accepted.

        Args:
            proof: What was proved with.
            result: The answer.
            at: When the proof was sent.
        """
        self.is_anonymous = False
        token = result.token if isinstance(result, LoginResult) else _token_of(proof)
        if token == self._token:
            return  # Its end is known.
        self._token, life = token, NEVER
        if result.expires_ms:
            life = (result.expires_ms - (result.clock_ms or time.time() * 1000)) / 1000
        self._expires_at = at + life
        self._renew_at = at + life * (RENEW_FROM + RENEW_SPREAD * self._random())

    def refused(self, proof: Proof, error: CoordinatorError) -> bool:
        """Take note that a proof was refused.

        Returns:
            Whether that is no failure: nobody wants to know, or there is another way at once.
        """
        self.is_anonymous = isinstance(error, Conflict) and error.message == AUTH_NOT_ENABLED
        if self.is_anonymous:
            self._token, self._renew_at = "", NEVER
            return True
        was_kept = bool(self._token) and _token_of(proof) == self._token
        if was_kept and self._is_renewable and isinstance(error, Unauthenticated):
            self._token = ""
            return True
        return False

    def postpone(self, at: float, error: CoordinatorError) -> None:
        """Try no earlier than ``at``; never by itself if proving again can't help."""
        self._renew_at = NEVER if isinstance(error, Unauthenticated) else at

    def is_due(self, at: float) -> bool:
        """Whether to prove again now, while what was proved before still counts."""
        return at >= self._renew_at and self._is_renewable

    def next_at(self) -> float | None:
        """When it is due; None for never."""
        return self._renew_at if self._renew_at < NEVER and self._is_renewable else None

    @property
    def _is_renewable(self) -> bool:
        auth = self._auth
        return isinstance(auth, Password) or (isinstance(auth, Token) and callable(auth.token))

    @property
    def token(self) -> str:
        """What was proved with, or given for it; empty for nothing."""
        return self._token

    def headers(self) -> dict[str, str]:
        """Give what a plain HTTP request carries to be this client's."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def advised(self, error: CoordinatorError) -> CoordinatorError:
        """Give a refusal with what mends it; other errors as they are."""
        if not isinstance(error, Unauthenticated) or "reply" in error.details:
            return error
        advice = _ADVICE[type(self._auth)]
        return Unauthenticated(
            f"{error.message}; {advice}", **{**error.details, "reply": error.message}
        )

    def is_wanted(self, error: CoordinatorError) -> bool:
        """Whether a refusal says that the client should prove again who it is."""
        if self._auth is None:
            return False
        return isinstance(error, Unauthenticated) or (
            self.is_anonymous and isinstance(error, PermissionDenied)
        )


def _token_of(proof: Proof) -> str:
    return proof.token if isinstance(proof, Reauthenticate) else ""


async def _text_of(auth: Token) -> str:
    made: Any = auth.token
    try:
        if inspect.iscoroutinefunction(made):
            made = made()
        elif callable(made):
            made = await asyncio.to_thread(made)
        if inspect.isawaitable(made):
            made = await made
    except Exception as error:
        # Its words are not ours to repeat: they may hold what it asked with.
        raise ConnectFailed(
            f"the function of auth=Token(...) failed with {type(error).__name__}"
        ) from error
    if not isinstance(made, str) or not made.strip():
        raise Unauthenticated("the function of auth=Token(...) gave no token", reply="")
    return made.strip()
