"""The page about operating knows every setting, and no other."""

import re
from pathlib import Path

from coordinator.config import setting_fields

OTHER_FLAGS = {"config-file", "origin"}


def test_the_page_names_every_flag(repository: Path) -> None:
    """docs/operating.md names every flag of `coordinator serve`, and none that does not exist."""
    page = (repository / "docs/operating.md").read_text()
    named = set(re.findall(r"`--([a-z][a-z-]+)", page)) - OTHER_FLAGS
    assert named == set(setting_fields())


def test_the_page_gives_the_defaults_of_the_limits(repository: Path) -> None:
    """The rows of the limits show the defaults that the code has."""
    page = (repository / "docs/operating.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    shown = {match[1]: row[1] for row in rows if (match := re.match(r"`--([a-z-]+)`", row[-1]))}
    for flag, one in setting_fields().items():
        if flag in shown and one.metadata["group"] == "Limits":
            number = one.default
            forms = {f"{number:,}", f"{number // 1000} s", f"{number >> 20} MiB"}
            assert any(form in shown[flag] for form in forms), (flag, shown[flag])
    assert {"max-request-bytes", "max-connections", "ping-interval"} <= set(shown)
