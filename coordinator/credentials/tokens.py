"""JSON Web Tokens: the one place that python-jose is used for them, and what stands in front of it.

python-jose believes more than it should: an algorithm that the token names, any depth of JSON, a
token that never expires, extensions that it does not know. So a token is looked at before, and its
claims after: its size, its three parts, a header without depth, the algorithm of the key that it
names and no other, and the claims that every token must have. Whatever else may go wrong in it,
the answer is `Refused`.

The library is loaded with the first token: a member without users does without.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from coordinator.credentials.proof import Refused
from coordinator.credentials.token_key import KID_CHARACTERS_MAX, TokenKey, WrongKey

TOKEN_BYTES_MAX: Final = 4096
HEADER_BYTES_MAX: Final = 1024
LIFE_SECONDS_MAX: Final = 31 * 86_400
"""A token that is good for longer is refused, whoever signed it."""
SKEW_SECONDS: Final = 60
"""How far the clock of who issued a token may be ahead."""
USER_BYTES_MAX: Final = 256
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_header: Final = msgspec.json.Decoder(dict[str, str])
_claims: Final = msgspec.json.Decoder(dict[str, Any])
_KNOWN_TYPES: Final = (None, "JWT", "jwt", "at+jwt", "application/jwt")


@dataclass(frozen=True)
class Claims:
    """What a token says, once it is believed.

    Attributes:
        subject: Whom it is about.
        expires_ms: Unix time from which on it says nothing.
        revision: The revision of users and roles at which it was issued; 0 if it tells none.
        began_ms: Unix time of the login that it goes back to, at the latest that of its issue.
    """

    subject: str
    expires_ms: int
    revision: int = 0
    began_ms: int = 0


@dataclass(frozen=True)
class Issuer:
    """Somebody whose tokens are believed.

    Attributes:
        name: Its name, ``iss``.
        audience: For whom its tokens are, ``aud``.
        keys: Its keys, by their names.
        subject: The claim that names the user.
    """

    name: str
    audience: str
    keys: Mapping[str, TokenKey] = field(repr=False)
    subject: str = "sub"


def looks_like_token(text: str) -> bool:
    """Tell whether a credential has the form of a JSON Web Token."""
    return text.count(".") == 2


def kid_of(token: str) -> str:
    """Give the name of the key that a token says to be signed with.

    Raises:
        Refused: It is no token that could be believed.
    """
    return _header_of(token)["kid"]


def _header_of(token: str) -> dict[str, str]:
    from jose.utils import base64url_decode

    if len(token) > TOKEN_BYTES_MAX:
        raise Refused(f"longer than {TOKEN_BYTES_MAX} bytes")
    parts = _FORM.fullmatch(token)
    if parts is None:
        raise Refused("not of three parts in base64url")
    if len(parts[1]) > HEADER_BYTES_MAX:
        raise Refused("its header is too long")
    try:
        header = _header.decode(base64url_decode(parts[1].encode()))
    except (ValueError, RecursionError):
        # Everything that a header may hold here is text: what nests is refused unread.
        raise Refused("its header is no flat JSON object of texts") from None
    if "crit" in header or "b64" in header:
        raise Refused("its header asks for an extension that is not known")
    if header.get("typ") not in _KNOWN_TYPES or "cty" in header or "enc" in header:
        raise Refused("its header tells another type")
    if not 0 < len(header.get("kid", "")) <= KID_CHARACTERS_MAX:
        raise Refused("its header names no key")
    return header


def verify(token: str, issuer: Issuer, now_seconds: float) -> Claims:
    """Believe a token, or not.

    Args:
        token: The token.
        issuer: Who must have issued it.
        now_seconds: Unix time.

    Raises:
        Refused: It proves nothing.
    """
    from jose import jws

    header = _header_of(token)
    key = issuer.keys.get(header["kid"])
    if key is None:
        raise Refused("signed with a key that is not known")
    if header.get("alg") != key.algorithm:
        raise Refused("signed with another algorithm than its key is for")
    try:
        payload = jws.verify(token, key.verifying, [key.algorithm])
    except Exception as error:
        # Of an attacker's bytes anything may come; nothing of it says more than this.
        raise Refused("its signature is wrong") from error
    try:
        claims = _claims.decode(payload)
    except (ValueError, RecursionError):
        raise Refused("its claims are no JSON object") from None
    return _believed(claims, issuer, now_seconds)


def _believed(claims: dict[str, Any], issuer: Issuer, now_seconds: float) -> Claims:
    if claims.get("iss") != issuer.name:
        raise Refused("of another issuer")
    audience = claims.get("aud")
    heard = audience if isinstance(audience, list) else [audience]
    if issuer.audience not in heard or len(heard) > 16:
        raise Refused("for another audience")
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if expires <= now_seconds:
        raise Refused("expired")
    if issued > now_seconds + SKEW_SECONDS:
        raise Refused("issued in the future")
    if expires - issued > LIFE_SECONDS_MAX:
        raise Refused("good for too long")
    if "nbf" in claims and _time(claims, "nbf") > now_seconds + SKEW_SECONDS:
        raise Refused("not good yet")
    subject, revision = claims.get(issuer.subject), claims.get("revision", 0)
    if not isinstance(subject, str) or not 0 < len(subject.encode()) <= USER_BYTES_MAX:
        raise Refused(f"without the claim {issuer.subject!r}")
    if type(revision) is not int or not 0 <= revision < 1 << 63:
        raise Refused("its revision is none")
    began = min(issued, _time(claims, "began")) if "began" in claims else issued
    return Claims(subject, int(expires * 1000), revision, int(began * 1000))


def _time(claims: dict[str, Any], name: str) -> float:
    found = claims.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1 << 40:
        raise Refused(f"without the time {name!r}")
    return float(found)


def issue(
    issuer: Issuer,
    key: TokenKey,
    user: str,
    revision: int,
    now_seconds: float,
    life_seconds: float,
    began_ms: int = 0,
) -> tuple[str, int]:
    """Issue a token.

    Args:
        issuer: Who issues it.
        key: What it is signed with.
        user: Whom it is about.
        revision: The revision of users and roles at which that was proved.
        now_seconds: Unix time.
        life_seconds: How long it is good for.
        began_ms: Unix time of the login that it goes back to; 0 for now.

    Returns:
        The token, and the Unix time in ms from which on it is void.

    Raises:
        WrongKey: The key only verifies.
    """
    from jose import jws

    if key.signing is None:
        raise WrongKey("the key only verifies")
    expires = math.ceil(now_seconds + life_seconds)
    claims = {
        "iss": issuer.name,
        "aud": issuer.audience,
        "sub": user,
        "iat": int(now_seconds),
        "exp": expires,
        "jti": secrets.token_urlsafe(9),
        "revision": revision,
    }
    if began_ms:
        claims["began"] = began_ms // 1000
    token = jws.sign(claims, key.signing, {"kid": key.kid}, key.algorithm)
    return str(token), expires * 1000
