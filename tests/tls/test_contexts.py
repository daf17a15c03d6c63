"""Contexts: who agrees with whom, in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from coordinator.config.suites import SUITES, openssl_ciphers
from coordinator.config.suites import problems as problems_of_suites
from coordinator.tls.contexts import client_context, server_context
from coordinator.tls.making import CLIENT, SERVER
from coordinator.tls.names import certificate_names
from coordinator.tls.ports import ALPN_CLIENTS
from tests.tls.authority import Authority, agree


def test_both_prove_who_they_are(tmp_path: Path) -> None:
    """Members of one authority agree on the newest TLS, and each knows the other's name."""
    authority = Authority(tmp_path)
    one = authority.port("peer", authority.issue("one"))
    two = authority.port("peer", authority.issue("two"))
    server, client = agree(server_context(one), client_context(two))
    assert server.version() == "TLSv1.3"
    assert certificate_names(server)[0] == "two"
    assert certificate_names(client)[0] == "one"


def test_nobody_without_a_certificate(tmp_path: Path) -> None:
    """Where an authority is named, an end without a certificate is refused."""
    authority = Authority(tmp_path)
    server = server_context(authority.port("client", authority.issue("server", [SERVER])))
    naked = ssl.create_default_context(cafile=authority.file)
    naked.maximum_version = ssl.TLSVersion.TLSv1_2  # it would learn of it later with TLS 1.3
    with pytest.raises(ssl.SSLError):
        agree(server, naked)


def test_strangers_are_refused_by_both(tmp_path: Path) -> None:
    """A certificate of another authority is refused, on either side."""
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    one = ours.port("peer", ours.issue("one"))
    two = theirs.port("peer", theirs.issue("two"))
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(server_context(one), client_context(two))
    trusting = theirs.port("peer", theirs.issue("two"), ca_file=ours.file)
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(server_context(one), client_context(trusting))


def test_the_name_of_the_server_counts(tmp_path: Path) -> None:
    """A certificate that is not for the host that was dialled is refused."""
    authority = Authority(tmp_path)
    port = authority.port("peer", authority.issue("one", hosts=["db1.test"]))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        agree(server_context(port), client_context(port), host="db2.test")


def test_a_certificate_for_servers_is_no_clients(tmp_path: Path) -> None:
    """On the client port, a certificate that is for servers alone does not open the door."""
    authority = Authority(tmp_path)
    port = authority.port("client", authority.issue("server", [SERVER]))
    client = authority.port("client", authority.issue("other", [SERVER]))
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(server_context(port), client_context(client))
    known = authority.port("client", authority.issue("alice", [CLIENT]))
    server, _ = agree(server_context(port), client_context(known))
    assert certificate_names(server) == ("alice", "localhost")


def test_names_only_of_who_was_asked(tmp_path: Path) -> None:
    """A server that asks nobody for a certificate takes no names from one."""
    authority = Authority(tmp_path)
    port = authority.port("client", authority.issue("server"), ca_file="")
    client = authority.port("client", authority.issue("alice"))
    server, _ = agree(server_context(port), client_context(client))
    assert certificate_names(server) == ()


@pytest.mark.parametrize(
    ("low", "high", "agreed"),
    [("TLS1.2", "", "TLSv1.3"), ("TLS1.2", "TLS1.2", "TLSv1.2"), ("TLS1.3", "", "TLSv1.3")],
)
def test_versions(tmp_path: Path, low: str, high: str, agreed: str) -> None:
    """The oldest and the newest version of TLS are what the settings say."""
    authority = Authority(tmp_path)
    files = authority.issue("one")
    port = authority.port("peer", files, min_version=low, max_version=high)
    plain = authority.port("peer", files)
    server, _ = agree(server_context(port), client_context(plain))
    assert server.version() == agreed
    if low == "TLS1.3":
        old = authority.port("peer", files, max_version="TLS1.2")
        with pytest.raises(ssl.SSLError):
            agree(server_context(port), client_context(old))


def test_cipher_suites(tmp_path: Path) -> None:
    """The suites of TLS 1.2 are those that were named as Go names them."""
    authority = Authority(tmp_path)
    files = authority.issue("one")
    suites = ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",)
    port = authority.port("peer", files, suites=suites)
    old = authority.port("peer", files, max_version="TLS1.2")
    server, _ = agree(server_context(port), client_context(old))
    assert server.cipher() == ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2", 256)
    other = authority.port(
        "peer", files, max_version="TLS1.2", suites=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",)
    )
    with pytest.raises(ssl.SSLError):
        agree(server_context(port), client_context(other))


def test_every_suite_is_known_to_openssl() -> None:
    """OpenSSL has every suite that the settings take."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for suite in SUITES:
        context.set_ciphers(openssl_ciphers((suite,)))


def test_unknown_suites_are_refused_with_the_list() -> None:
    """A suite that is not known is refused; the problem lists those that are."""
    (found,) = problems_of_suites(("TLS_RSA_WITH_RC4_128_SHA",))
    assert "--cipher-suites TLS_RSA_WITH_RC4_128_SHA" in found
    assert "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" in found
    (found,) = problems_of_suites(("TLS_AES_128_GCM_SHA256",))
    assert "TLS 1.2 would have no suite" in found


def test_protocols_over_tls(tmp_path: Path) -> None:
    """Who offers both gets HTTP/1.1, and gRPC, which offers the other alone, gets HTTP/2."""
    authority = Authority(tmp_path)
    port = authority.port("client", authority.issue("one"), alpn=ALPN_CLIENTS)
    for offered, agreed in (["h2", "http/1.1"], "http/1.1"), (["h2"], "h2"), ([], None):
        client = client_context(authority.port("client", authority.issue("two")))
        if offered:
            client.set_alpn_protocols(offered)
        server, _ = agree(server_context(port), client)
        assert server.selected_alpn_protocol() == agreed


def test_a_certificate_may_be_trusted_itself(tmp_path: Path) -> None:
    """As in Go, whatever stands in the file of authorities is trusted, and so is what it signs."""
    top = Authority(tmp_path)
    one = top.port("peer", top.issue("one"))
    pinned = top.port("peer", top.issue("two"), ca_file=one.cert_file)
    server, _ = agree(server_context(one), client_context(pinned))
    assert certificate_names(server)[0] == "two"
