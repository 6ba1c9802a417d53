"""The page on the test's store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from streamlit.components.v2.component_manager import BidiComponentManager
from streamlit.testing.v1 import AppTest

from compression.paths import STORE_VARIABLE
from compression.runs.store import Store
from dashboard.server.launch import SCRIPT
from tests.dashboard.page import Open, healthy


@pytest.fixture(scope="session", autouse=True)
def _without_a_search_for_components() -> Iterator[None]:
    """Each page under test would look through all installed packages for components, of which ours
    uses none: that would take most of the time of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            BidiComponentManager, "discover_and_register_components", lambda *_, **__: None
        )
        yield


@pytest.fixture
def page(store: Store, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the page on the test's store, with URL parameters."""
    monkeypatch.setenv(STORE_VARIABLE, store.url)
    store.facts.add("store", "examples", {"names": []})  # as if it had had them

    def open_page(**params: str) -> AppTest:
        at = AppTest.from_file(str(SCRIPT), default_timeout=30)
        for name, value in params.items():
            at.query_params[name] = value
        return healthy(at.run())

    return open_page
