"""JSON Web Tokens: what is believed, and everything that is not."""

from __future__ import annotations

import json
from functools import cache

import pytest

from coordinator.credentials import keys as made
from coordinator.credentials.proof import Refused
from coordinator.credentials.token_key import TokenKey, WrongKey
from coordinator.credentials.tokens import Issuer, issue, kid_of, verify
from tests.credentials.forgeries import forgeries, parts_of
from tests.credentials.keys import (
    SECRET,
    ec_key,
    part,
    private_pem,
    public_bytes,
    rsa_key,
    token,
)

NOW = 1_700_000_000.0


def keys() -> dict[str, TokenKey]:
    """Give a key for each algorithm."""
    return {
        "HS256": made.secret_key(SECRET),
        "RS256": made.private_key(private_pem(rsa_key()), "RS256"),
        "ES256": made.private_key(private_pem(ec_key()), "ES256"),
    }


def issuer(*trusted: TokenKey) -> Issuer:
    """Give an issuer with some keys."""
    return Issuer("us", "them", {one.kid: one for one in trusted})


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
def test_what_is_issued_is_believed(algorithm: str) -> None:
    """A token says who, at which revision and until when; the key that it names verifies it."""
    key = keys()[algorithm]
    text, expires_ms = issue(issuer(key), key, "ana", 7, NOW, 600)
    header, claims, _ = parts_of(text)
    assert header == {"alg": algorithm, "typ": "JWT", "kid": key.kid}
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("us", "them", "ana")
    assert kid_of(text) == key.kid
    found = verify(text, issuer(key), NOW)
    assert (found.subject, found.revision, found.expires_ms) == ("ana", 7, expires_ms)
    assert expires_ms == (NOW + 600) * 1000
    with pytest.raises(Refused, match="expired"):
        verify(text, issuer(key), NOW + 600)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_the_public_half_verifies(algorithm: str) -> None:
    """A member that has the public key alone believes tokens, and can't issue any."""
    key = keys()[algorithm]
    private = rsa_key() if algorithm == "RS256" else ec_key()
    public = made.public_key(public_bytes(private), algorithm)
    assert public.kid == key.kid
    text, _ = issue(issuer(key), key, "ana", 1, NOW, 60)
    assert verify(text, issuer(public), NOW).subject == "ana"
    with pytest.raises(WrongKey):
        issue(issuer(public), public, "ana", 1, NOW, 60)


def test_a_token_by_hand_is_believed() -> None:
    """The tokens that the forgeries are made of would be believed, were nothing wrong with them."""
    key = keys()["RS256"]
    claims = {"iss": "us", "aud": ["them", "others"], "sub": "ana", "iat": NOW, "exp": NOW + 60}
    text = token({"alg": "RS256", "kid": key.kid}, claims, rsa_key())
    assert verify(text, issuer(key), NOW).subject == "ana"


@cache
def forged() -> dict[str, str]:
    """Make every forgery of a token of an RSA key."""
    key = keys()["RS256"]
    good, _ = issue(issuer(key), key, "ana", 1, NOW, 600)
    return forgeries(good, rsa_key())


@pytest.mark.parametrize("name", list(forged()))
def test_a_forged_token_is_refused(name: str) -> None:
    """A forged token is refused, whatever keys are trusted beside the one it speaks of."""
    text = forged()[name]
    trusted = issuer(*keys().values())
    with pytest.raises(Refused) as refused:
        verify(text, trusted, NOW)
    assert text not in str(refused.value)


def test_there_are_enough_forgeries() -> None:
    """At least fifteen ways to forge a token are tried, and no two are the same text."""
    found = forged()
    assert len(set(found.values())) == len(found) >= 15


def test_a_secret_forges_nothing_for_another_key() -> None:
    """A token signed with one trusted key and naming another one is refused."""
    known = keys()
    claims = {"iss": "us", "aud": "them", "sub": "root", "iat": NOW, "exp": NOW + 60}
    for header, key in (
        ({"alg": "HS256", "kid": known["RS256"].kid}, SECRET),
        ({"alg": "RS256", "kid": known["HS256"].kid}, rsa_key()),
        ({"alg": "ES256", "kid": known["RS256"].kid}, ec_key()),
    ):
        with pytest.raises(Refused, match="another algorithm"):
            verify(token(header, claims, key), issuer(*known.values()), NOW)


@pytest.mark.parametrize("depth", [1, 100, 3000])
def test_a_header_without_end(depth: int) -> None:
    """A header of any depth is refused before anything follows it down."""
    header = b'{"alg":"HS256","kid":"k","x":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
    with pytest.raises(Refused):
        verify(f"{part(header)}.{part({})}.{part(b'x')}", issuer(*keys().values()), NOW)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"short",
        public_bytes(rsa_key()),
        private_pem(ec_key()),
        b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7",
        json.dumps({"kty": "RSA", "n": "x" * 64, "e": "AQAB"}).encode(),
    ],
    ids=["empty", "short", "pem", "private pem", "ssh", "jwk"],
)
def test_what_is_no_secret(secret: bytes) -> None:
    """A secret is long, and no asymmetric key in any form; the refusal does not quote it."""
    with pytest.raises(WrongKey) as refused:
        made.secret_key(secret)
    assert not secret or secret.decode() not in str(refused.value)


@pytest.mark.parametrize("start", [b"{", b" \n{", b"[", b"ssh", b"0\x82"])
def test_random_bytes_are_a_secret(start: bytes) -> None:
    """A secret may begin as an asymmetric key does, if it goes on as none: secrets are random."""
    assert made.secret_key(start + bytes(range(200, 232))).algorithm == "HS256"


def test_a_public_key_in_der_is_no_secret() -> None:
    """A public key in DER, plain or in base64, is refused as a secret."""
    import base64

    from cryptography.hazmat.primitives.serialization import Encoding

    for key in (rsa_key(), ec_key()):
        der = public_bytes(key, Encoding.DER)
        for secret in (der, base64.b64encode(der)):
            with pytest.raises(WrongKey, match="asymmetric"):
                made.secret_key(secret)


def test_weak_and_wrong_keys() -> None:
    """A short RSA key, another curve, and a key of the other kind are refused."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    weak = rsa.generate_private_key(65537, 1024)
    other = ec.generate_private_key(ec.SECP384R1())
    for data, algorithm in (
        (private_pem(weak), "RS256"),
        (private_pem(other), "ES256"),
        (private_pem(rsa_key()), "ES256"),
        (private_pem(ec_key()), "RS256"),
        (b"no key", "RS256"),
    ):
        with pytest.raises(WrongKey):
            made.private_key(data, algorithm)
    for data in (public_bytes(weak), private_pem(rsa_key()), b""):
        with pytest.raises(WrongKey):
            made.public_key(data, "RS256")


def test_keys_show_nothing() -> None:
    """The repr of a key names it and its algorithm; what is published is the public half."""
    for key in keys().values():
        assert repr(key) == f"TokenKey(kid={key.kid!r}, algorithm={key.algorithm!r})"
    assert keys()["HS256"].public is None
    for algorithm in ("RS256", "ES256"):
        public = keys()[algorithm].public
        assert public is not None
        assert not set(public) & {"d", "p", "q", "dp", "dq", "qi", "k"}
        assert made.from_jwk(public).kid == public["kid"]


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "oct", "k": "x" * 64},
        {"kty": "RSA", "alg": "RS512"},
        {"use": "enc"},
        {"kid": ""},
        {"kid": 1},
        {"n": "AQAB"},
        {"n": 1},
        {"e": None},
        {"n": "!" * 10},
    ],
    ids=str,
)
def test_keys_of_others(change: dict[str, object]) -> None:
    """Of a key set only signing keys of the two algorithms are taken, whole and with a name."""
    public = keys()["RS256"].public
    assert public is not None
    with pytest.raises(WrongKey):
        made.from_jwk({**public, **change})
