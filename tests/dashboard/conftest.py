"""The page on the test's store."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from compression.paths import STORE_VARIABLE
from compression.runs.store import Store
from dashboard.server.launch import SCRIPT
from tests.dashboard.page import Open, healthy


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
