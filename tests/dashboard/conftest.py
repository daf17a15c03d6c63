"""One browser for each module, one cluster with something of everything in it for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from coordinator_sdk.sync import Client
from coordinator_sdk.testing import ClusterProcess, running_cluster
from tests.dashboard.browser import Tab, headless, tab_of
from tests.dashboard.contents import Contents, filled


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless browser."""
    with headless() as made:
        yield made


@pytest.fixture(scope="package")
def cluster() -> Iterator[ClusterProcess]:
    """Three members."""
    with running_cluster() as made:
        yield made


@pytest.fixture(scope="package")
def contents(cluster: ClusterProcess) -> Iterator[Contents]:
    """Something of everything in the cluster."""
    with Client(*cluster.urls) as client, filled(client) as made:
        yield made


@pytest.fixture
def client(cluster: ClusterProcess) -> Iterator[Client]:
    """A client of the cluster."""
    with Client(*cluster.urls) as made:
        yield made


@pytest.fixture
def tab(browser: Browser, cluster: ClusterProcess, contents: Contents) -> Iterator[Tab]:
    """A tab at the first member."""
    with tab_of(browser, cluster.urls[0]) as made:
        yield made
