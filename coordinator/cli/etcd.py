"""The command ``coordinator-etcd``: a member behind etcd's own command line.

For scripts and test suites that start etcd: its flags with one dash or two, its environment
(``ETCD_NAME`` for ``--name``), and the lines that tell that it is ready. As etcd does by default,
it serves everybody who reaches its addresses, and says so.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from coordinator import __version__
from coordinator.api.health import ETCD_VERSION
from coordinator.cli.etcd_file import read_file
from coordinator.cli.serve import serve
from coordinator.config import ConfigError, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordinator.config import Config
    from coordinator.node.node import Node

PROGRAM = "coordinator-etcd"

SAME = frozenset(
    """
    name data-dir snapshot-count heartbeat-interval election-timeout listen-peer-urls
    listen-client-urls quota-backend-bytes max-txn-ops max-request-bytes initial-advertise-peer-urls
    initial-cluster initial-cluster-state initial-cluster-token advertise-client-urls discovery
    discovery-token discovery-endpoints discovery-srv discovery-srv-name strict-reconfig-check
    auto-compaction-mode auto-compaction-retention max-learners cert-file key-file trusted-ca-file
    client-cert-auth client-crl-file client-cert-allowed-hostname auto-tls peer-cert-file
    peer-key-file peer-trusted-ca-file peer-client-cert-auth peer-crl-file peer-cert-allowed-cn
    peer-cert-allowed-hostname peer-auto-tls cipher-suites tls-min-version tls-max-version
    self-signed-cert-validity auth-token log-level force-new-cluster
    """.split()
)
"""Flags that mean the same here."""

RENAMED = {"host-whitelist": "allowed-hosts", "cors": "allowed-origins"}
"""Flags that have another name here."""

SWITCHES = frozenset(
    """
    initial-election-tick-advance strict-reconfig-check enable-v2 client-cert-auth auto-tls
    peer-client-cert-auth peer-auto-tls enable-pprof force-new-cluster unsafe-no-fsync pre-vote
    debug
    experimental-initial-corrupt-check experimental-enable-lease-checkpoint
    experimental-peer-skip-client-san-verification enable-log-rotation
    discovery-insecure-transport discovery-insecure-skip-tls-verify enable-grpc-gateway
    socket-reuse-port socket-reuse-address experimental-memory-mlock initial-corrupt-check
    experimental-enable-distributed-tracing enable-distributed-tracing
    experimental-enable-v2v3 experimental-txn-mode-write-with-shared-buffer
    experimental-enable-lease-checkpoint-persist experimental-stop-grpc-service-on-defrag
    experimental-compact-hash-check-enabled
    """.split()
)
"""Flags that may stand without a value."""

IGNORED = {
    "wal-dir": "the log lies in the data directory",
    "max-snapshots": "there are no snapshot files",
    "max-wals": "the log is cut by itself",
    "max-concurrent-streams": "the limit of streams is --max-streams-per-connection",
    "enable-v2": "there is no v2 API",
    "initial-election-tick-advance": "elections need no head start here",
    "pre-vote": "members always ask before they vote",
    "bcrypt-cost": "passwords are hashed by scrypt",
    "listen-metrics-urls": "metrics are at /metrics of the client URLs",
    "unsafe-no-fsync": "what is acknowledged is on the disk",
    "host-whitelist": "the names of its URLs are known; name others",
    "cors": "pages of other origins are named one by one",
}
"""Flags that do not apply, with the reason where there is one to tell."""

IGNORED_PLAIN = frozenset(
    """
    listen-client-http-urls backend-batch-interval backend-batch-limit backend-bbolt-freelist-type
    grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout discovery-fallback
    discovery-proxy discovery-dial-timeout discovery-request-timeout discovery-keepalive-time
    discovery-keepalive-timeout discovery-cert discovery-key discovery-cacert discovery-user
    discovery-password metrics logger log-outputs log-output log-package-levels
    log-format log-rotation-config-json proxy
    proxy-failure-wait proxy-refresh-interval proxy-dial-timeout proxy-write-timeout
    proxy-read-timeout feature-gates v2-deprecation corrupt-check-time
    compaction-batch-limit compaction-sleep-interval watch-progress-notify-interval
    warning-apply-duration warning-unary-request-duration downgrade-check-time
    snapshot-catchup-entries memory-mlock bootstrap-defrag-threshold-megabytes
    """.split()
)

OWN = frozenset(("config-file", "auth-token-ttl", "debug"))
"""Flags that become others here."""

LOG_LEVELS = {"warn": "warning", "dpanic": "error", "panic": "error", "fatal": "error"}
"""Levels of etcd's log that have another name here."""

DEFAULTS = {"auto-compaction-retention": "0", "auth-token": "simple"}
"""Where etcd's default is another one than ours."""


class Given(NamedTuple):
    """What a command line says.

    Attributes:
        flags: The settings of ``coordinator serve``.
        warnings: What was not taken over, and why.
        problems: What is wrong.
    """

    flags: dict[str, str]
    warnings: list[str]
    problems: list[str]


def is_known(flag: str) -> bool:
    """Whether etcd has such a flag."""
    plain = flag.removeprefix("experimental-")
    known = (SAME, RENAMED, SWITCHES, IGNORED, IGNORED_PLAIN, OWN)
    return any(flag in group or plain in group for group in known)


def read_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Read a command line as Go's flag package does.

    Raises:
        ConfigError: Something in it is no flag of etcd.
    """
    found: dict[str, str] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            raise ConfigError([f"{word!r} is not a valid flag"])
        flag, equals, value = word.lstrip("-").partition("=")
        if not is_known(flag):
            raise ConfigError([f"flag provided but not defined: -{flag}"])
        if not equals:
            if flag in SWITCHES:
                value = "true"
            elif not left:
                raise ConfigError([f"flag needs an argument: -{flag}"])
            else:
                value = left.pop(0)
        found[flag] = value
    return found


def translate(arguments: Sequence[str], environment: Mapping[str, str]) -> Given:
    """Turn etcd's command line and environment into settings of ours.

    Raises:
        ConfigError: Something is no flag of etcd.
    """
    said = read_arguments(arguments)
    path = said.get("config-file") or environment.get("ETCD_CONFIG_FILE", "")
    if path:
        # As with etcd, a file stands for everything else.
        said = _known(read_file(path), path)
    else:
        for name, value in sorted(environment.items()):
            flag = name.removeprefix("ETCD_").lower().replace("_", "-")
            if name.startswith("ETCD_") and value and is_known(flag):
                said.setdefault(flag, value)
    given = Given({}, [], [])
    if path:
        given.warnings.append("--config-file is given: other flags and the environment are ignored")
    _own(said)
    for flag, value in said.items():
        if flag in SAME:
            given.flags[flag] = value
        elif flag in RENAMED and value != "*":
            given.flags[RENAMED[flag]] = value
        else:
            reason = IGNORED.get(flag, "it means nothing here")
            given.warnings.append(f"--{flag} is ignored: {reason}")
    _complete(given)
    return given


def _known(said: dict[str, str], path: str) -> dict[str, str]:
    """Refuse a file that names what is no flag of etcd.

    Raises:
        ConfigError: It does.
    """
    unknown = [flag for flag in said if not is_known(flag) or flag == "config-file"]
    if unknown:
        raise ConfigError([f"--config-file {path}: {flag} is no setting" for flag in unknown])
    return said


def _own(said: dict[str, str]) -> None:
    """Turn flags into those that stand for them here."""
    if said.pop("debug", "false").lower() in ("true", "1", "t"):
        said["log-level"] = "debug"
    if "log-level" in said:
        said["log-level"] = LOG_LEVELS.get(said["log-level"], said["log-level"])
    ttl = said.pop("auth-token-ttl", "")
    if ttl and said.get("auth-token", "simple") == "simple":
        said["auth-token"] = f"simple,ttl={ttl}s"


def _complete(given: Given) -> None:
    """Add what etcd has by default."""
    flags = given.flags
    for flag, value in DEFAULTS.items():
        flags.setdefault(flag, value)
    flags.setdefault("data-dir", f"{flags.get('name', 'default')}.etcd")
    if "listen-client-urls" in flags and "advertise-client-urls" not in flags:
        given.problems.append(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        )
    flags["insecure-open"] = "true"
    given.warnings.append(
        "as etcd does, this member serves everybody who reaches its addresses (--insecure-open); "
        "`coordinator serve` does so only if told to"
    )


def _log(level: str, package: str, text: str) -> None:
    """Write a line as etcd 3.4 does."""
    now = time.time()
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    print(f"{at}.{int(now % 1 * 1e6):06d} {level} | {package}: {text}", file=sys.stderr, flush=True)


def _announce(config: Config, node: Node) -> None:
    """Say what harnesses wait for."""
    version = ETCD_VERSION.rpartition(".")[0]
    urls = " ".join(config.advertise_client_urls)
    _log("I", "etcdserver/api", f"enabled capabilities for version {version}")
    _log(
        "I",
        "etcdserver",
        f"published {{Name:{config.name} ClientURLs:[{urls}]}} to cluster {node.cluster_id:x}",
    )
    _log("I", "embed", "ready to serve client requests")


def _version() -> str:
    return (
        f"etcd Version: {ETCD_VERSION}\nGit SHA: coordinator {__version__}\n"
        f"Go Version: none (Python {platform.python_version()})\n"
        f"Go OS/Arch: {sys.platform}/{platform.machine()}"
    )


def _usage() -> str:
    return (
        f"Usage:\n  {PROGRAM} [flags]\n    Start a member of Coordinator with etcd's own flags.\n"
        f"  {PROGRAM} --version\n  {PROGRAM} -h | --help\n\n"
        f"Flags that mean the same: {', '.join(sorted(SAME))}.\n"
        "Others of etcd's flags are accepted with a warning. --config-file names a file as etcd's."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    asked = {word.lstrip("-") for word in arguments if word.startswith("-")}
    if asked & {"version", "h", "help"}:
        print(_version() if "version" in asked else _usage())
        return 0
    try:
        given = translate(arguments, os.environ)
        if given.problems:
            raise ConfigError(given.problems)
        config = resolve(given.flags, {})
        for warning in given.warnings:
            _log("W", "etcdmain", warning)
        return serve(config, _announce)
    except ConfigError as error:
        for problem in error.problems:
            _log("E", "etcdmain", f"error verifying flags, {problem}. See '{PROGRAM} --help'.")
        return 2


if __name__ == "__main__":
    sys.exit(main())
