"""What ``--auth-token`` says, in etcd's words: how tokens are made."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.config.values import duration_ms

JWT, SIMPLE = "jwt", "simple"
METHODS = ("HS256", "RS256", "ES256")
JWT_TTL_MS = 3_600_000
SIMPLE_TTL_MS = 300_000
TTL_MS_MAX = 31 * 86_400_000
_OPTIONS = "pub-key, priv-key, sign-method, ttl"


@dataclass(frozen=True)
class TokenSetting:
    """How tokens are made.

    Attributes:
        kind: `JWT` or `SIMPLE`.
        sign_method: The one algorithm of JSON Web Tokens.
        pub_keys: Files of the keys that they are verified with; several while keys change.
        priv_key: File of the key that they are signed with. Without files, the key is a secret
            that the members share.
        ttl_ms: How long a token is good.
    """

    kind: str = JWT
    sign_method: str = "HS256"
    pub_keys: tuple[str, ...] = ()
    priv_key: str = ""
    ttl_ms: int = JWT_TTL_MS

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it names."""
        return tuple(dict.fromkeys((*self.pub_keys, *filter(None, (self.priv_key,)))))

    @property
    def is_shared(self) -> bool:
        """Whether tokens are signed with a secret that the members share."""
        return not self.files


def parse_token_setting(text: str) -> TokenSetting:
    """Read ``simple``, ``jwt``, or ``jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=10m``.

    ``pub-key`` may stand there several times.

    Raises:
        ValueError: It is written otherwise.
    """
    kind, *rest = [part.strip() for part in text.split(",")]
    if kind not in (JWT, SIMPLE):
        raise ValueError("simple, or jwt and its options")
    given: dict[str, list[str]] = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if not equals or not value or name not in _OPTIONS.split(", "):
            raise ValueError(f"the options are {_OPTIONS}, each written as NAME=VALUE")
        given.setdefault(name, []).append(value)
    if any(len(values) > 1 for name, values in given.items() if name != "pub-key"):
        raise ValueError("only pub-key may stand there several times")
    ttl_ms = duration_ms(given["ttl"][0]) if "ttl" in given else 0
    if "ttl" in given and not 1000 <= ttl_ms <= TTL_MS_MAX:
        raise ValueError("ttl from 1s to 744h")
    if kind == SIMPLE:
        if set(given) - {"ttl"}:
            raise ValueError("simple tokens have the option ttl only")
        return TokenSetting(SIMPLE, ttl_ms=ttl_ms or SIMPLE_TTL_MS)
    method = given.get("sign-method", ["HS256"])[0]
    if method not in METHODS:
        raise ValueError(f"sign-method is one of {', '.join(METHODS)}")
    made = TokenSetting(
        JWT,
        method,
        tuple(given.get("pub-key", ())),
        given.get("priv-key", [""])[0],
        ttl_ms or JWT_TTL_MS,
    )
    if method != "HS256" and made.is_shared:
        raise ValueError(f"{method} needs pub-key or priv-key")
    return made
