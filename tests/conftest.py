"""What every test may lean on: hypothesis profiles and the folder of recorded data."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# `ci` gives the same examples on every run; `soak` looks further: HYPOTHESIS_PROFILE=soak.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile(
    "soak",
    deadline=None,
    max_examples=5_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def conformance_dir() -> Path:
    """Return the folder of data recorded from other systems; the test skips where it is absent."""
    folder = os.environ.get("CONFORMANCE_DIR")
    if not folder:
        pytest.skip("CONFORMANCE_DIR is not set: no recorded data from outside")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"CONFORMANCE_DIR={folder} is no folder")
    return path
