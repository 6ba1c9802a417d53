"""A setting, a choice, a format, a backend: each is added in one place, and all else knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Quantize

pytestmark = pytest.mark.slow

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """What a process says that has one more of each."""
    store = f"sqlite:///{tmp_path_factory.mktemp('additions') / 'runs.sqlite'}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.additions"],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "COMPRESSION_STORE": store, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts: Facts = json.loads(done.stdout.splitlines()[-1])
    return facts


def test_a_new_setting_is_a_flag_a_row_a_refusal_and_a_widget(facts: Facts) -> None:
    assert "--dither" in facts["run_help"] and "Noiseaddedbeforerounding." in facts["run_help"]
    assert "| `quantize` | `dither` | from 0 to 2 (steps) | 0.0 | Noise added" in facts["table"]
    assert facts["out_of_range"] == "steps.0.dither: got 3, allowed: from 0 to 2"
    assert facts["reason"] == "Only stochastic rounding dithers."
    assert facts["dither"] == ["Dither amplitude", 0.5]


def test_a_new_choice_has_its_words_everywhere(facts: Facts) -> None:
    assert "stochastic:upordownatrandom" in facts["run_help"]
    assert "stochastic: up or down at random" in facts["table"]
    assert "reconstruct, stochastic" in facts["no_choice"]
    assert "Stochastic rounding" in facts["options"] and facts["chosen"] == "stochastic"
    assert facts["sentence"] == "Store the weights in 4 bits (stochastic)."


def test_presets_and_models_without_images_know_a_new_choice(facts: Facts) -> None:
    assert facts["needs_images"]
    assert "rounding" in facts["method"] and "dither" not in facts["method"]
    assert facts["preset"] == "stochastic"  # what is explicit wins


def test_a_new_setting_leaves_the_keys_of_old_recipes(facts: Facts) -> None:
    assert facts["old_key"] == Recipe(steps=(Quantize(bits=4),)).key


def test_a_new_format_can_be_asked_for_opened_run_and_downloaded(facts: Facts) -> None:
    assert "pt2|tflite" in facts["export_help"]
    assert (facts["opened"], facts["model"]) == ("tflite", "some/model")
    assert "import ai_edge_litert" in facts["script"] and "model(images)" in facts["script"]
    assert "pip install ai-edge-litert" in facts["script"]
    assert "**LiteRT**" in facts["downloads"] and "For phones." in facts["downloads"]


def test_a_new_backend_is_named_described_and_refused(facts: Facts) -> None:
    assert facts["backend"] == "NPU runtime" and facts["engine"] == "NPU 1.0 int8"
    assert facts["not_there"] == "NPU runtime is not for cuda"
    assert "2:4, npu" in facts["no_backend"]
