"""The pure parts of the benchmark of peers: what is chosen, what stands in the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.peers import sizes, table
from tests.benchmarks.peers.cells import CELLS, FILES, SWEEP
from tests.benchmarks.peers.environments import ENVIRONMENTS
from tests.benchmarks.peers.methods import METHODS, ORIGINAL, missing
from tests.benchmarks.peers.results import Key, Result, pack_bits

MODEL, N = "fashion-mnist/resnet18", 1000


def _result(
    method: str, cell: str, variant: str, split: str, right: int, size: float = 0
) -> Result:
    """A result with the first `right` of `N` images right."""
    bits = pack_bits(np.arange(N) < right)
    return Result(method, MODEL, cell, variant, split, N, bits, facts={"bytes": size})


def _known(results: Sequence[Result]) -> dict[Key, Result]:
    originals = [_result(ORIGINAL, ORIGINAL, "", s, 900) for s in ("validation", "test")]
    return {r.key: r for r in [*originals, *results]}


def test_columns_with_batch_norm_stand_beside_the_ones_without() -> None:
    titles = [m.title for m in METHODS.values()]
    for title in ("torch prune", "torch-pruning"):
        assert titles.index(f"{title} + BN") == titles.index(title) + 1
    plain, adapted = METHODS["torch-pruning"], METHODS["torch-pruning + BN"]
    for cell, variants in plain.variants.items():
        assert {f"{v}, adapted" for v in variants} < set(adapted.variants[cell])
        assert any("in steps" in v for v in adapted.variants[cell])


@pytest.mark.parametrize("method", [m for m in METHODS if m != ORIGINAL])
def test_a_method_says_why_for_every_cell_that_it_does_not_have(method: str) -> None:
    about = METHODS[method]
    assert set(about.variants) <= set(CELLS)
    if SWEEP not in about.variants:
        assert set(CELLS) - {*FILES, SWEEP} <= set(about.variants) | set(about.reasons)


def test_steps_are_chosen_on_validation_and_reported_on_test() -> None:
    one, other = METHODS["torch-pruning + BN"].variants["macs50"][-2:]
    results = [
        _result("torch-pruning + BN", "macs50", one, "validation", 880),
        _result("torch-pruning + BN", "macs50", other, "validation", 890),
        _result("torch-pruning + BN", "macs50", one, "test", 899),  # better, but not the choice
        _result("torch-pruning + BN", "macs50", other, "test", 870),
    ]
    entry = table.entry(_known(results), "torch-pruning + BN", MODEL, "macs50", "test")
    assert entry.result == results[-1]
    assert entry.change is not None
    assert entry.change.value == pytest.approx(-0.03, abs=1e-3)


def _channels(ours: int, plain: int, adapted: int) -> str:
    def one(method: str, right: int) -> Result:
        return _result(method, "macs50", METHODS[method].variants["macs50"][0], "test", right)

    named = {"ours": ours, "torch-pruning": plain, "torch-pruning + BN": adapted}
    known = _known([one(method, right) for method, right in named.items()])
    return table.report(known, [MODEL], ["macs50"], "test")


def test_a_peer_ahead_is_said_to_be_ahead() -> None:
    text = _channels(ours=800, plain=400, adapted=890)
    assert "clearly ahead in 1 of 2 comparisons, level in 0 and clearly behind in 1." in text
    assert "clearly ahead in 0 of 1 rows, level in 0 and clearly behind in 1." in text
    row = next(line for line in text.splitlines() if "0.5 x MACs" in line)
    assert row.endswith("▼ |")
    assert "**-1.00" in row


def test_a_method_that_was_not_run_has_no_column() -> None:
    header = _channels(ours=890, plain=400, adapted=800).splitlines()[2]
    assert [cell.strip() for cell in header.split("|")[3:6]] == [
        "ours",
        "torch-pruning",
        "torch-pruning + BN",
    ]
    known = _known([_result("aimet", "W4", METHODS["aimet"].variants["W4"][0], "test", 890)])
    lines = table.report(known, [MODEL], ["W4", "W3"], "test").splitlines()
    assert "AIMET" in lines[0]
    assert "Brevitas" not in lines[0]
    assert "AIMET: not run yet" in "\n".join(lines)


def test_a_row_counts_once_against_its_best_peer() -> None:
    text = _channels(ours=890, plain=400, adapted=800)
    assert "clearly ahead in 2 of 2 comparisons" in text
    assert "clearly ahead in 1 of 1 rows" in text


def test_the_smallest_file_that_is_as_accurate_stands_against_ours() -> None:
    ours = _result("ours", "file4", "x", "validation", 880, 500)
    variants = METHODS["nncodec"].variants[SWEEP]
    rights_and_sizes = ((895, 900), (880, 700), (885, 600), (879, 300))
    sweep = [
        _result("nncodec", SWEEP, v, "validation", right, size)
        for v, (right, size) in zip(variants, rights_and_sizes, strict=False)
    ]
    assert sizes.matched(ours, sweep) == sweep[2]
    assert sizes.matched(ours, sweep[3:]) is None
    assert (
        sizes.matched(ours, [Result("nncodec", MODEL, SWEEP, "v", "validation", reason="no")])
        is None
    )


def test_the_table_of_sizes_reports_the_test_split() -> None:
    ours, peer = METHODS["ours"].variants["file4"][0], METHODS["nncodec"].variants[SWEEP][0]
    results = [
        _result("ours", "file4", ours, "validation", 880, 500),
        _result("nncodec", SWEEP, peer, "validation", 885, 1000),
    ]
    assert sizes.size_table(_known(results), [MODEL], list(FILES), "test") == ""
    results += [
        _result("ours", "file4", ours, "test", 890, 500),
        _result("nncodec", SWEEP, peer, "test", 870, 1000),
    ]
    text = sizes.size_table(_known(results), [MODEL], list(FILES), "test")
    row = text.splitlines()[-1]
    assert [cell.strip() for cell in row.split("|")][1:4] == ["resnet18", "4 bits", "0.5"]
    assert "-1.00" in row
    assert "-3.0" in row
    assert row.endswith("| 0.50 |")


def test_a_file_that_no_peer_is_as_accurate_as_stays_in_the_table() -> None:
    ours, peer = METHODS["ours"].variants["file8"][0], METHODS["nncodec"].variants[SWEEP][0]
    results = [
        _result("ours", "file8", ours, "validation", 900, 500),
        _result("ours", "file8", ours, "test", 890, 500),
        _result("nncodec", SWEEP, peer, "validation", 899, 1000),
    ]
    text = sizes.size_table(_known(results), [MODEL], list(FILES), "test")
    assert text.splitlines()[-1].endswith("| none | as accurate | - |")


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.benchmarks.peers.methods.find_spec", lambda name: None)
    monkeypatch.setattr("tests.benchmarks.peers.methods.python_of", lambda name: tmp_path / name)
    lines = missing(["brevitas", "nncodec"])
    assert lines[0].startswith("brevitas: uv sync")
    assert lines[1] == f"nncodec: {ENVIRONMENTS['nncodec'].command}"
