"""What presets cost is measured for real, and kept where the command line reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compression.catalogue.cards import cards
from compression.catalogue.preset_timings import Costs
from compression.catalogue.preset_timings import costs as measured
from compression.errors import CompressionError
from compression.recipe.presets import PRESETS
from tests.benchmarks import costs

MODEL = min((c for c in cards().values() if c.bundled), key=lambda c: c.parameters).id


@pytest.mark.slow
def test_costs_are_measured_in_a_process_apart_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "costs.json"
    costs.main(["--models", MODEL, "--presets", "fast", "--to", str(path)])
    found = Costs.model_validate_json(path.read_bytes())
    taken = found.of(MODEL, "fast")
    assert taken is not None and 0 < taken < 300
    assert f"{MODEL} fast: {taken} s" in capsys.readouterr().out
    assert "cores" in found.machine
    assert found.command == costs.COMMAND


def test_seconds_of_the_same_machine_are_kept_and_of_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    for model, machine, known in (("a", "x", {"a"}), ("b", "x", {"a", "b"}), ("c", "y", {"c"})):
        seconds = {model: dict.fromkeys(PRESETS, 1.0)}
        costs.write(Costs(machine=machine, command="c", seconds=seconds), path)
        assert set(Costs.model_validate_json(path.read_bytes()).seconds) == known


@pytest.mark.slow
def test_a_preset_that_cannot_be_measured_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=f"{MODEL}, hasty: .*preset: got 'hasty'"):
        costs.main(["--models", MODEL, "--presets", "hasty"])


def test_costs_are_read_from_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "costs.json"
    monkeypatch.setattr("compression.catalogue.preset_timings.costs_path", lambda: path)
    measured.cache_clear()
    assert measured() == Costs()
    assert measured().of("any", "fast") is None
    path.write_text('{"machine": "m", "command": "c", "seconds": {"any": {"fast": 2.5}}}')
    measured.cache_clear()
    assert measured().of("any", "fast") == 2.5
    for damaged in ("{", '{"seconds": 3}', '{"seconds": {"any": {"fast": "soon"}}}'):
        path.write_text(damaged)
        measured.cache_clear()
        with pytest.raises(CompressionError, match=r"costs\.json cannot be read"):
            measured()
    measured.cache_clear()
