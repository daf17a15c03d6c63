"""Settings: what exists, where each value came from, and whether together they make sense.

A value comes from the command line, else from the environment (``COORDINATOR_<FLAG>``), else
from the configuration file (TOML), else it is the default. `resolve` gathers them into one
frozen `Config`, which is handed down by constructors; nothing else reads flags, environment
or files.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from coordinator.config import rules
from coordinator.config.values import (
    HOUR_MS,
    Address,
    count,
    duration_ms,
    names,
    parse_url,
    size_bytes,
    switch,
)

__all__ = ["Address", "Config", "ConfigError", "parse_url", "resolve", "setting_fields", "shown"]

DEFAULT_QUOTA_BYTES = 2 << 30


class ConfigError(Exception):
    """The settings can't be used.

    Attributes:
        problems: Everything that is wrong; each names flag, value and rule.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# ---------------------------------------------------------------- the settings


def _flag(
    default: Any,
    help: str,
    group: str,
    read: Callable[[str], Any] = str,
    *,
    choices: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    facts = {"help": help, "group": group, "read": read, "choices": choices, "is_secret": is_secret}
    return field(default=default, repr=not is_secret, metadata=facts)


_MEMBER, _TLS, _CLUSTER = "Member", "TLS for clients", "Cluster"
_BOTH = "TLS for clients and members"
_HISTORY, _LIMITS, _PROTECTION = "History and quota", "Limits", "Protection"
_AUTH = "Authentication"
Names = tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """All settings of one member. Every attribute is a flag of the same name.

    Attributes:
        origins: Where each value came from: default, flag, environment or file.
    """

    name: str = _flag("default", "Name of this member.", _MEMBER)
    data_dir: str = _flag("", "Where data lies; <name>.coordinator if empty.", _MEMBER)
    listen_client_urls: Names = _flag(
        ("http://127.0.0.1:2379",), "Where clients connect: URLs, by commas.", _MEMBER, names
    )
    advertise_client_urls: Names = _flag(
        (), "The same, as clients see it; as above if empty.", _MEMBER, names
    )
    heartbeat_interval: int = _flag(100, "Pause between heartbeats.", _MEMBER, duration_ms)
    election_timeout: int = _flag(
        1000, "Silence after which a leader is replaced.", _MEMBER, duration_ms
    )
    snapshot_count: int = _flag(10_000, "Entries kept in the log for slow members.", _MEMBER, count)
    log_level: str = _flag(
        "info", "What is logged.", _MEMBER, choices=("debug", "info", "warning", "error")
    )
    quota_backend_bytes: int = _flag(
        DEFAULT_QUOTA_BYTES, "Size of all records; 0 for the default.", _HISTORY, size_bytes
    )
    auto_compaction_mode: str = _flag(
        "periodic",
        "How retention counts: by age or by number.",
        _HISTORY,
        choices=("periodic", "revision"),
    )
    auto_compaction_retention: str = _flag(
        "1h", "History kept: 5m, a bare number of hours, or of revisions; 0 for all.", _HISTORY
    )
    history_bytes: int = _flag(
        512 << 20, "Size of history at which it is compacted; 0 for none.", _HISTORY, size_bytes
    )
    max_txn_ops: int = _flag(128, "Operations in a transaction.", _LIMITS, count)
    max_request_bytes: int = _flag(1_572_864, "Size of a request.", _LIMITS, size_bytes)
    max_connections: int = _flag(10_000, "Connections of clients.", _LIMITS, count)
    max_connections_per_address: int = _flag(
        5_000, "Connections from one other machine.", _LIMITS, count
    )
    max_connections_per_user: int = _flag(
        0, "Those of one user; half of --max-connections if 0.", _LIMITS, count
    )
    max_in_flight: int = _flag(1024, "Unanswered requests of a connection.", _LIMITS, count)
    max_streams_per_connection: int = _flag(
        10_000, "Watches and subscriptions of a connection.", _LIMITS, count
    )
    max_streams: int = _flag(200_000, "Those of all connections.", _LIMITS, count)
    max_streams_per_user: int = _flag(100_000, "Those of a user or address.", _LIMITS, count)
    max_leases: int = _flag(1_000_000, "Leases and sessions.", _LIMITS, count)
    max_leases_per_user: int = _flag(
        0, "Those of one user; half of --max-leases if 0.", _LIMITS, count
    )
    max_session_records_per_user: int = _flag(
        1_000_000, "What a user's sessions hold, await, register.", _LIMITS, count
    )
    max_unread_bytes: int = _flag(64 << 20, "What a client may leave unread.", _LIMITS, size_bytes)
    max_unfinished_bytes: int = _flag(
        12 << 20, "What clients may have sent of requests to come.", _LIMITS, size_bytes
    )
    header_timeout: int = _flag(10_000, "For HTTP headers.", _LIMITS, duration_ms)
    body_timeout: int = _flag(30_000, "For HTTP bodies.", _LIMITS, duration_ms)
    keep_alive_timeout: int = _flag(75_000, "Between HTTP requests.", _LIMITS, duration_ms)
    ping_interval: int = _flag(10_000, "Between WebSocket pings.", _LIMITS, duration_ms)
    silence_timeout: int = _flag(
        30_000, "Of a WebSocket, until it is closed.", _LIMITS, duration_ms
    )
    insecure_open: bool = _flag(
        False, "Serve everybody who reaches the addresses.", _PROTECTION, switch
    )
    allowed_hosts: Names = _flag(
        (), "More names that clients may call this member.", _PROTECTION, names
    )
    allowed_origins: Names = _flag(
        (), "Web pages that may use it: origins, by commas.", _PROTECTION, names
    )
    require_auth: bool = _flag(
        False, "Until authentication is on, serve this machine alone.", _PROTECTION, switch
    )
    auth_token: str = _flag(
        "jwt", "How tokens are made: simple, or jwt,pub-key=,priv-key=,sign-method=,ttl=.", _AUTH
    )
    jwt_issuer: str = _flag("coordinator", "Who issues tokens.", _AUTH)
    jwt_audience: str = _flag("", "Whom they are for; the cluster's id if empty.", _AUTH)
    password_cost: int = _flag(15, "log2 of the KiB that hashing a password takes.", _AUTH, count)
    oidc_issuer: str = _flag("", "Outside issuer whose tokens are believed.", _AUTH)
    oidc_audience: str = _flag("", "Whom its tokens must be for.", _AUTH)
    oidc_jwks_file: str = _flag("", "Its keys, a JSON Web Key Set.", _AUTH)
    oidc_jwks_url: str = _flag("", "The same, to be fetched.", _AUTH)
    oidc_user_claim: str = _flag("sub", "The claim that names the user.", _AUTH)
    oidc_user_prefix: str = _flag("", "What the user's name begins with here.", _AUTH)
    cert_file: str = _flag("", "Certificate for https, PEM.", _TLS)
    key_file: str = _flag("", "Its private key, PEM.", _TLS)
    trusted_ca_file: str = _flag("", "Who signs the certificates of clients, PEM.", _TLS)
    client_cert_auth: bool = _flag(False, "Clients must show a certificate.", _TLS, switch)
    client_cert_allowed_hostname: str = _flag("", "A name each of those must have.", _TLS)
    client_crl_file: str = _flag("", "Those that are revoked: a CRL, PEM.", _TLS)
    auto_tls: bool = _flag(False, "Without --cert-file: one that signs itself.", _TLS, switch)
    listen_peer_urls: Names = _flag(
        ("http://127.0.0.1:2380",), "Where members connect.", _CLUSTER, names
    )
    initial_advertise_peer_urls: Names = _flag((), "The same, as members see it.", _CLUSTER, names)
    peer_cert_file: str = _flag("", "Certificate for https between members, PEM.", _CLUSTER)
    peer_key_file: str = _flag("", "Its private key, PEM.", _CLUSTER)
    peer_trusted_ca_file: str = _flag("", "Who signs the members' certificates, PEM.", _CLUSTER)
    peer_client_cert_auth: bool = _flag(
        False, "As --peer-trusted-ca-file: all show certificates.", _CLUSTER, switch
    )
    peer_cert_allowed_cn: str = _flag("", "The common name each of them must have.", _CLUSTER)
    peer_cert_allowed_hostname: str = _flag("", "A name each of them must have.", _CLUSTER)
    peer_crl_file: str = _flag("", "Those that are revoked: a CRL, PEM.", _CLUSTER)
    peer_auto_tls: bool = _flag(
        False, "Without --peer-cert-file: one that signs itself; proves nothing.", _CLUSTER, switch
    )
    tls_min_version: str = _flag("TLS1.2", "Oldest TLS.", _BOTH, choices=("TLS1.2", "TLS1.3"))
    tls_max_version: str = _flag(
        "", "Newest TLS; any if empty.", _BOTH, choices=("", "TLS1.2", "TLS1.3")
    )
    cipher_suites: Names = _flag((), "Suites of TLS 1.2, by commas: Go's names.", _BOTH, names)
    self_signed_cert_validity: int = _flag(
        1, "Years that a certificate of --auto-tls holds.", _BOTH, count
    )
    initial_cluster: str = _flag("", "The first members: name=url,...", _CLUSTER)
    initial_cluster_state: str = _flag(
        "new", "Whether the cluster is made or joined.", _CLUSTER, choices=("new", "existing")
    )
    initial_cluster_token: str = _flag(
        "coordinator", "Tells clusters apart.", _CLUSTER, is_secret=True
    )
    strict_reconfig_check: bool = _flag(
        True, "Refuse changes of the members that would cost the quorum.", _CLUSTER, switch
    )
    force_new_cluster: bool = _flag(
        False, "Become the only member of a new cluster; the others are lost.", _CLUSTER, switch
    )
    max_learners: int = _flag(1, "Learners there may be at a time.", _CLUSTER, count)
    discovery: str = _flag("", "URL of a token to meet at.", _CLUSTER, is_secret=True)
    discovery_token: str = _flag("", "The same as a token alone.", _CLUSTER, is_secret=True)
    discovery_endpoints: Names = _flag((), "Who keeps it: URLs, by commas.", _CLUSTER, names)
    discovery_srv: str = _flag("", "Domain whose SRV records name the members.", _CLUSTER)
    discovery_srv_name: str = _flag("", "Ends the service's name there: -NAME.", _CLUSTER)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    # What the flags mean to the rest of the program.

    @property
    def heartbeat_interval_ms(self) -> int:
        """Pause between heartbeats."""
        return self.heartbeat_interval

    @property
    def election_timeout_ms(self) -> int:
        """Silence after which a leader is replaced."""
        return self.election_timeout

    @property
    def auto_compaction_age_ms(self) -> int:
        """History younger than this is kept; 0 if age does not count."""
        if self.auto_compaction_mode != "periodic":
            return 0
        retention = self.auto_compaction_retention
        return int(retention) * HOUR_MS if retention.isdigit() else duration_ms(retention)

    @property
    def auto_compaction_revisions(self) -> int:
        """That many revisions are kept; 0 if their number does not count."""
        return int(self.auto_compaction_retention) if self.auto_compaction_mode == "revision" else 0

    def validate(self) -> list[str]:
        """List everything that is wrong; each problem names flag, value and rule."""
        return rules.problems(self)


def setting_fields() -> dict[str, Any]:
    """Give the dataclass fields that are settings, by flag, in the order of the help."""
    return {one.name.replace("_", "-"): one for one in fields(Config) if one.name != "origins"}


# ---------------------------------------------------------------- gathering


def resolve(flags: Mapping[str, str], environment: Mapping[str, str]) -> Config:
    """Make the configuration of a member.

    Args:
        flags: What the command line says, by flag without dashes in front; may name
            ``config-file``.
        environment: The environment.

    Raises:
        ConfigError: With every problem found, not only the first.
    """
    known = setting_fields()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    path = flags.get("config-file") or environment.get("COORDINATOR_CONFIG_FILE")
    from_file = _read_file(Path(path), known, problems) if path else {}
    for flag, one in known.items():
        variable = "COORDINATOR_" + one.name.upper()
        for origin, source, key in (
            ("flag", flags, flag),
            (f"environment {variable}", environment, variable),
            (f"file {path}", from_file, flag),
        ):
            if key in source:
                text = source[key]
                origins[one.name] = origin
                try:
                    values[one.name] = _read_value(one, text)
                except ValueError as error:
                    problems.append(f"{rules.problem(flag, text, str(error))} ({origin})")
                break
        else:
            origins[one.name] = "default"
    config = _completed(Config(**values, origins=origins))
    problems += config.validate()
    if problems:
        raise ConfigError(problems)
    return config


def _completed(config: Config) -> Config:
    """Fill in the defaults that follow from other settings."""
    return replace(
        config,
        data_dir=config.data_dir or f"{config.name}.coordinator",
        advertise_client_urls=config.advertise_client_urls or config.listen_client_urls,
        quota_backend_bytes=config.quota_backend_bytes or DEFAULT_QUOTA_BYTES,
    )


def _read_value(one: Any, text: str) -> Any:
    value = one.metadata["read"](text)
    choices = one.metadata.get("choices")
    if choices and value not in choices:
        raise ValueError(f"one of {', '.join(choices)}")
    return value


def _read_file(path: Path, known: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError) as error:
        problems.append(f"--config-file {path}: {error}")
        return {}
    found: dict[str, str] = {}
    for key, value in content.items():
        flag = key.replace("_", "-")
        if flag not in known:
            near = difflib.get_close_matches(flag, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"--config-file {path}: {key} is no setting{hint}")
        elif isinstance(value, list):
            found[flag] = ",".join(map(str, value))
        elif isinstance(value, bool):
            found[flag] = str(value).lower()
        elif isinstance(value, str | int):
            found[flag] = str(value)
        else:
            problems.append(f"--config-file {path}: {key}: a text, number, list, true or false")
    return found


def shown(config: Config, flag: str) -> str:
    """Give the value of a flag as it would be written, without secrets."""
    one = setting_fields()[flag]
    if one.metadata.get("is_secret"):
        return "***"
    value = getattr(config, one.name)
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
