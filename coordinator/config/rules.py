"""Whether settings make sense, each and together; every problem names flag, value and rule."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from coordinator.config import auth_rules, tls_rules
from coordinator.config.values import count, duration_ms, parse_url

if TYPE_CHECKING:
    from coordinator.config import Config


def problems(config: Config) -> list[str]:
    """List everything that is wrong."""
    return [
        *_url_problems("listen-client-urls", config.listen_client_urls),
        *_url_problems("advertise-client-urls", config.advertise_client_urls),
        *_url_problems("listen-peer-urls", config.listen_peer_urls),
        *_url_problems("initial-advertise-peer-urls", config.initial_advertise_peer_urls),
        *_member_problems(config),
        *_limit_problems(config),
        *tls_rules.problems(config),
        *_exposure_problems(config),
        *_peer_exposure_problems(config),
        *_discovery_problems(config),
        *auth_rules.problems(config),
    ]


def problem(flag: str, value: object, rule: str) -> str:
    """Say what is wrong with a setting."""
    return f"--{flag} {value}: {rule}"


def _url_problems(flag: str, urls: tuple[str, ...]) -> list[str]:
    found = []
    for url in urls:
        try:
            address = parse_url(url)
        except ValueError as error:
            found.append(problem(flag, url, str(error)))
            continue
        if flag.startswith("listen") and address.host != "localhost":
            try:
                ipaddress.ip_address(address.host)
            except ValueError:
                found.append(problem(flag, url, "listening needs an IP address or localhost"))
    return found


def _member_problems(config: Config) -> list[str]:
    found = []
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", config.name):
        found.append(
            problem("name", config.name, "1 to 63 letters, digits, dots, dashes, underscores")
        )
    if not config.listen_client_urls:
        found.append("--listen-client-urls: at least one URL is needed")
    beat, timeout = config.heartbeat_interval, config.election_timeout
    if not 10 <= beat <= 10_000:
        found.append(problem("heartbeat-interval", beat, "from 10 ms to 10 s"))
    if not 5 * beat <= timeout <= 50_000:
        found.append(
            problem("election-timeout", timeout, "at least 5 heartbeat intervals, at most 50 s")
        )
    retention = config.auto_compaction_retention
    try:
        (count if config.auto_compaction_mode == "revision" else duration_ms)(retention)
    except ValueError as error:
        found.append(problem("auto-compaction-retention", retention, str(error)))
    return found


_RANGES = {
    "snapshot_count": (100, 10_000_000),
    "max_learners": (1, 100),
    "quota_backend_bytes": (1 << 20, 1 << 40),
    "max_txn_ops": (1, 100_000),
    "max_request_bytes": (4096, 64 << 20),
    "max_connections": (1, 1_000_000),
    "max_connections_per_address": (1, 1_000_000),
    "max_connections_per_user": (0, 1_000_000),
    "max_leases": (1, 100_000_000),
    "max_leases_per_user": (0, 100_000_000),
    "max_session_records_per_user": (1, 100_000_000),
    "max_in_flight": (1, 65_536),
    "max_streams_per_connection": (1, 1_000_000),
    "max_streams": (1, 10_000_000),
    "max_streams_per_user": (1, 10_000_000),
    "max_unread_bytes": (1 << 20, 1 << 40),
    "max_unfinished_bytes": (1 << 20, 1 << 40),
    "header_timeout": (100, 600_000),
    "body_timeout": (100, 3_600_000),
    "keep_alive_timeout": (100, 86_400_000),
    "ping_interval": (100, 3_600_000),
    "silence_timeout": (200, 86_400_000),
}


def _limit_problems(config: Config) -> list[str]:
    found = []
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if not low <= value <= high:
            found.append(problem(name.replace("_", "-"), value, f"from {low} to {high}"))
    if config.silence_timeout < 2 * config.ping_interval:
        found.append(
            problem("silence-timeout", config.silence_timeout, "at least two ping intervals")
        )
    return found


def _exposure_problems(config: Config) -> list[str]:
    """Nothing is reachable from elsewhere without being allowed."""
    found = []
    for url in config.listen_client_urls:
        try:
            address = parse_url(url)
        except ValueError:
            continue
        proves = address.scheme == "https" and config.client_cert_auth and config.cert_file
        is_safe = proves or config.require_auth
        if not (address.is_loopback or is_safe or config.insecure_open):
            found.append(
                problem(
                    "listen-client-urls",
                    url,
                    "other machines could use it without proving who they are. Either listen on "
                    "127.0.0.1, or have everybody prove it: by users (--require-auth, then "
                    "`coordctl auth init` on this machine) or by client certificates (https URL, "
                    "--cert-file, --key-file, --trusted-ca-file, --client-cert-auth); or allow it "
                    "to everybody with --insecure-open",
                )
            )
    return found


def _peer_exposure_problems(config: Config) -> list[str]:
    """Who reaches a peer URL without a certificate could read and write everything."""
    found = []
    for url in config.listen_peer_urls:
        try:
            address = parse_url(url)
        except ValueError:
            continue
        proves = address.scheme == "https" and config.peer_cert_file
        if not (address.is_loopback or proves or config.insecure_open):
            found.append(
                problem(
                    "listen-peer-urls",
                    url,
                    "other machines could pass for members without proving who they are. Either "
                    "use https (--peer-cert-file, --peer-key-file, --peer-trusted-ca-file), or "
                    "allow it to everybody with --insecure-open",
                )
            )
    return found


def _discovery_problems(config: Config) -> list[str]:
    """One way to find the first members, and all of it."""
    ways = {
        "initial-cluster": config.initial_cluster,
        "discovery": config.discovery,
        "discovery-token": config.discovery_token,
        "discovery-srv": config.discovery_srv,
    }
    given = [f"--{flag}" for flag, value in ways.items() if value]
    found = []
    if len(given) > 1:
        found.append(f"{' and '.join(given)}: only one of them can tell the first members")
    if bool(config.discovery_token) != bool(config.discovery_endpoints):
        found.append("--discovery-token and --discovery-endpoints: one needs the other")
    if config.discovery_srv_name and not config.discovery_srv:
        found.append(
            problem("discovery-srv-name", config.discovery_srv_name, "needs --discovery-srv")
        )
    if given and given != ["--initial-cluster"] and config.initial_cluster_state == "existing":
        found.append(
            f"{given[-1]}: is for a new cluster, not with --initial-cluster-state existing"
        )
    for url in config.discovery_endpoints:
        try:
            parse_url(url)
        except ValueError as error:
            found.append(problem("discovery-endpoints", url, str(error)))
    return found
