"""What the benchmark of busy machines counts."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.busy import outside, pooled, table


def run(value: float, half: float = 0.01, *, marked: bool = False) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "marked": marked}


QUIET = [run(0.92), run(0.93)]


def test_a_ratio_is_outside_where_no_quiet_interval_holds_it() -> None:
    interval = pooled(QUIET)
    assert interval == (0.92 - 0.01, 0.93 + 0.01)
    assert outside([run(0.915), run(0.935), run(interval[0]), run(interval[1])], interval) == 0
    assert outside([run(0.9), run(1.0)], interval) == 2


def test_what_is_marked_does_no_harm() -> None:
    found = {
        "machine": "a machine",
        "model": "data/net",
        "processes": 2,
        "quiet": QUIET,
        "busy": {"off and on": [run(0.8, marked=True), run(0.8), run(0.92), run(0.92), run(0.92)]},
    }
    text = table(found)
    assert "| off and on | 5 | 2 | 1 | 1 of 4 |" in text
    assert "Outside without a mark: 25 %" in text and "0.91 to 0.94 x in 2 quiet runs" in text
