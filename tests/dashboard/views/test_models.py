"""Every model in one table."""

from __future__ import annotations

from compression.catalogue.cards import cards
from dashboard.views.models import frame
from tests.dashboard.runs import MODEL, done, recipe


def test_each_model_has_a_row_and_what_was_found_here() -> None:
    known = list(cards().values())
    runs = {MODEL: [done(recipe(bits=4), 0.918, 2 * 10**6), done(recipe(bits=2), 0.8, 10**5)]}
    table = frame(known, runs).set_index("model")
    assert len(table) == len(known)
    row = table.loc[cards()[MODEL].title]
    best = runs[MODEL][0].delta
    assert best is not None
    assert (row["runs"], row["smaller"]) == (2, best.size_ratio)
    assert table.drop(cards()[MODEL].title)["runs"].sum() == 0
    assert set(table["trained_on"]) == {"Fashion-MNIST", "ImageNet"}
