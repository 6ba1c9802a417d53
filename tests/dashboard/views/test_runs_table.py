"""The table of runs: what is ticked, and how its numbers are written."""

from __future__ import annotations

from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from compression.runs.store import Store
from dashboard.views.runs_table import table_key
from tests.dashboard.page import Open, healthy, runs_table
from tests.dashboard.runs import MODEL, done, fill, recipe

MINUS, GAP = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def ticked(at: AppTest) -> list[str]:
    ids = list(runs_table(at)["run"])
    selection = at.session_state[table_key("runs", ids)]["selection"]
    return [ids[row] for row in selection["rows"]]


def test_the_tick_follows_the_selection_wherever_it_was_made(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(run=runs[0].id)
    assert ticked(at) == [runs[0].id]
    healthy(at.button(key="step_right").click().run())
    now = at.query_params["run"]
    assert now != runs[0].id and ticked(at) == [now]


def test_numbers_are_written_as_on_the_rest_of_the_page(page: Open, store: Store) -> None:
    store.runs.add(done(recipe(bits=4), 0.9168, 60_500, 0.0847))
    at = page(model=MODEL)
    (table,) = (d for d in at.dataframe if str(d.key).startswith("runs_"))
    shown = convert_arrow_bytes_to_pandas_df(table.proto.arrow_data.styler.display_values).iloc[0]
    assert dict(shown[["accuracy_percent", "change_points", "size_mb", "latency_ms"]]) == {
        "accuracy_percent": f"91.7{GAP}%",
        "change_points": f"{MINUS}0.32 points",
        "size_mb": f"60.5{GAP}kB",
        "latency_ms": f"0.0847{GAP}ms",
    }
    assert shown["int8_ratio"] == "–"
    assert runs_table(at)["size_mb"][0] == 0.0605  # and sorted as numbers
