"""The logins of the model cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from coordinator_sdk.errors import Conflict, CoordinatorError, Unauthenticated
from coordinator_sdk.protocol.auth import (
    AUTH_FAILED,
    AUTH_NOT_ENABLED,
    INVALID_TOKEN,
    USER_EMPTY,
    Identity,
    Login,
    LoginResult,
    Reauthenticate,
)

CLOCK_MS = 5_000
"""The clock of the model's members stands in 1970: nobody may compare it with his own."""


class Gate:
    """Who may come in.

    Attributes:
        is_on: Whether anybody has to say who he is.
        passwords: Of the users.
        tokens: Those that count, with their users.
        life_ms: How long a token lives; 0 for ever.
        proofs: How often each kind of proof was tried.
        refuse: May give an error to refuse a proof with.
    """

    def __init__(self) -> None:
        self.is_on = True
        self.passwords = {"ada": "hunter2"}
        self.tokens: dict[str, str] = {}
        self.life_ms = 0
        self.proofs: Counter[str] = Counter()
        self.refuse: Callable[[Any], CoordinatorError | None] = lambda body: None

    def prove(self, body: Login | Reauthenticate) -> tuple[str, LoginResult | Identity]:
        """Take a proof; gives the token from now on, and the answer."""
        self.proofs[type(body).__name__] += 1
        if (refused := self.refuse(body)) is not None:
            raise refused
        if not self.is_on:
            raise Conflict(AUTH_NOT_ENABLED)
        expires_ms = CLOCK_MS + self.life_ms if self.life_ms else 0
        if isinstance(body, Login):
            if self.passwords.get(body.user) != body.password:
                raise Unauthenticated(AUTH_FAILED)
            token = f"token-{self.proofs['Login']}"
            self.tokens[token] = body.user
            return token, LoginResult(token, body.user, expires_ms, 1, CLOCK_MS)
        if body.token not in self.tokens:
            raise Unauthenticated(INVALID_TOKEN)
        user = self.tokens[body.token]
        return body.token, Identity(user, expires_ms=expires_ms, clock_ms=CLOCK_MS)

    def check(self, token: str) -> None:
        """Refuse whoever has not proved anything that counts."""
        if self.is_on and token not in self.tokens:
            raise Unauthenticated(INVALID_TOKEN if token else USER_EMPTY)
