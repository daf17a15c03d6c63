"""Whether the settings of TLS make sense together; `coordinator.tls` looks into the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.config import suites

if TYPE_CHECKING:
    from coordinator.config import Config

_FILES = (
    "cert-file",
    "key-file",
    "trusted-ca-file",
    "client-crl-file",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-crl-file",
)


def problems(config: Config) -> list[str]:
    """List everything that is wrong."""
    return [
        *_client_problems(config),
        *_peer_problems(config),
        *_version_problems(config),
        *(
            f"--{flag} {value}: no such file"
            for flag in _FILES
            if (value := _value(config, flag)) and not Path(value).is_file()
        ),
    ]


def _value(config: Config, flag: str) -> str:
    return str(getattr(config, flag.replace("-", "_")))


def _needing(config: Config, needed: str, flags: str) -> list[str]:
    """Complain of flags that mean nothing without another one."""
    given = {flag: _value(config, flag) for flag in flags.split()}
    return [f"--{flag} {value}: needs --{needed}" for flag, value in given.items() if value]


def _https(urls: tuple[str, ...]) -> list[str]:
    return [url for url in urls if url.startswith("https:")]


def _client_problems(config: Config) -> list[str]:
    found = []
    secure = _https(config.listen_client_urls)
    has_files = bool(config.cert_file and config.key_file)
    if secure and not (has_files or config.auto_tls):
        found.append(
            f"--listen-client-urls {secure[0]}: https needs --cert-file and --key-file, or "
            "--auto-tls"
        )
    if bool(config.cert_file) != bool(config.key_file):
        found.append("--cert-file and --key-file: one needs the other")
    if config.client_cert_auth and not config.trusted_ca_file:
        found.append("--client-cert-auth true: needs --trusted-ca-file")
    if not config.trusted_ca_file:
        found += _needing(config, "trusted-ca-file", "client-crl-file client-cert-allowed-hostname")
    return found


def _peer_problems(config: Config) -> list[str]:
    found = []
    given = (config.peer_cert_file, config.peer_key_file, config.peer_trusted_ca_file)
    needed = "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
    for flag in ("listen-peer-urls", "initial-advertise-peer-urls"):
        secure = _https(getattr(config, flag.replace("-", "_")))
        if secure and not (all(given) or config.peer_auto_tls):
            found.append(f"--{flag} {secure[0]}: https needs {needed}, or --peer-auto-tls")
    if any(given) and not all(given):
        found.append(f"{needed}: one needs the others")
    if not config.peer_trusted_ca_file:
        found += _needing(
            config,
            "peer-trusted-ca-file",
            "peer-crl-file peer-cert-allowed-cn peer-cert-allowed-hostname",
        )
        if config.peer_client_cert_auth:
            found.append("--peer-client-cert-auth true: needs --peer-trusted-ca-file")
    if config.peer_cert_allowed_cn and config.peer_cert_allowed_hostname:
        found.append("--peer-cert-allowed-cn and --peer-cert-allowed-hostname: only one of them")
    return found


def _version_problems(config: Config) -> list[str]:
    found = []
    if config.tls_max_version and config.tls_max_version < config.tls_min_version:
        found.append(
            f"--tls-max-version {config.tls_max_version}: older than --tls-min-version "
            f"{config.tls_min_version}"
        )
    if config.cipher_suites and config.tls_min_version == "TLS1.3":
        found.append("--cipher-suites: TLS 1.3 has none to choose; leave out --tls-min-version")
    found += suites.problems(config.cipher_suites)
    if not 1 <= config.self_signed_cert_validity <= 100:
        found.append(
            f"--self-signed-cert-validity {config.self_signed_cert_validity}: from 1 to 100 years"
        )
    return found
