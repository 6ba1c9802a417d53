"""Opening the page on a test's store, and reading what it shows."""

from __future__ import annotations

from collections.abc import Callable

from pandas import DataFrame
from streamlit.testing.v1 import AppTest

from compression.recipe.recipe import Recipe
from compression.runs.store import Store
from dashboard.state.form import SETTINGS
from dashboard.views.recipe.advanced import OPEN
from tests.dashboard.runs import MODEL

Open = Callable[..., AppTest]


def healthy(at: AppTest) -> AppTest:
    assert not at.exception, [e.value for e in at.exception]
    return at


def text_of(at: AppTest) -> str:
    shown = [*at.markdown, *at.caption, *at.error, *at.warning, *at.info]
    return "\n".join(str(element.value) for element in shown)


def metric_values(at: AppTest) -> dict[str, tuple[str, str]]:
    return {m.label: (m.value, m.delta) for m in at.metric}


def shown(at: AppTest) -> set[str]:
    """The settings that have a widget on the page."""
    drawn = [*at.selectbox, *at.segmented_control, *at.slider, *at.number_input, *at.pills]
    drawn += at.text_input
    return {str(element.key) for element in drawn} & {*SETTINGS}


def unfolded(at: AppTest) -> AppTest:
    """The page with the finer settings of every step in sight."""
    at.session_state[OPEN] = True
    return healthy(at.run())


def runs_table(at: AppTest) -> DataFrame:
    """The rows of the table of runs."""
    (table,) = (d for d in at.dataframe if str(d.key).startswith("runs_"))
    return table.value


def open_tab(at: AppTest, title: str) -> AppTest:
    """The page with that tab of the selected run open."""
    at.session_state["address"] = {**at.session_state["address"], "tab": title}
    return healthy(at.run())


def queued(at: AppTest, store: Store) -> Recipe:
    """The recipe of the run that Run starts now."""
    healthy(at.button(key="run").click().run())
    return store.runs.find(MODEL)[-1].run.recipe
