"""Settings: where values come from, what they mean, which are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from coordinator.config import (
    Config,
    ConfigError,
    auth_rules,
    parse_url,
    resolve,
    setting_fields,
    shown,
)
from coordinator.config.values import duration_ms, size_bytes


def problems(**flags: str) -> list[str]:
    """Resolve flags that are wrong; give every problem."""
    with pytest.raises(ConfigError) as caught:
        resolve({flag.replace("_", "-"): text for flag, text in flags.items()}, {})
    return caught.value.problems


def test_defaults_are_valid() -> None:
    """Without any setting the member is on loopback, with etcd's defaults."""
    config = resolve({}, {})
    assert config.validate() == []
    assert config.listen_client_urls == config.advertise_client_urls == ("http://127.0.0.1:2379",)
    assert (config.heartbeat_interval_ms, config.election_timeout_ms) == (100, 1000)
    assert config.data_dir == "default.coordinator"
    assert config.quota_backend_bytes == 2 << 30
    assert config.auto_compaction_age_ms == 3_600_000
    assert set(config.origins.values()) == {"default"}


def test_order_of_sources(tmp_path: Path) -> None:
    """The command line wins over the environment, that over the file, that over the default."""
    file = tmp_path / "c.toml"
    file.write_text('name = "file"\nmax-txn-ops = 5\nheartbeat_interval = "200ms"\n')
    config = resolve(
        {"name": "flag", "config-file": str(file)},
        {"COORDINATOR_NAME": "environment", "COORDINATOR_MAX_TXN_OPS": "6"},
    )
    assert (config.name, config.max_txn_ops, config.heartbeat_interval) == ("flag", 6, 200)
    assert config.origins["name"] == "flag"
    assert config.origins["max_txn_ops"] == "environment COORDINATOR_MAX_TXN_OPS"
    assert config.origins["heartbeat_interval"] == f"file {file}"
    assert config.origins["log_level"] == "default"
    named = resolve({}, {"COORDINATOR_CONFIG_FILE": str(file)})
    assert named.name == "file"


def test_file_speaks_toml(tmp_path: Path) -> None:
    """Lists, numbers and switches of TOML are understood."""
    file = tmp_path / "c.toml"
    file.write_text(
        'listen-client-urls = ["http://127.0.0.1:1", "http://[::1]:2"]\ninsecure-open = true\n'
        "quota-backend-bytes = 1073741824\n"
    )
    config = resolve({"config-file": str(file)}, {})
    assert config.listen_client_urls == ("http://127.0.0.1:1", "http://[::1]:2")
    assert config.insecure_open is True
    assert config.quota_backend_bytes == 1 << 30


def test_wrong_file(tmp_path: Path) -> None:
    """A file that is absent, no TOML, or has unknown settings is refused; near names are told."""
    assert "No such file" in problems(config_file=str(tmp_path / "none"))[0]
    file = tmp_path / "c.toml"
    file.write_text("= 1")
    assert problems(config_file=str(file))[0].startswith(f"--config-file {file}: ")
    file.write_text("snapshot-cuont = 1\nname = {}\n")
    found = problems(config_file=str(file))
    assert "snapshot-cuont is no setting; did you mean snapshot-count?" in found[0]
    assert "name: a text" in found[1]


def test_every_setting_has_all_its_sources() -> None:
    """Every setting is read from flag and environment, and has help."""
    for flag, one in setting_fields().items():
        assert one.metadata["help"], flag
        text = shown(Config(), flag)
        if one.metadata["is_secret"]:
            assert text == "***"
            continue
        for flags, environment in (
            ({flag: text}, {}),
            ({}, {"COORDINATOR_" + one.name.upper(): text}),
        ):
            config = resolve(flags, environment)
            assert config.origins[one.name] != "default"


@pytest.mark.parametrize(
    ("text", "value"),
    [("100", 100), ("100ms", 100), ("1.5s", 1500), ("5m", 300_000), ("1h30m", 5_400_000)],
)
def test_durations(text: str, value: int) -> None:
    """A duration is a bare number of milliseconds, or has units."""
    assert duration_ms(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1x", "s", "1e3", "1 s", "NaN", "9" * 16, "١"])
def test_wrong_durations(text: str) -> None:
    """Anything else is no duration."""
    with pytest.raises(ValueError, match="duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("512", 512), ("512MiB", 512 << 20), ("2 GiB", 2 << 30)]
)
def test_sizes(text: str, value: int) -> None:
    """A size is a bare number of bytes, or has a binary unit."""
    assert size_bytes(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5GiB", "1GB", "1e9"])
def test_wrong_sizes(text: str) -> None:
    """Anything else is no size."""
    with pytest.raises(ValueError, match="size"):
        size_bytes(text)


WRONG = [
    ("name", "", "1 to 63"),
    ("name", "../x", "1 to 63"),
    ("listen-client-urls", "", "at least one"),
    ("listen-client-urls", "127.0.0.1:2379", "written as"),
    ("listen-client-urls", "http://127.0.0.1", "written as"),
    ("listen-client-urls", "http://127.0.0.1:99999", "written as"),
    ("listen-client-urls", "http://u:p@127.0.0.1:1", "without path, user"),
    ("listen-client-urls", "http://127.0.0.1:1/x", "without path"),
    ("listen-client-urls", "ftp://127.0.0.1:1", "written as"),
    ("listen-client-urls", "http://db.example:1", "IP address"),
    ("listen-client-urls", "https://127.0.0.1:1", "https needs --cert-file"),
    ("heartbeat-interval", "1", "from 10 ms"),
    ("heartbeat-interval", "abc", "duration"),
    ("election-timeout", "400", "at least 5 heartbeat"),
    ("election-timeout", "60s", "at most 50 s"),
    ("snapshot-count", "-1", "whole number"),
    ("snapshot-count", "5", "from 100"),
    ("quota-backend-bytes", "5", "from 1048576"),
    ("auto-compaction-mode", "never", "one of periodic, revision"),
    ("auto-compaction-retention", "soon", "duration"),
    ("max-txn-ops", "0", "from 1"),
    ("max-request-bytes", "1TiB", "from 4096"),
    ("log-level", "loud", "one of debug"),
    ("insecure-open", "maybe", "true or false"),
    ("silence-timeout", "15s", "two ping intervals"),
    ("cert-file", "/nowhere.pem", "no such file"),
    ("client-cert-auth", "true", "needs --trusted-ca-file"),
    ("initial-cluster-state", "old", "one of new, existing"),
    ("initial-advertise-peer-urls", "10.0.0.1:2380", "written as"),
    ("listen-peer-urls", "https://127.0.0.1:1", "https needs --peer-cert-file"),
    ("initial-advertise-peer-urls", "https://10.0.0.1:1", "https needs --peer-cert-file"),
    ("peer-cert-file", "/nowhere.pem", "no such file"),
    ("peer-cert-file", "/nowhere.pem", "one needs the others"),
    ("max-learners", "0", "from 1 to 100"),
    ("strict-reconfig-check", "perhaps", "true or false"),
]


@pytest.mark.parametrize(("flag", "text", "rule"), WRONG)
def test_wrong_values(flag: str, text: str, rule: str) -> None:
    """A wrong value is refused; the problem names the flag and the rule."""
    found = problems(**{flag: text})
    assert any(f"--{flag}" in one and rule in one for one in found), found


def test_all_problems_at_once() -> None:
    """Every problem is told, not only the first."""
    found = problems(name="", heartbeat_interval="x", max_txn_ops="0", log_level="loud")
    assert len(found) == 4


def test_numbers_of_revisions() -> None:
    """In the mode of revisions the retention is their number; 0 keeps all."""
    config = resolve({"auto-compaction-mode": "revision", "auto-compaction-retention": "1000"}, {})
    assert (config.auto_compaction_revisions, config.auto_compaction_age_ms) == (1000, 0)
    hours = resolve({"auto-compaction-retention": "2"}, {})
    assert (hours.auto_compaction_age_ms, hours.auto_compaction_revisions) == (7_200_000, 0)
    assert resolve({"auto-compaction-retention": "0"}, {}).auto_compaction_age_ms == 0
    assert "1h" in problems(auto_compaction_mode="revision")[0]


@pytest.mark.parametrize("url", ["http://0.0.0.0:1", "http://192.0.2.1:1", "http://[::]:1"])
def test_nothing_is_open_by_accident(url: str) -> None:
    """An address that others reach needs a reason; the problem tells the three ways out."""
    (found,) = problems(listen_client_urls=f"http://127.0.0.1:2,{url}")
    for way in ("127.0.0.1", "--require-auth", "--client-cert-auth", "--insecure-open"):
        assert way in found
    assert resolve({"listen-client-urls": url, "insecure-open": "true"}, {}).insecure_open
    assert resolve({"listen-client-urls": url, "require-auth": "true"}, {}).require_auth


def test_what_is_dangerous_is_said_at_every_start() -> None:
    """What is open to others, or travels in clear, is warned about; what is safe is not."""
    far = {"listen-client-urls": "http://10.0.0.1:1"}
    assert auth_rules.warnings(resolve({}, {})) == []
    (said,) = auth_rules.warnings(resolve({**far, "insecure-open": "true"}, {}))
    assert "may read and change everything" in said
    (said,) = auth_rules.warnings(resolve({**far, "require-auth": "true"}, {}))
    assert "in clear" in said
    peers = {"listen-peer-urls": "http://10.0.0.1:1", "insecure-open": "true"}
    (said,) = auth_rules.warnings(resolve(peers, {}))
    assert "pass for a member" in said


def test_peers_prove_who_they_are(tmp_path: Path) -> None:
    """A peer URL that other machines reach needs TLS, or the word that everybody may use it."""
    url = "http://10.0.0.1:2380"
    (found,) = problems(listen_peer_urls=url)
    for way in ("--peer-cert-file", "--insecure-open"):
        assert way in found
    assert resolve({"listen-peer-urls": url, "insecure-open": "true"}, {}).insecure_open
    file = tmp_path / "a.pem"
    file.write_text("x")
    flags = {f"peer-{name}-file": str(file) for name in ("cert", "key", "trusted-ca")}
    secure = {**flags, "listen-peer-urls": "https://10.0.0.1:2380"}
    assert resolve(secure, {}).listen_peer_urls == ("https://10.0.0.1:2380",)


def test_certificates_of_clients_open_it(tmp_path: Path) -> None:
    """With certificates of clients an https address may be reached by others, http may not."""
    file = tmp_path / "a.pem"
    file.write_text("x")
    flags = {"cert-file": str(file), "key-file": str(file), "trusted-ca-file": str(file)}
    flags["client-cert-auth"] = "true"
    assert resolve({**flags, "listen-client-urls": "https://0.0.0.0:1"}, {}).client_cert_auth
    with pytest.raises(ConfigError):
        resolve({**flags, "listen-client-urls": "http://0.0.0.0:1"}, {})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True), ("localhost", True)]
    + [("0.0.0.0", False), ("10.0.0.1", False), ("[::]", False)],
)
def test_loopback(host: str, is_loopback: bool) -> None:
    """Loopback addresses are told apart."""
    assert parse_url(f"http://{host}:1").is_loopback is is_loopback


def test_settings_do_not_change() -> None:
    """The configuration is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().name = "x"  # type: ignore[misc]


def test_secrets_are_hidden() -> None:
    """What is secret shows neither in the representation nor in what is printed."""
    config = resolve({"initial-cluster-token": "planted"}, {})
    assert config.initial_cluster_token == "planted"
    assert "planted" not in repr(config)
    assert shown(config, "initial-cluster-token") == "***"
