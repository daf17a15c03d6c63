"""Keys for tests, made once, and tokens made by hand: without any of the checks of the product."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

SECRET = b"0123456789abcdef0123456789abcdef"


@cache
def rsa_key(name: str = "first") -> rsa.RSAPrivateKey:
    """Make an RSA key; the same for the same name."""
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(name: str = "first") -> ec.EllipticCurvePrivateKey:
    """Make a key on P-256; the same for the same name."""
    return ec.generate_private_key(ec.SECP256R1())


Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def private_pem(key: Private) -> bytes:
    """Write a private key."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_bytes(
    key: Private, encoding: serialization.Encoding = serialization.Encoding.PEM
) -> bytes:
    """Write the public half of a key."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    if encoding is serialization.Encoding.OpenSSH:
        kind = serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(encoding, kind)


def written(folder: Path, name: str, data: bytes) -> str:
    """Write a file; gives its path."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


def part(value: bytes | Mapping[str, Any] | Any) -> str:
    """Write one part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: Any, claims: Any, key: Private | bytes | None) -> str:
    """Make a token by hand; without a key, without a signature."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(_signature(signed.encode(), key))}"


def _signature(signed: bytes, key: Private | bytes | None) -> bytes:
    if key is None:
        return b""
    if isinstance(key, bytes):
        return hmac.digest(key, signed, hashlib.sha256)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
