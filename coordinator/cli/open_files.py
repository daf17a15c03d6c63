"""Room for connections: each is an open file, of which a process may have so many."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coordinator.config import Config

OWN_FILES: Final = 1536
"""What the member opens besides: the log, the state, other members; and those who are not admitted,
or not yet, as `coordinator.api.limits.limits_of` bounds them."""
OWN_FILES_MIN: Final = 96
"""What it cannot do without, the connections kept for this machine and for root included."""
logger = logging.getLogger("coordinator")


def fit_connections(config: Config) -> Config:
    """Let the process open a file for each connection; as many connections as it can, otherwise.

    Args:
        config: The settings.

    Returns:
        The settings with a ``max_connections`` that the process can keep.
    """
    allowed = _allow(config.max_connections + OWN_FILES)
    # Where there are few, half of them do for a member that is not busy, and clients get in.
    own = min(OWN_FILES, max(OWN_FILES_MIN, allowed // 2))
    most = max(1, allowed - own)
    if config.max_connections <= most:
        return config
    logger.warning(
        "--max-connections %d needs %d open files, the process may have %d: at most %d clients "
        "are admitted; raise it with `ulimit -Hn` or LimitNOFILE=",
        config.max_connections,
        config.max_connections + OWN_FILES,
        allowed,
        most,
    )
    return replace(config, max_connections=most)


def _allow(wanted: int) -> int:
    """Raise the limit of the process as far as it is wanted and may be; gives what holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # Some systems have limits beside this one.
        return soft
    return most
