"""Certificates of a member's own making, and which files a port is set up with."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.config import Config, ConfigError, resolve
from coordinator.tls.making import CLIENT, SERVER, new_certificate
from coordinator.tls.ports import client_port, peer_port
from coordinator.tls.setup import client_credentials, peer_credentials
from tests.tls.authority import Authority, agree


def settings(folder: Path, **more: str) -> Config:
    """Give the settings of a member that makes its certificates itself."""
    flags = {
        "data-dir": str(folder / "data"),
        "listen-client-urls": "https://127.0.0.1:2379",
        "advertise-client-urls": "https://db1.test:2379",
        "listen-peer-urls": "https://127.0.0.1:2380",
        "auto-tls": "true",
        "peer-auto-tls": "true",
    }
    return resolve({**flags, **more}, {})


def test_a_member_makes_its_own(tmp_path: Path) -> None:
    """With --auto-tls both ports get a certificate that is for every host of the member's URLs."""
    config = settings(tmp_path)
    client, peer = client_credentials(config), peer_credentials(config)
    assert client
    assert peer
    agree(peer.server, peer.client, host="anything")
    assert peer.problem_of(None) == ""
    made = x509.load_pem_x509_certificate(Path(client.port.cert_file).read_bytes())
    text = str(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    for host in ("db1.test", "127.0.0.1", "localhost", "::1"):
        assert host in text


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """What a member writes lies in its data directory, and only its owner may read it."""
    mask = os.umask(0)
    try:
        client_credentials(settings(tmp_path))
    finally:
        os.umask(mask)
    found = sorted((tmp_path / "data").rglob("*"))
    assert [one.relative_to(tmp_path / "data").as_posix() for one in found] == [
        "tls",
        "tls/client",
        "tls/client/cert.pem",
        "tls/client/key.pem",
    ]
    for one in found:
        mode = stat.S_IMODE(one.stat().st_mode)
        assert mode == (0o700 if one.is_dir() else 0o600)


def test_it_is_used_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate is kept while it is for the same hosts and not in its last third."""
    caplog.set_level(logging.WARNING)
    config = settings(tmp_path)
    file = tmp_path / "data/tls/client/cert.pem"
    client_credentials(config)
    first = file.read_bytes()
    assert "does not prove who says it" in caplog.text
    client_credentials(config)
    assert file.read_bytes() == first
    client_credentials(settings(tmp_path, **{"advertise-client-urls": "https://other.test:1"}))
    second = file.read_bytes()
    assert second != first
    old = new_certificate("coordinator", ["localhost", "127.0.0.1", "::1"], [SERVER, CLIENT], 0.01)
    Authority(file.parent).write(old, "cert")
    (file.parent / "cert.key").replace(file.parent / "key.pem")
    client_credentials(config)
    assert file.read_bytes() not in (first, second, old.certificate_pem)


def test_given_files_come_first(tmp_path: Path) -> None:
    """Files that are named are used, though certificates of its own making were asked for."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("one")
    config = settings(tmp_path, **{"cert-file": cert, "key-file": key})
    port = client_port(config)
    assert port
    assert (port.cert_file, port.is_self_signed) == (cert, False)
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """If the place is not there or not ours, the problem names flag and file."""
    config = replace(settings(tmp_path), data_dir=str(tmp_path / "no" / "where"))
    with pytest.raises(ConfigError, match="--auto-tls .*cert.pem: can't be written: No such file"):
        client_credentials(config)


def test_without_files_there_is_no_tls() -> None:
    """Without settings of TLS, neither port speaks it."""
    assert client_credentials(Config()) is None
    assert peer_credentials(Config()) is None


def test_the_names_of_flags(tmp_path: Path) -> None:
    """Files are named by the flags of their port, as etcd calls them."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("one")
    crl = authority.revoke()
    files = {"cert-file": cert, "key-file": key, "trusted-ca-file": authority.file}
    flags = {**files, **{f"peer-{flag}": value for flag, value in files.items()}}
    flags |= {"client-crl-file": crl, "peer-crl-file": crl}
    config = resolve({**flags, "listen-client-urls": "https://127.0.0.1:1"}, {})
    client, peer = client_port(config), peer_port(config)
    assert client
    assert peer
    kinds = ("cert", "key", "ca", "crl")
    assert [client.flag(kind).split()[0] for kind in kinds] == [
        "--cert-file",
        "--key-file",
        "--trusted-ca-file",
        "--client-crl-file",
    ]
    assert [peer.flag(kind).split()[0] for kind in kinds] == [
        "--peer-cert-file",
        "--peer-key-file",
        "--peer-trusted-ca-file",
        "--peer-crl-file",
    ]


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        ({"tls-min-version": "TLS1.0"}, "one of TLS1.2, TLS1.3"),
        ({"tls-min-version": "TLS1.3", "tls-max-version": "TLS1.2"}, "older than"),
        ({"cipher-suites": "RC4"}, "no such suite"),
        ({"client-crl-file": "x.pem"}, "needs --trusted-ca-file"),
        ({"peer-cert-allowed-cn": "x"}, "needs --peer-trusted-ca-file"),
        ({"peer-client-cert-auth": "true"}, "needs --peer-trusted-ca-file"),
        (
            {"peer-cert-allowed-cn": "x", "peer-cert-allowed-hostname": "y"},
            "only one of them",
        ),
        ({"self-signed-cert-validity": "0"}, "from 1 to 100"),
        ({"listen-peer-urls": "https://10.0.0.1:1", "peer-auto-tls": "true"}, "could pass for"),
        ({"listen-client-urls": "https://10.0.0.1:1", "auto-tls": "true"}, "without proving"),
    ],
)
def test_settings_that_make_no_sense(flags: dict[str, str], rule: str) -> None:
    """Settings of TLS that contradict each other are refused by name; a certificate that signs
    itself does not open a port to other machines."""
    with pytest.raises(ConfigError) as caught:
        resolve(flags, {})
    assert any(rule in one and one.startswith("--") for one in caught.value.problems)
