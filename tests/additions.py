"""What knows of a new setting, choice, format and backend: run in a process of its own, which adds
one of each before anything reads them, as an edit of their one place would. Prints JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from typing import Any, Literal

from compression.recipe import quantize
from compression.recipe.fields import Choice, Inactive, Shown, setting, settings

_ROUNDING = next(s for s in settings(quantize.Quantize) if s.name == "rounding")


class Quantize(quantize.Quantize):
    """With one more choice, and one more setting."""

    rounding: Literal["nearest", "gptq", "reconstruct", "stochastic"] = setting(  # type: ignore[assignment]
        "nearest",
        title=_ROUNDING.title,
        help=_ROUNDING.help,
        by_preset=True,
        choices={
            **_ROUNDING.words,
            "stochastic": Choice(
                "Stochastic rounding", "up or down at random", "stochastic", needs_images=True
            ),
        },
        shown=Shown(row=4),
    )
    dither: float = setting(
        0.0,
        ge=0,
        le=2,
        title="Dither amplitude",
        help="Noise added before rounding.",
        unit="steps",
        inactive=(
            Inactive(lambda v: v["rounding"] != "stochastic", "Only stochastic rounding dithers."),
        ),
    )


def _add() -> None:
    quantize.Quantize = Quantize  # type: ignore[misc]
    backends = importlib.import_module("compression.catalogue.backends")
    formats = importlib.import_module("compression.catalogue.file_formats")
    handlers = importlib.import_module("compression.export.handlers")
    runtimes = importlib.import_module("compression.export.backends")
    open_file = importlib.import_module("compression.export.open_file")
    backends.BACKENDS["npu"] = backends.Backend("npu", "NPU runtime", "int8", ("cpu",), "onnx")
    runtimes.RUNTIMES["npu"] = runtimes.Runtime(lambda: "NPU 1.0", lambda *_: lambda: None)
    formats.FORMATS["tflite"] = formats.FileFormat(
        "tflite", "LiteRT model", ".tflite", "ai-edge-litert", "int8", "LiteRT", "For phones."
    )
    opened = open_file.Opened("tflite", "LiteRT", lambda x: x, lambda x, n: lambda: None)
    handlers.HANDLERS["tflite"] = handlers.Handler(
        lambda source: handlers.MadeFile(b"0000TFL3"),
        lambda data, images: opened,
        lambda data: "some/model",
        handlers.Script(("import ai_edge_litert",), "model = load(file)", "model(%s)"),
        lambda data: data[4:8] == b"TFL3",
    )


def _help(*command: str) -> str:
    from compression.cli.main import main

    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return "".join(text.getvalue().split())


def _refusal(values: dict[str, Any]) -> str:
    from compression.errors import InvalidInput
    from compression.recipe.recipe import Recipe, parse

    try:
        parse(Recipe, {"steps": [{"step": "quantize", **values}]})
    except InvalidInput as error:
        return str(error)
    return ""


def _recipes() -> dict[str, Any]:
    from compression.recipe.calibration_need import needs_images
    from compression.recipe.inactive_fields import inactive_reasons
    from compression.recipe.presets import apply_preset, method_settings
    from compression.recipe.recipe import Recipe, parse
    from tests.readme.tables import settings_table

    given = {"step": "quantize", "bits": 4, "rounding": "stochastic"}
    made = parse(Recipe, {"steps": [{**given, "dither": 0.5}]})
    return {
        "old_key": parse(Recipe, {"steps": [{"step": "quantize", "bits": 4}]}).key,
        "sentence": made.sentence(),
        "needs_images": needs_images("rounding", "stochastic"),
        "method": method_settings("quantize"),
        "preset": apply_preset("better", given)["rounding"],
        "reason": inactive_reasons("quantize", {"bits": 4})["dither"],
        "out_of_range": _refusal({"dither": 3}),
        "no_choice": _refusal({"rounding": "luck"}),
        "table": settings_table(),
    }


def _files() -> dict[str, Any]:
    from compression.catalogue.cards import card
    from compression.errors import InvalidInput
    from compression.export.backends import describe, why_not
    from compression.export.handlers import model_of, open_data
    from compression.export.inference_script import Runner, script_of
    from compression.measure.latency_report import plan

    try:
        plan(True, backends=["tpu"])
    except InvalidInput as error:
        refused = str(error)
    return {
        "opened": open_data(b"0000TFL3", (3, 32, 32), trusted=False).format,
        "model": model_of(b"0000TFL3"),
        "script": script_of(Runner("a.tflite", "tflite", card("fashion-mnist/resnet18"))),
        "engine": describe("npu", "cpu"),
        "not_there": why_not("npu", "cuda"),
        "no_backend": refused,
    }


def _page() -> dict[str, Any]:
    from streamlit.testing.v1 import AppTest

    from compression.catalogue.backends import title
    from dashboard.server.launch import SCRIPT
    from dashboard.state.stored import store
    from tests.dashboard.page import healthy, text_of, unfolded
    from tests.dashboard.runs import done, recipe

    store().facts.add("store", "examples", {"names": []})
    store().runs.add(done(recipe(bits=4)))
    at = AppTest.from_file(str(SCRIPT), default_timeout=60)
    for name, value in {"bits": "4", "rounding": "stochastic", "dither": "0.5"}.items():
        at.query_params[name] = value
    at.query_params["tab"] = "Download"
    at = unfolded(healthy(at.run()))
    return {
        "options": at.selectbox(key="rounding").options,
        "chosen": at.selectbox(key="rounding").value,
        "dither": [at.number_input(key="dither").label, at.number_input(key="dither").value],
        "downloads": text_of(at),
        "backend": title("npu"),
    }


def main() -> None:
    """Add one of each, and say who knows of them."""
    _add()
    facts = {"run_help": _help("run"), "export_help": _help("export"), **_recipes(), **_files()}
    print(json.dumps(facts | _page()))


if __name__ == "__main__":
    main()
