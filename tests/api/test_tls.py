"""TLS on the client port: https beside http, and certificates of clients."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from coordinator.api.server import listen
from coordinator.config import Config, ConfigError
from coordinator_sdk.protocol.cluster import Ping
from coordinator_sdk.protocol.codec import MSGPACK
from tests.api.member import Raw, Socket, running

pytestmark = pytest.mark.asyncio


class Authority:
    """Signs certificates for a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self.file = self._write("authority", self._sign(self._name, self._key, is_authority=True))

    def issue(self, name: str) -> tuple[str, str]:
        """Make a certificate and its key for 127.0.0.1; give their files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._write(name, self._sign(subject, key, is_authority=False))
        path = self.folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, str(path)

    def _write(self, name: str, certificate: x509.Certificate) -> str:
        path = self.folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(self._key, hashes.SHA256())
        )


async def get_health(port: int, context: ssl.SSLContext) -> int:
    """Ask for the health over TLS; give the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        return (await Raw(reader, writer).ask("GET", "/health")).status
    finally:
        writer.close()


async def test_https_beside_http(tmp_path: Path) -> None:
    """One list of addresses mixes http and https; both serve HTTP and the WebSocket."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("member")
    async with running(
        tmp_path / "data",
        listen_client_urls=("http://127.0.0.1:0", "https://127.0.0.1:0"),
        cert_file=certificate,
        key_file=key,
    ) as member:
        context = ssl.create_default_context(cafile=authority.file)
        assert (await member.ask("GET", "/health")).status == 200
        assert await get_health(member.ports[1], context) == 200
        url = f"wss://127.0.0.1:{member.ports[1]}/v1/ws"
        async with connect(
            url,
            ssl=context,
            subprotocols=[MSGPACK.name],  # type: ignore[list-item]
            origin=f"https://127.0.0.1:{member.ports[1]}",  # type: ignore[arg-type]
        ) as inner:
            socket = Socket(inner, MSGPACK)
            await socket.greet()
            await socket.call(Ping())


async def test_certificates_of_clients(tmp_path: Path) -> None:
    """Where clients must show a certificate, one without it is refused."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("member")
    async with running(
        tmp_path / "data",
        listen_client_urls=("https://127.0.0.1:0",),
        cert_file=certificate,
        key_file=key,
        trusted_ca_file=authority.file,
        client_cert_auth=True,
    ) as member:
        context = ssl.create_default_context(cafile=authority.file)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await get_health(member.port, context)
        context = ssl.create_default_context(cafile=authority.file)
        context.load_cert_chain(*authority.issue("client"))
        assert await get_health(member.port, context) == 200


async def test_certificate_without_its_key(tmp_path: Path) -> None:
    """A certificate and a key that do not belong together are refused before anything starts."""
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("member")
    _, key = authority.issue("other")
    config = Config(
        listen_client_urls=("https://127.0.0.1:0",), cert_file=certificate, key_file=key
    )
    with pytest.raises(ConfigError, match="--key-file .* is not the key of --cert-file"):
        listen(config)


async def test_plain_http_where_tls_is_spoken(tmp_path: Path) -> None:
    """Plain HTTP on an https address, and TLS on an http address, get an answer that says so."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("member")
    async with running(
        tmp_path / "data",
        listen_client_urls=("https://127.0.0.1:0", "http://127.0.0.1:0"),
        cert_file=certificate,
        key_file=key,
    ) as member:
        answer = await member.ask("GET", "/health")
        assert answer.status == 400
        assert answer.error["message"] == "this address speaks TLS: use https"
        reader, writer = await asyncio.open_connection("127.0.0.1", member.ports[1])
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"this address does not speak TLS: use http" in body
        writer.close()
        context = ssl.create_default_context(cafile=authority.file)
        reader, writer = await asyncio.open_connection("127.0.0.1", member.ports[0], ssl=context)
        text = (await Raw(reader, writer).ask("GET", "/metrics")).body.decode()
        assert 'coordinator_tls_expiry_timestamp_seconds{port="client",file="certificate"}' in text
        writer.close()


async def test_pages_by_another_scheme(tmp_path: Path) -> None:
    """A page of this very host, but of another scheme than the connection, is foreign."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("member")
    async with running(
        tmp_path / "data",
        listen_client_urls=("http://127.0.0.1:0", "https://127.0.0.1:0"),
        cert_file=certificate,
        key_file=key,
    ) as member:
        for context, own, other in (
            (None, "http", "https"),
            (ssl.create_default_context(cafile=authority.file), "https", "http"),
        ):
            port = member.ports[own == "https"]
            for scheme, status in ((own, 200), (other, 403)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                told = [("host", f"127.0.0.1:{port}"), ("origin", f"{scheme}://127.0.0.1:{port}")]
                answer = await Raw(reader, writer).ask("PUT", "/v1/kv/page", b"1", told)
                assert answer.status == status, (own, scheme)
                writer.close()
            url = f"ws{own[4:]}://127.0.0.1:{port}/v1/ws"
            origin = f"{other}://127.0.0.1:{port}"
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, ssl=context, origin=origin):  # type: ignore[arg-type]
                    pass
            assert refused.value.response.status_code == 403
