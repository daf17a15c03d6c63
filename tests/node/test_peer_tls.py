"""TLS between members, made from the settings."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.config import Config, ConfigError
from coordinator.node.peer_tls import peer_contexts
from tests.api.test_tls import Authority


def settings(authority: Authority, name: str) -> Config:
    """Give settings with a certificate of an authority."""
    certificate, key = authority.issue(name)
    return replace(
        Config(),
        peer_cert_file=str(certificate),
        peer_key_file=str(key),
        peer_trusted_ca_file=str(authority.file),
    )


async def talk(server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> bytes:
    """Let a server say something to a client."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    made = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    async with made:
        port = made.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            return await reader.read()
        finally:
            writer.close()


async def test_members_of_one_authority_talk(tmp_path: Path) -> None:
    """Members whose certificates one authority has signed take each other for members."""
    authority = Authority(tmp_path)
    server, _ = peer_contexts(settings(authority, "one"))
    _, client = peer_contexts(settings(authority, "two"))
    assert await talk(server, client) == b"hello"


async def test_a_stranger_is_no_member(tmp_path: Path) -> None:
    """A member with a certificate of another authority is refused, on either side."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    server, client = peer_contexts(settings(Authority(tmp_path / "ours"), "one"))
    other_server, other_client = peer_contexts(settings(Authority(tmp_path / "theirs"), "two"))
    with pytest.raises(ssl.SSLError):
        await talk(server, other_client)
    with pytest.raises(ssl.SSLError):
        await talk(other_server, client)
    assert server is not None
    assert server.verify_mode == ssl.CERT_REQUIRED


def test_without_files_there_is_no_tls() -> None:
    """Members without certificates speak plainly."""
    assert peer_contexts(Config()) == (None, None)


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    """A file that is no certificate is refused by name."""
    (tmp_path / "a.pem").write_text("x")
    file = str(tmp_path / "a.pem")
    wrong = replace(Config(), peer_cert_file=file, peer_key_file=file, peer_trusted_ca_file=file)
    with pytest.raises(ConfigError, match="--peer-cert-file"):
        peer_contexts(wrong)
