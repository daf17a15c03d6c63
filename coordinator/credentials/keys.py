"""Keys of tokens, read and made: each for one algorithm and no other.

Loads a library for cryptography, so it is imported where it is needed and not before: a member
without users does without.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import jwk
from jose.exceptions import JOSEError
from jose.utils import long_to_base64

from coordinator.credentials.token_key import KID_CHARACTERS_MAX, TokenKey, WrongKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jose.backends.base import Key

ALGORITHMS: Final = ("HS256", "RS256", "ES256")
SECRET_BYTES_MIN: Final = 32
RSA_BITS_MIN: Final = 2048
_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def secret_key(secret: bytes, kid: str = "") -> TokenKey:
    """Make a key for HS256.

    Args:
        secret: At least `SECRET_BYTES_MIN` bytes, and no asymmetric key in disguise: whoever knows
            a public key could sign with it.
        kid: Its name; worked out of the secret, without giving it away, by default.

    Raises:
        WrongKey: It is too short, or an asymmetric key.
    """
    if len(secret) < SECRET_BYTES_MIN:
        raise WrongKey(f"a secret for HS256 has at least {SECRET_BYTES_MIN} bytes")
    if _is_asymmetric(secret):
        raise WrongKey("an asymmetric key or a certificate is no secret for HS256")
    name = kid or _unpadded(hmac.digest(secret, b"kid", "sha256")[:12])
    made = _construct(secret, "HS256")
    return TokenKey(name, "HS256", made, made)


def private_key(data: bytes, algorithm: str) -> TokenKey:
    """Read a private key, PEM without a password.

    Raises:
        WrongKey: It is none, or not for this algorithm.
    """
    try:
        found = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise WrongKey("it must be a private key, PEM, without a password") from None
    if not isinstance(found, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise WrongKey(f"it must be a key for {algorithm}")
    return _asymmetric(found.public_key(), algorithm, _construct(found, algorithm))


def public_key(data: bytes, algorithm: str) -> TokenKey:
    """Read a public key or a certificate, PEM.

    Raises:
        WrongKey: It is neither, or not for this algorithm.
    """
    try:
        if b"CERTIFICATE" in data:
            found: object = x509.load_pem_x509_certificate(data).public_key()
        else:
            found = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise WrongKey("it must be a public key or a certificate, PEM") from None
    return _asymmetric(found, algorithm)


def from_jwk(facts: Mapping[str, Any]) -> TokenKey:
    """Read one key of a JSON Web Key Set.

    Raises:
        WrongKey: It is none that signatures are verified with here.
    """
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(facts.get("kty")), "")
    if not algorithm or facts.get("alg", algorithm) != algorithm:
        raise WrongKey("keys are for RS256 or ES256")
    if facts.get("use", "sig") != "sig":
        raise WrongKey("it is not for signatures")
    kid = facts.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARACTERS_MAX:
        raise WrongKey("it has no kid")
    try:
        found = (_rsa_of if algorithm == "RS256" else _ec_of)(facts)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WrongKey("it is broken") from None
    return _asymmetric(found, algorithm, kid=kid)


def _rsa_of(facts: Mapping[str, Any]) -> _PublicKey:
    return rsa.RSAPublicNumbers(_number(facts["e"]), _number(facts["n"])).public_key()


def _ec_of(facts: Mapping[str, Any]) -> _PublicKey:
    if facts["crv"] != "P-256":
        raise ValueError
    numbers = ec.EllipticCurvePublicNumbers(
        _number(facts["x"]), _number(facts["y"]), ec.SECP256R1()
    )
    return numbers.public_key()


def _number(text: str) -> int:
    if len(text) > 4096:
        raise ValueError
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _asymmetric(
    found: object, algorithm: str, signing: Key | None = None, kid: str = ""
) -> TokenKey:
    public: dict[str, str]
    if algorithm == "RS256" and isinstance(found, rsa.RSAPublicKey):
        if found.key_size < RSA_BITS_MIN:
            raise WrongKey(f"an RSA key has at least {RSA_BITS_MIN} bits")
        rsa_numbers = found.public_numbers()
        public = {
            "e": long_to_base64(rsa_numbers.e).decode(),
            "kty": "RSA",
            "n": long_to_base64(rsa_numbers.n).decode(),
        }
    elif (
        algorithm == "ES256"
        and isinstance(found, ec.EllipticCurvePublicKey)
        and isinstance(found.curve, ec.SECP256R1)
    ):
        numbers = found.public_numbers()
        public = {
            "crv": "P-256",
            "kty": "EC",
            "x": _unpadded(numbers.x.to_bytes(32, "big")),
            "y": _unpadded(numbers.y.to_bytes(32, "big")),
        }
    else:
        raise WrongKey(f"it must be a key for {algorithm}")
    # The thumbprint of RFC 7638: the members in the order of their names, without spaces.
    told = json.dumps(public, sort_keys=True, separators=(",", ":")).encode()
    name = kid or _unpadded(hashlib.sha256(told).digest())
    public |= {"alg": algorithm, "kid": name, "use": "sig"}
    return TokenKey(name, algorithm, _construct(found, algorithm), signing, public)


def _construct(found: object, algorithm: str) -> Key:
    try:
        return jwk.construct(found, algorithm)  # type: ignore[arg-type]
    except JOSEError:
        raise WrongKey(f"it must be a key for {algorithm}") from None


def _is_asymmetric(secret: bytes) -> bool:
    text = secret.strip()
    if b"-----BEGIN" in text or text.startswith((b"ssh-", b"ecdsa-")) or _is_jwk(text):
        return True
    readers: tuple[Callable[[bytes], object], ...] = (
        serialization.load_der_public_key,
        x509.load_der_x509_certificate,
        lambda data: serialization.load_der_private_key(data, None),
    )
    raw = [secret]
    try:
        raw.append(base64.b64decode(text, validate=True))
    except ValueError:
        pass
    for data in raw:
        for read in readers:
            try:
                read(data)
            except (ValueError, TypeError, UnsupportedAlgorithm):
                continue
            return True
    return False


def _is_jwk(text: bytes) -> bool:
    # Random bytes may begin as JSON does, so what begins so isn't yet refused.
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
