"""Credentials: what is refused at a start, what is let in, and what happens as files change."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from coordinator.config import ConfigError
from coordinator.metrics import Metrics
from coordinator.tls.credentials import Credentials
from coordinator.tls.making import CLIENT, SERVER
from coordinator.tls.metrics import register
from coordinator.tls.ports import TlsPort
from tests.tls.authority import Authority, agree

DAY = datetime.timedelta(days=1)


def refused(port: TlsPort) -> str:
    """Give the problems of a port as one text."""
    with pytest.raises(ConfigError) as caught:
        Credentials(port)
    return str(caught.value)


def encrypted(authority: Authority, key: str) -> str:
    """Put a passphrase on a key; give its new file."""
    found = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    path = authority.folder / "locked.key"
    path.write_bytes(
        found.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"planted"),
        )
    )
    return str(path)


def old(authority: Authority) -> tuple[str, str]:
    now = datetime.datetime.now(datetime.UTC)
    return authority.issue("old", days=1, now=now - 3 * DAY)


WRONG: list[tuple[Callable[[Authority], TlsPort], str, str]] = [
    (
        lambda a: a.port("client", (a.issue("one")[0], a.issue("two")[1])),
        "--key-file",
        "is not the key of --cert-file",
    ),
    (lambda a: a.port("client", (a.file, "gone.key")), "--key-file gone.key", "can't be read"),
    (
        lambda a: a.port("peer", (a.issue("one")[1], a.issue("one")[1])),
        "--peer-cert-file",
        "is no certificate in PEM",
    ),
    (
        lambda a: a.port("client", (a.issue("one")[0], a.file)),
        "--key-file",
        "is no private key in PEM",
    ),
    (
        lambda a: a.port("client", (a.issue("one")[0], encrypted(a, a.issue("one", file="x")[1]))),
        "--key-file",
        "is encrypted; it must be without a passphrase",
    ),
    (lambda a: a.port("peer", old(a)), "--peer-cert-file", "expired on"),
    (
        lambda a: a.port(
            "peer", a.issue("young", now=datetime.datetime.now(datetime.UTC) + 2 * DAY)
        ),
        "--peer-cert-file",
        "does not hold before",
    ),
    (
        lambda a: a.port("peer", a.issue("one"), ca_file=old(a)[0]),
        "--peer-trusted-ca-file",
        "expired on",
    ),
    (
        lambda a: a.port("client", a.issue("one"), ca_file=a.issue("one")[1]),
        "--trusted-ca-file",
        "is no certificate in PEM",
    ),
    (
        lambda a: a.port("peer", a.issue("one", [SERVER])),
        "--peer-cert-file",
        "its extended key usage lacks client authentication",
    ),
    (
        lambda a: a.port("client", a.issue("one", [CLIENT])),
        "--cert-file",
        "its extended key usage lacks server authentication",
    ),
    (
        lambda a: a.port("client", a.issue("one"), crl_file=a.file),
        "--client-crl-file",
        "is no list of revoked certificates",
    ),
    (
        lambda a: a.port(
            "peer",
            a.issue("one"),
            crl_file=a.revoke(by=Authority(a.folder / "other").pair),
        ),
        "--peer-crl-file",
        "it is not CN=authority who has signed it",
    ),
]


@pytest.mark.parametrize(("make", "flag", "rule"), WRONG)
def test_unusable_files(
    tmp_path: Path, make: Callable[[Authority], TlsPort], flag: str, rule: str
) -> None:
    """Files that can't be used are refused in one sentence with the flag and the rule."""
    found = refused(make(Authority(tmp_path)))
    assert found.startswith(flag), found
    assert rule in found
    assert "\n" not in found


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """What can't be read as a file is named."""
    authority = Authority(tmp_path)
    files = authority.issue("one")
    Path(files[1]).unlink()
    Path(files[1]).mkdir()
    assert "--key-file" in refused(authority.port("client", files))


# ---------------------------------------------------------------- who is let in


def problem(port: TlsPort, other: TlsPort) -> str:
    """Say why a port does not let somebody in."""
    ours, theirs = Credentials(port), Credentials(other)
    server, _ = agree(ours.server, theirs.client)
    return ours.problem_of(server)


def test_a_client_is_no_member(tmp_path: Path) -> None:
    """A certificate for clients alone is refused on the peer port, though its authority is ours."""
    authority = Authority(tmp_path)
    ours = Credentials(authority.port("peer", authority.issue("one")))
    files = authority.issue("alice", [CLIENT])
    stranger = Credentials(authority.port("peer", authority.issue("two")))
    stranger.client.load_cert_chain(*files)
    server, _ = agree(ours.server, stranger.client)
    found = ours.problem_of(server)
    assert found == (
        "the certificate of CN=alice is no member's: it is not for server authentication"
    )


def test_a_member_is_let_in(tmp_path: Path) -> None:
    """A certificate for servers and clients is a member's, and so is one that says nothing."""
    authority = Authority(tmp_path)
    port = authority.port("peer", authority.issue("one"))
    assert problem(port, authority.port("peer", authority.issue("two"))) == ""


@pytest.mark.parametrize(
    ("rule", "name", "hosts", "is_let_in"),
    [
        ({"allowed_cn": "member"}, "member", ["localhost"], True),
        ({"allowed_cn": "member"}, "Member", ["localhost"], False),
        ({"allowed_cn": "member"}, "other", ["member"], False),
        ({"allowed_hostname": "m1.test"}, "x", ["localhost", "m1.test"], True),
        ({"allowed_hostname": "M1.test"}, "x", ["localhost", "*.TEST"], True),
        ({"allowed_hostname": "a.m1.test"}, "x", ["localhost", "*.test"], False),
        ({"allowed_hostname": "10.0.0.1"}, "x", ["localhost", "10.0.0.1"], True),
        ({"allowed_hostname": "m1.test"}, "m1.test", ["localhost"], False),
    ],
)
def test_allowed_names(
    tmp_path: Path, rule: dict[str, str], name: str, hosts: list[str], is_let_in: bool
) -> None:
    """Where a common name or a host name is asked for, nobody else is let in."""
    authority = Authority(tmp_path)
    port = authority.port("peer", authority.issue("one"), **rule)
    found = problem(port, authority.port("peer", authority.issue(name, hosts=hosts, file="two")))
    assert (found == "") is is_let_in


@pytest.mark.parametrize("name", ["client", "peer"])
def test_revoked_certificates(tmp_path: Path, name: str) -> None:
    """A revoked certificate is refused on either port; one that is not in the list is let in."""
    authority = Authority(tmp_path)
    bad, good = authority.issue("bad"), authority.issue("good")
    crl = authority.revoke(bad[0])
    port = authority.port(name, authority.issue("one"), crl_file=crl)
    assert problem(port, authority.port("peer", bad)) == "the certificate of CN=bad is revoked"
    assert problem(port, authority.port("peer", good)) == ""


def test_the_same_number_of_another_authority(tmp_path: Path) -> None:
    """What one authority has revoked says nothing of another's certificate of the same number."""
    ours, theirs = Authority(tmp_path / "a", "a"), Authority(tmp_path / "b", "b")
    files = ours.issue("one")
    crl = ours.revoke(files[0])
    bundle = tmp_path / "both.pem"
    bundle.write_bytes(ours.pair.certificate_pem + theirs.pair.certificate_pem)
    port = ours.port("peer", ours.issue("me"), ca_file=str(bundle), crl_file=crl)
    assert problem(port, theirs.port("peer", theirs.issue("x"), ca_file=str(bundle))) == ""
    assert "revoked" in problem(port, ours.port("peer", files, ca_file=str(bundle)))


# ---------------------------------------------------------------- as time goes by


def touch(*paths: str) -> None:
    """Give files another time, for those whose clock is coarse."""
    for path in paths:
        found = os.stat(path)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))


def test_changed_files_are_taken_over(tmp_path: Path) -> None:
    """New certificates and a new authority are shown and trusted from the next connection on."""
    old, new = Authority(tmp_path / "old", "old"), Authority(tmp_path / "new", "new")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.pair.certificate_pem)
    files = old.issue("one")
    ours = Credentials(old.port("peer", files, ca_file=str(bundle)))
    before = ours.server
    ours.refresh()
    assert ours.server is before, "nothing has changed"
    theirs = Credentials(new.port("peer", new.issue("two"), ca_file=str(bundle)))
    bundle.write_bytes(old.pair.certificate_pem + new.pair.certificate_pem)
    ours.refresh()
    theirs.refresh()
    agree(ours.server, theirs.client)
    for path, other in zip(files, new.issue("three"), strict=True):
        Path(path).write_bytes(Path(other).read_bytes())
    touch(*files)
    ours.refresh()
    bundle.write_bytes(new.pair.certificate_pem)
    theirs.refresh()
    _, client = agree(ours.server, theirs.client)
    assert dict(client.getpeercert()["subject"][0]) == {"commonName": "three"}  # type: ignore[index,arg-type]
    assert (ours.reloads, ours.failures) == (2, 0)


def test_a_broken_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A changed file that can't be used is told once; the member goes on, and takes the next."""
    authority = Authority(tmp_path)
    files = authority.issue("one")
    ours = Credentials(authority.port("peer", files))
    before = ours.server
    content = Path(files[0]).read_bytes()
    Path(files[0]).write_text("half a certif")
    ours.refresh()
    assert ours.failures == 0, "it may be amid being written"
    for _ in range(3):
        ours.refresh()
    assert ours.server is before
    assert (ours.reloads, ours.failures) == (0, 1)
    (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert line.startswith("--peer-cert-file")
    assert line.endswith("the member goes on with what it has")
    Path(files[0]).write_bytes(content)
    touch(files[0])
    ours.refresh()
    assert ours.server is not before
    Path(files[1]).unlink()
    ours.refresh()
    ours.refresh()
    assert (ours.reloads, ours.failures) == (1, 2)


def test_a_new_list_of_revocations(tmp_path: Path) -> None:
    """A certificate that is revoked while the member runs is refused from then on."""
    authority = Authority(tmp_path)
    bad = authority.issue("bad")
    crl = authority.revoke()
    ours = Credentials(authority.port("client", authority.issue("one"), crl_file=crl))
    theirs = Credentials(authority.port("peer", bad))
    server, _ = agree(ours.server, theirs.client)
    assert ours.problem_of(server) == ""
    authority.revoke(bad[0])
    ours.refresh()
    server, _ = agree(ours.server, theirs.client)
    assert "revoked" in ours.problem_of(server)


def test_expiry_is_told_in_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In its last third a certificate is warned of once a day, and after its end as expired."""
    authority = Authority(tmp_path)
    files = authority.issue("one", days=3)
    now_s = [datetime.datetime.now(datetime.UTC).timestamp()]
    ours = Credentials(authority.port("peer", files), lambda: now_s[0])

    def told() -> list[str]:
        lines = [one.getMessage() for one in caplog.records]
        caplog.clear()
        return lines

    assert told() == []
    now_s[0] += 2.5 * 86_400
    ours.refresh()
    ours.refresh()
    (line,) = told()
    assert line.startswith("--peer-cert-file")
    assert "CN=one expires on" in line
    now_s[0] += 86_400
    ours.refresh()
    (line,) = told()
    assert "CN=one expired on" in line


def test_metrics_tell_the_expiry(tmp_path: Path) -> None:
    """Metrics tell when certificates, authorities and lists of revocations expire."""
    authority = Authority(tmp_path)
    ours = Credentials(authority.port("peer", authority.issue("one"), crl_file=authority.revoke()))
    metrics = Metrics()
    register(metrics, lambda: [ours])
    text = metrics.render()
    for kind, at_s in ours.expiries_s().items():
        line = f'coordinator_tls_expiry_timestamp_seconds{{port="peer",file="{kind}"}} {at_s:.0f}'
        assert line in text
    assert set(ours.expiries_s()) == {"certificate", "authority", "revocations"}
    assert 'coordinator_tls_reloads_total{port="peer"} 0' in text
