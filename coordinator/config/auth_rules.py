"""Whether the settings of authentication make sense."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coordinator.config.tokens import parse_token_setting
from coordinator.config.values import parse_url

if TYPE_CHECKING:
    from coordinator.config import Config

COST_MIN, COST_MAX = 10, 20


def problems(config: Config) -> list[str]:
    """List everything that is wrong."""
    return [*_token_problems(config), *_outside_problems(config), *_cost_problems(config)]


def _token_problems(config: Config) -> list[str]:
    try:
        setting = parse_token_setting(config.auth_token)
    except ValueError as error:
        # Nothing of it is quoted: somebody may have put the key itself where its file belongs.
        return [f"--auth-token: {error}"]
    return [
        f"--auth-token {file}: no such file" for file in setting.files if not Path(file).is_file()
    ]


def _outside_problems(config: Config) -> list[str]:
    found = []
    sources = [config.oidc_jwks_file, config.oidc_jwks_url]
    if config.oidc_issuer:
        if not config.oidc_audience:
            found.append(f"--oidc-issuer {config.oidc_issuer}: needs --oidc-audience")
        if len(list(filter(None, sources))) != 1:
            found.append(
                f"--oidc-issuer {config.oidc_issuer}: needs --oidc-jwks-file or --oidc-jwks-url"
            )
    elif any((*sources, config.oidc_audience)):
        found.append("--oidc-audience, --oidc-jwks-file, --oidc-jwks-url: need --oidc-issuer")
    if config.oidc_jwks_file and not Path(config.oidc_jwks_file).is_file():
        found.append(f"--oidc-jwks-file {config.oidc_jwks_file}: no such file")
    if config.oidc_jwks_url and not _may_be_fetched(config.oidc_jwks_url):
        found.append(f"--oidc-jwks-url {config.oidc_jwks_url}: https, or http on this machine")
    if not config.oidc_user_claim:
        found.append("--oidc-user-claim: must not be empty")
    return found


def _may_be_fetched(url: str) -> bool:
    try:
        parts = urlsplit(url)
        near = parts.hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and near))


def _cost_problems(config: Config) -> list[str]:
    if COST_MIN <= config.password_cost <= COST_MAX:
        return []
    return [f"--password-cost {config.password_cost}: from {COST_MIN} to {COST_MAX}"]


def warnings(config: Config) -> list[str]:
    """List what is allowed and dangerous; said at every start."""
    far = [url for url in config.listen_client_urls if not parse_url(url).is_loopback]
    peers = [url for url in config.listen_peer_urls if not parse_url(url).is_loopback]
    found = []
    if config.insecure_open and far:
        found.append(
            f"--insecure-open: whoever reaches {', '.join(far)} may read and change everything, as "
            "long as authentication is off"
        )
    if config.insecure_open and [url for url in peers if url.startswith("http:")]:
        found.append(f"--insecure-open: whoever reaches {', '.join(peers)} can pass for a member")
    clear = [url for url in far if url.startswith("http:")]
    if clear and not config.insecure_open:
        found.append(f"passwords and tokens travel in clear to {', '.join(clear)}: use https")
    return found
