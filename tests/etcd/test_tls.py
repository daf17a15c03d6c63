"""gRPC with TLS: on the same port as HTTP/1.1, told apart by what the client offers."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.api.member import Raw, running
from tests.api.test_tls import Authority
from tests.etcd.client import connected


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2"], "h2"), (["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)],
)
async def test_alpn_decides(tmp_path: Path, offered: list[str], agreed: str | None) -> None:
    """Who offers HTTP/2 alone gets it; who offers both, as browsers do, gets HTTP/1.1."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    context = ssl.create_default_context(cafile=authority.file)
    if offered:
        context.set_alpn_protocols(offered)
    urls = ("https://127.0.0.1:0",)
    data = tmp_path / "data"
    async with (
        running(data, listen_client_urls=urls, cert_file=certificate, key_file=key) as member,
        connected(member.port, greets=agreed == "h2", ssl=context) as grpc,
    ):
        channel = grpc.writer.get_extra_info("ssl_object")
        assert channel.selected_alpn_protocol() == agreed
        if agreed == "h2":
            answer = await grpc.call("/etcdserverpb.KV/Put", key=b"k", value=b"x" * 100_000)
            assert answer.header.revision == 2
        else:
            grpc.task.cancel()
            answer = await Raw(grpc.reader, grpc.writer).ask("GET", "/health")
            assert answer.status == 200
