"""`coordctl certs`: what lies in its folder, who trusts whom, and how it is renewed."""

from __future__ import annotations

import json
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.cli.coordctl import main
from coordinator.tls.admission import refusal
from coordinator.tls.contexts import client_context, server_context
from coordinator.tls.folder import CannotMake, CertificateFolder, Wanted
from coordinator.tls.material import read_material
from coordinator.tls.ports import TlsPort
from tests.tls.authority import agree

FILES = {
    f"{name}{ending}.pem"
    for name in ("ca", "peer-ca", "server", "peer", "client")
    for ending in ("", "-key")
}


def port(folder: Path, name: str, cert: str, ca: str) -> TlsPort:
    files = [str(folder / f"{one}.pem") for one in (cert, f"{cert}-key", ca)]
    return TlsPort(name, files[0], files[1], ca_file=files[2])


def meet(folder: Path, *, host: str = "localhost", client: str = "client") -> None:
    """Let a client and a server, and two members, agree on TLS."""
    server = port(folder, "client", "server", "ca")
    agree(server_context(server), client_context(port(folder, "client", client, "ca")), host)
    peer = port(folder, "peer", "peer", "peer-ca")
    agree(server_context(peer), client_context(peer), host)


def serial(folder: Path, name: str) -> int:
    content = (folder / f"{name}.pem").read_bytes()
    return x509.load_pem_x509_certificate(content).serial_number


def test_one_command_makes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command makes authorities and certificates that work, for the owner alone, and says
    which flags take them."""
    monkeypatch.chdir(tmp_path)
    mask = os.umask(0)
    try:
        assert main(["certs", "--host", "10.0.0.1", "--host", "db1.test"]) == 0
    finally:
        os.umask(mask)
    folder = tmp_path / "certs"
    assert {one.name for one in folder.iterdir()} == FILES
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for host in ("localhost", "127.0.0.1", "10.0.0.1", "db1.test"):
        meet(folder, host=host)
    for name, cert, ca in ("client", "server", "ca"), ("peer", "peer", "peer-ca"):
        read_material(port(folder, name, cert, ca))
    said = capsys.readouterr().out
    for flag in (
        "--cert-file certs/server.pem --key-file certs/server-key.pem",
        "--trusted-ca-file certs/ca.pem --client-cert-auth",
        "--peer-cert-file certs/peer.pem --peer-key-file certs/peer-key.pem",
        "--peer-trusted-ca-file certs/peer-ca.pem",
        "--cacert certs/ca.pem --cert certs/client.pem --key certs/client-key.pem",
    ):
        assert flag in said
    assert "PRIVATE" not in said


def test_a_client_is_never_a_member(tmp_path: Path) -> None:
    """A client's certificate, and the server's, are not of the members' authority."""
    CertificateFolder(tmp_path).create(Wanted())
    peer = port(tmp_path, "peer", "peer", "peer-ca")
    for name in "client", "server":
        # It trusts whom it has to; it is the member that refuses it.
        other = port(tmp_path, "peer", name, "peer-ca")
        context = client_context(other)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLCertVerificationError):
            agree(server_context(peer), context)
        content = (tmp_path / f"{name}.pem").read_bytes()
        shown = ssl.PEM_cert_to_DER_cert(content.decode())
        assert "no member's" in refusal(peer, read_material(peer), shown)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there stays, unless --force is given."""
    folder = str(tmp_path)
    assert main(["certs", "--dir", folder]) == 0
    before = serial(tmp_path, "server")
    assert main(["certs", "--dir", folder]) == 1
    assert "server-key.pem" in capsys.readouterr().err
    assert serial(tmp_path, "server") == before
    assert main(["certs", "client", "client", "--dir", folder]) == 1
    assert main(["certs", "--dir", folder, "--force"]) == 0
    assert serial(tmp_path, "server") != before


def test_more_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Further clients get certificates of the same authority, with their names."""
    folder = str(tmp_path)
    assert main(["certs", "client", "alice", "--dir", folder]) == 1
    assert "ca.pem: there is no such file" in capsys.readouterr().err
    assert main(["certs", "--dir", folder, "--client", "root"]) == 0
    capsys.readouterr()
    assert main(["certs", "client", "alice", "bob", "--dir", folder, "-w", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": folder, "made": ["alice", "bob"]}
    for name in "root", "alice", "bob":
        meet(tmp_path, client=name)
        found = x509.load_pem_x509_certificate((tmp_path / f"{name}.pem").read_bytes())
        assert found.subject.rfc4514_string() == f"CN={name}"


def test_renewal(tmp_path: Path) -> None:
    """Renewed certificates have new keys and the same names, and are trusted as before."""
    folder = CertificateFolder(tmp_path)
    folder.create(Wanted(hosts=["db1.test", "10.0.0.1"]))
    keys = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert folder.renew(30) == ["client", "peer", "server"]
    meet(tmp_path, host="db1.test")
    meet(tmp_path, host="10.0.0.1")
    changed = {name for name, content in keys.items() if (tmp_path / name).read_bytes() != content}
    assert changed == {
        name for name in FILES if "ca" not in name.split("-") and name != "ca.pem"
    } - {"peer-ca.pem"}


def test_new_authorities_step_by_step(tmp_path: Path) -> None:
    """With new authorities beside the old ones both kinds of certificates are trusted; the old
    ones go once nothing is left of theirs."""
    folder = CertificateFolder(tmp_path)
    folder.create(Wanted())
    old = tmp_path / "old"
    old.mkdir()
    for name in FILES:
        (old / name).write_bytes((tmp_path / name).read_bytes())
    folder.new_authorities(100)
    meet(tmp_path)
    with pytest.raises(CannotMake, match=r"client.pem is of an old authority: renew it first"):
        folder.drop_old_authorities()
    folder.renew(30)
    meet(tmp_path)
    both = server_context(port(tmp_path, "client", "server", "ca"))
    early = TlsPort(
        "client", str(old / "client.pem"), str(old / "client-key.pem"), str(tmp_path / "ca.pem")
    )
    agree(both, client_context(early))
    assert folder.drop_old_authorities() == ["ca", "peer-ca"]
    assert folder.drop_old_authorities() == []
    meet(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(server_context(port(tmp_path, "client", "server", "ca")), client_context(early))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--host", "http://db1"], "--host http://db1: is neither"),
        (["--host", ""], "is neither"),
        (["--client", "../alice"], "--client ../alice: can't be"),
        (["--client", "peer"], "can't be the name"),
        (["--client", "my-key"], "ends as the names of keys do"),
        (["--days", "5000"], "--days: from 1"),
        (["make"], "is none of create"),
        (["renew", "x"], "takes no arguments"),
        (["client"], "needs the name"),
        (["renew"], "no certificates to renew"),
        (["new-ca"], "there is no such file"),
    ],
)
def test_wrong_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    """What can't be made is refused by name, and nothing is written."""
    assert main(["certs", "--dir", str(tmp_path / "certs"), *words]) != 0
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "certs").exists()
