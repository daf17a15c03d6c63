"""A member admits as many clients as it may open files for."""

from __future__ import annotations

import logging
import resource

import pytest

from coordinator.cli.open_files import OWN_FILES, fit_connections
from coordinator.config import Config


class Limit:
    """Stands for the limit of the process."""

    def __init__(self, soft: int, hard: int) -> None:
        self.held = soft, hard

    def get(self, what: int) -> tuple[int, int]:
        """Tell it."""
        return self.held

    def set(self, what: int, held: tuple[int, int]) -> None:
        """Change it."""
        self.held = held


@pytest.mark.parametrize(
    ("soft", "hard", "soft_then", "connections"),
    [
        (1024, 9000, 2000 + OWN_FILES, 2000),
        (1024, resource.RLIM_INFINITY, 2000 + OWN_FILES, 2000),
        (9000, 9000, 9000, 2000),
        (1024, 1024, 1024, 512),
        (256, 256, 256, 128),
        (64, 64, 64, 1),
    ],
)
def test_connections_fit_the_open_files(
    soft: int,
    hard: int,
    soft_then: int,
    connections: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The soft limit is raised as far as needed; if that is too little, one line names both."""
    limit = Limit(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limit.get)
    monkeypatch.setattr(resource, "setrlimit", limit.set)
    with caplog.at_level(logging.WARNING, "coordinator"):
        fitted = fit_connections(Config(max_connections=2000))
    assert limit.held == (soft_then, hard)
    assert fitted.max_connections == connections
    lines = [one.getMessage() for one in caplog.records]
    if connections == 2000:
        assert not lines
    else:
        (line,) = lines
        assert "--max-connections 2000" in line
        assert f"the process may have {soft}" in line
