"""The page's state is read once a rerun."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from compression.runs.store import Store
from dashboard.state import session
from tests.dashboard.page import Open, healthy
from tests.dashboard.runs import done, recipe


def test_form_is_built_once_a_rerun(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.runs.add(done(recipe(bits=4)))
    at = page()
    built: list[int] = []
    whole = session.form
    monkeypatch.setattr(session, "form", lambda: built.append(1) or whole())
    healthy(at.run())
    assert len(built) == 1
    assert session._PAGE not in at.session_state


@pytest.mark.slow
def test_a_page_state_is_shared_while_the_page_is_drawn_and_read_anew_after() -> None:
    def script() -> None:
        import streamlit as st

        from dashboard.state import session

        session.read_url()
        with session.drawing() as state:
            assert session.page() is state is session.current_page()
            assert state.card.id == st.session_state["model"]
        assert session.current_page() is None
        assert session.page() == state
        assert session.page() is not state

    healthy(AppTest.from_function(script).run())
