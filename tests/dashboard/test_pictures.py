"""The pictures that the pages show are those that can be taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.dashboard.browser import ROOT, headless_program
from tests.dashboard.pictures import IMAGES, take

PAGES = ("README.md", "docs/dashboard.md")


def test_every_picture_is_shown_and_kept() -> None:
    """README and the page of the dashboard show what docs/img keeps, and nothing else."""
    kept = {path.name for path in IMAGES.glob("*.png")}
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"img/([\w-]+\.png)", (ROOT / page).read_text(encoding="utf-8"))
    }
    assert kept == shown


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_pictures_are_taken_from_a_live_cluster(tmp_path: Path) -> None:
    """`make pictures` makes each of them."""
    headless_program()
    take(tmp_path, chart_ms=0)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in IMAGES.iterdir()}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
