"""Tokens that must not be believed, each by what is wrong with it.

Those that an attacker makes use what an attacker has: a token that was believed once, and the
public key. The others are signed with the right key, as by an issuer that makes mistakes.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from tests.credentials.keys import Private, part, public_bytes, rsa_key, token


def parts_of(good: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Take a token apart."""
    header, claims, signature = good.split(".")
    return _read(header), _read(claims), signature


def _read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def forgeries(good: str, key: Private) -> dict[str, str]:
    """Give forged tokens.

    Args:
        good: A token that is believed, signed with ``key``.
        key: The private key that it was signed with.
    """
    header, claims, signature = parts_of(good)
    return (
        _of_an_attacker(good, header, claims, signature, key)
        | _with_wrong_claims(header, claims, key)
        | _without_form(good, header, claims, signature, key)
    )


def _of_an_attacker(
    good: str, header: dict[str, Any], claims: dict[str, Any], signature: str, key: Private
) -> dict[str, str]:
    root = claims | {"sub": "root"}
    secret = {**header, "alg": "HS256"}
    public = {
        "hmac with the public key, PEM": public_bytes(key),
        "hmac with the public key, DER": public_bytes(key, Encoding.DER),
        "hmac with the public key, OpenSSH": public_bytes(key, Encoding.OpenSSH),
        "hmac with an empty key": b"",
        "hmac with the name of the key": header["kid"].encode(),
    }
    mallory = rsa_key("mallory")
    numbers = mallory.public_key().public_numbers()
    own = {"kty": "RSA", "e": "AQAB", "n": part(numbers.n.to_bytes(256, "big"))}
    found = {name: token(secret, root, data) for name, data in public.items()}
    for none in ("none", "None", "nOnE", ""):
        found[f"alg {none!r}"] = token({**header, "alg": none}, root, None)
    return found | {
        "no alg": token({"kid": header["kid"]}, root, mallory),
        "claims changed": f"{part(header)}.{part(root)}.{signature}",
        "header changed": f"{part(header | {'typ': 'jwt'})}.{good.split('.', 1)[1]}",
        "no signature": good.rpartition(".")[0] + ".",
        "half a signature": good[: -len(signature) // 2],
        "another signature": f"{good.rpartition('.')[0]}.{part(bytes(256))}",
        "another key under its name": token(header, root, mallory),
        "a key that nobody knows": token(header | {"kid": "mallory"}, root, mallory),
        "a key within": token(header | {"jwk": own}, root, mallory),
        "a key elsewhere": token(header | {"jku": "http://127.0.0.1/k"}, root, mallory),
        "a file as key": token(header | {"kid": "../../../dev/null"}, root, b"\0"),
        "a query as key": token(header | {"kid": "x' UNION SELECT 'k"}, root, b"k"),
    }


def _with_wrong_claims(
    header: dict[str, Any], claims: dict[str, Any], key: Private
) -> dict[str, str]:
    issued = claims["iat"]

    def without(name: str) -> dict[str, Any]:
        return {one: value for one, value in claims.items() if one != name}

    wrong = {
        "expired": claims | {"iat": issued - 7200, "exp": issued - 3600},
        "good until the year 9999": claims | {"exp": 253402300799},
        "issued in the future": claims | {"iat": issued + 3000},
        "not good yet": claims | {"nbf": issued + 3000},
        "exp as text": claims | {"exp": str(claims["exp"])},
        "exp is true": claims | {"exp": True},
        "exp is no number": claims | {"exp": float("nan")},
        "exp is infinite": claims | {"exp": float("inf")},
        "of another issuer": claims | {"iss": "mallory"},
        "of several issuers": claims | {"iss": [claims["iss"], "mallory"]},
        "for another audience": claims | {"aud": "billing"},
        "for nobody": claims | {"aud": []},
        "about nobody": claims | {"sub": ""},
        "about a number": claims | {"sub": 1},
        "revision of text": claims | {"revision": "9"},
        "revision below zero": claims | {"revision": -1},
    }
    wrong |= {f"without {name}": without(name) for name in ("exp", "iat", "iss", "aud", "sub")}
    return {name: token(header, one, key) for name, one in wrong.items()}


def _without_form(
    good: str, header: dict[str, Any], claims: dict[str, Any], signature: str, key: Private
) -> dict[str, str]:
    deep = b'{"alg":"RS256","kid":"k","x":' + b"[" * 900 + b"]" * 900 + b"}"
    return {
        "an unknown extension": token(header | {"crit": ["exp"], "exp": "1"}, claims, key),
        "an unencoded payload": token(header | {"b64": False, "crit": ["b64"]}, claims, key),
        "no name of a key": token({"alg": header["alg"]}, claims, key),
        "an empty name of a key": token(header | {"kid": ""}, claims, key),
        "a number as name of a key": token(header | {"kid": 1}, claims, key),
        "another algorithm of its family": token(header | {"alg": "RS512"}, claims, key),
        "several algorithms": token(header | {"alg": [header["alg"]]}, claims, key),
        "a token within": token(header | {"cty": "JWT"}, claims, key),
        "another type": token(header | {"typ": "dpop+jwt"}, claims, key),
        "a deep header": token(deep, claims, key),
        "deep claims": token(header, b"[" * 1200 + b"]" * 1200, key),
        "claims that are a list": token(header, [claims], key),
        "claims that are no JSON": token(header, b"\xff\xfe", key),
        "a header that is no JSON": token(b"alg=none", claims, key),
        "too long": token(header, claims | {"x": "x" * 4096}, key),
        "two parts": ".".join(good.split(".")[:2]),
        "four parts": f"{good}.{signature}",
        "five parts": f"{good}.a.b",
        "padding": good + "=",
        "other letters": good.replace(".", ".+/", 1),
        "a line end": good[:20] + "%0A" + good[20:],
        "nothing but dots": "..",
    }
