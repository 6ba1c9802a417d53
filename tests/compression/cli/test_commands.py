"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from compression.catalogue.cards import cards
from compression.catalogue.preset_timings import Costs
from compression.cli.flags import build_recipe
from compression.cli.tables import catalogue as tables
from compression.errors import InvalidInput
from compression.recipe.fields import settings
from compression.recipe.presets import PRESETS
from compression.recipe.recipe import Recipe
from compression.recipe.steps import (
    STEPS,
    Distill,
    Prune,
    Quantize,
)
from compression.runs.format import count, digits, percent, points, ratio, size
from compression.runs.results import Run, State
from compression.runs.statistics import Interval, Ratio
from compression.runs.store import Store, new_run, open_store
from compression.runs.stored_run import public_id
from tests.compression.cli.calls import MODEL, call, call_here, command, output_of

# What persons say of a run, in its JSON beside its figures, before they do.
SAID = {
    "name": "",
    "title": "Original",
    "owner": "",
    "pinned": False,
    "hidden": False,
    "removed": None,
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('cli') / 'runs.sqlite'}"


@pytest.fixture(scope="module")
def measured(url: str) -> dict[str, Any]:
    """A run that was really done, from its JSON on standard output."""
    done = call(
        "run",
        MODEL.id,
        "--sparsity",
        "0.5",
        "--bits",
        "5",
        "--device",
        "cpu",
        "--store",
        url,
        "--json",
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.slow
def test_run_prints_its_json_and_nothing_else(measured: dict[str, Any], url: str) -> None:
    run = Run.model_validate({k: v for k, v in measured.items() if k not in SAID})
    assert {k: measured[k] for k in SAID} == {**SAID, "title": "50 % · 5 bit"}
    assert (run.state, run.model, run.environment["split"]) == (State.DONE, MODEL.id, "validation")
    assert run.recipe == Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=5)))
    assert run.compressed is not None
    assert run.compressed.top1 is not None
    assert run.compressed.top1.n == 5_000
    assert [e.run for e in open_store(url).runs.find()] == [run]
    packed = open_store(url).files.get(run.id)
    assert packed is not None
    assert hashlib.sha256(packed).hexdigest() == run.environment["artifact_sha256"]


@pytest.mark.slow
def test_runs_and_show_tell_the_same(
    measured: dict[str, Any], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = output_of(capsys, "runs", "--store", url, "--json")
    assert json.loads(out) == [measured]
    out, _ = output_of(capsys, "show", measured["id"][:6], "--store", url, "--json")
    assert json.loads(out) == measured
    out, _ = output_of(capsys, "runs", "--store", url)
    assert measured["id"] in out and "50 % · 5 bit" in out
    out, _ = output_of(capsys, "show", measured["id"], "--store", url)
    assert out.startswith("50 % · 5 bit\n")
    top1 = Interval.model_validate(measured["compressed"]["top1"])
    assert percent(top1) in out
    assert size(measured["compressed"]["artifact_bytes"]) in out
    assert all(note[:40] in out for note in measured["notes"])
    for word in ("original", "compressed", "change", "points", "MB", "ms"):
        assert word in out


@pytest.mark.slow
def test_certify_measures_on_test_images_once(measured: dict[str, Any], url: str) -> None:
    first = json.loads(call_here("certify", measured["id"], "--store", url, "--json"))
    assert first["environment"]["split"] == "test"
    assert first["compressed"]["top1"]["n"] == 10_000
    assert (first["id"], first["recipe"]) == (measured["id"], measured["recipe"])
    again = json.loads(call_here("certify", measured["id"], "--store", url, "--json"))
    assert again == first
    # the run itself keeps what it was: figures of the validation images
    assert json.loads(call_here("show", measured["id"], "--store", url, "--json")) == measured
    assert "Certified on test images" in call_here("show", measured["id"], "--store", url)


@pytest.fixture
def listed(store: Store) -> Run:
    run = new_run(MODEL.id, MODEL.dataset, Recipe(steps=(Quantize(bits=4),)))
    store.runs.add(run, owner="Ada")
    return run


def test_a_run_is_renamed_pinned_and_hidden(
    listed: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--store", store.url)

    def table(*flags: str) -> str:
        return output_of(capsys, "runs", *flags, *where)[0]

    out, _ = output_of(capsys, "rename", listed.id[:6], " [red]Best · 4 bit ", *where)
    assert out == f"Run {listed.id} is now called: [red]Best · 4 bit\n"
    assert "[red]Best · 4 bit" in table()
    assert output_of(capsys, "pin", listed.id, *where) == ("", "")
    assert "queued, pinned" in table()
    (entry,) = json.loads(output_of(capsys, "runs", *where, "--json")[0])
    said = {"name": "[red]Best · 4 bit", "title": "[red]Best · 4 bit"}
    said["owner"] = public_id("Ada")  # never the id itself, by which one could act as its owner
    assert {k: entry[k] for k in SAID} == {**SAID, **said, "pinned": True}
    output_of(capsys, "unpin", listed.id, *where)
    output_of(capsys, "hide", listed.id, *where)
    assert "compression runs --hidden" in table()
    assert "queued, hidden" in table("--hidden")
    output_of(capsys, "unhide", listed.id, *where)
    output_of(capsys, "rename", listed.id, "", *where)
    assert "4 bit" in table() and "Best" not in table()


def test_a_removed_run_can_be_restored(
    listed: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--store", store.url)
    out, _ = output_of(capsys, "remove", listed.id[:6], *where)
    assert out.splitlines()[0] == "Removed: 4 bit"
    assert out.splitlines()[1].endswith(f"compression restore {listed.id}")
    assert "No runs yet" in output_of(capsys, "runs", *where)[0]
    assert listed.id in output_of(capsys, "runs", "--removed", *where)[0]
    (entry,) = json.loads(output_of(capsys, "runs", "--removed", "--json", *where)[0])
    assert entry["removed"] > 0
    output_of(capsys, "restore", listed.id, *where)
    assert "cancelled" in output_of(capsys, "runs", *where)[0]
    assert "No run was removed" in output_of(capsys, "runs", "--removed", *where)[0]
    _, err = output_of(capsys, "restore", listed.id, *where, code=2)
    assert "an id listed by `compression runs --removed`" in err


def test_only_finished_runs_are_certified(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(MODEL.id, MODEL.dataset, Recipe())
    store.runs.add(run)
    _, err = output_of(capsys, "certify", run.id, "--store", store.url, code=2)
    assert "a run that is done; this one is queued" in err


@pytest.mark.slow
def test_ctrl_c_inside_an_import_has_the_same_exit_code(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import compression.cli.main as cli\n"
        "cli.app = lambda **_: exec('raise KeyboardInterrupt')\n"
        "cli.main(['runs'])\n"
    )
    arguments = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped; nothing was stored\n")


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_stores_nothing(store: Store, tmp_path: Path) -> None:
    slow = ["--bits", "4", "--rounding", "reconstruct", "--store", store.url]
    arguments = command("run", MODEL.id, *slow)
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Nothing that another test has kept: it would be done at once.
        env={**os.environ, "COMPRESSION_CACHE": str(tmp_path / "cache")},
        # A shell that runs the tests in the background has them, and so this, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 60
        while "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "stopped; nothing was stored" in err
    assert out == ""
    assert store.runs.find() == []


BAD: list[tuple[list[str], str]] = [
    (["--threshold", "-1"], "threshold: got '-1', allowed: 0 or more"),
    (["--sparsity", "1.5"], "sparsity: got '1.5', allowed: from 0 to 1"),
    (["--sparsity", "0.5", "--threshold", "0.1"], "exactly one of threshold, sparsity and"),
    (["--scope", "layer"], "exactly one of threshold, sparsity and max_drop"),
    (["--bits", "1"], "bits: got '1', allowed: a whole number from 2 to 8"),
    (["--bits", "33"], "bits: got '33', allowed: a whole number from 2 to 8"),
    (["--bits", "many"], "bits: got 'many', allowed: a whole number from 2 to 8"),
    (["--temperature", "0"], "temperature: got '0', allowed: from 0 to 50, above 0"),
    (["--scheme", "round"], "scheme: got 'round', allowed: symmetric, affine"),
    (["--seed", "-1"], "seed: got -1, allowed: a whole number from 0"),
    (["--seed", "x"], "'--seed'"),
    (["--preset", "better"], "preset: got 'better', allowed: a step to go with"),
    (["--preset", "perfect", "--bits", "4"], "preset: got 'perfect', allowed: fast, better, best"),
    (["--repair", "bias"], "repair: got 'bias', allowed: a step to go with"),
    (
        ["--bits", "4", "--repair", "luck"],
        "repair: got 'luck', allowed: none, or some of batchnorm, bias",
    ),
    (["--max-drop", "-1"], "max_drop: got '-1', allowed: from 0 to 100"),
    (["--prune-pattern", "2:4", "--sparsity", "0.5"], "2:4 says how many go"),
    (["--bits", "3", "--average-bits", "4"], "average_bits of at most bits"),
    (["--dataset", "mnist"], f"dataset: got 'mnist', allowed: {MODEL.dataset}"),
    (["--recipe", "/nonexistent.json"], "recipe: got '/nonexistent.json'"),
    (["--recipe", "/proc/self/mem"], "recipe: got '/proc/self/mem'"),
    (["--recipe", "/dev/null", "--bits", "4"], "a file alone, without --bits"),
    (["--recipe", "/dev/null", "--preset", "best"], "a file alone, without --preset"),
    (["--store", "nothing"], "store: got 'nothing'"),
    (["--store", "sqlite:////dev/null/runs.sqlite"], "cannot be opened"),
    (["--name", "a\nb"], "name: got 'a\\nb', allowed: one line of at most 60 characters"),
    (["--speed", "1"], "--speed"),
    (["more"], "more"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "line"), BAD, ids=lambda v: " ".join(v))
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], line: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if "--store" in arguments else ["--store", store.url]
    out, err = output_of(capsys, "run", MODEL.id, *arguments, *where, code=2)
    assert out == ""
    assert line in err
    assert err.count("\n") == 1
    assert store.runs.find() == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "resnet"], "model: got 'resnet', allowed: an id listed by"),
        (["run"], "MODEL"),
        (["fly"], "fly"),
        (["show", "zzzz"], "run: got 'zzzz'"),
        (["show", "zzzz", "--json"], "run: got 'zzzz'"),
        (["rename", "zzzz", "x"], "run: got 'zzzz'"),
        (["remove", "zzzz"], "run: got 'zzzz'"),
        (["certify", "zzzz"], "run: got 'zzzz'"),
    ],
    ids=lambda v: " ".join(v),
)
def test_bad_names_are_one_line_and_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = output_of(capsys, *arguments, code=2)
    assert (out, err.count("\n")) == ("", 1)
    assert line in err


@pytest.mark.slow
def test_what_only_the_engine_can_refuse_is_one_line_too(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, line in (
        (["--threshold", "1000000"], "threshold: got"),
        (["--device", "abacus"], "device: got 'abacus', allowed: auto, cpu, cuda"),
    ):
        out, err = output_of(capsys, "run", MODEL.id, *arguments, "--store", store.url, code=2)
        assert out == ""
        assert line in err.splitlines()[-1]
        assert "Traceback" not in err
    assert store.runs.find() == []


@pytest.mark.parametrize("content", ["", "{", '{"stages": []}', '{"steps": [{"step": "fly"}]}'])
def test_a_bad_recipe_file_is_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(content)
    _, err = output_of(capsys, "run", MODEL.id, "--recipe", str(path), code=2)
    assert err.count("\n") == 1


def test_the_unexpected_is_one_line_with_the_details_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMPRESSION_DATA", str(tmp_path))
    monkeypatch.setattr("compression.cli.commands.cards", lambda: 1 // 0)
    _, err = output_of(capsys, "models", code=1)
    assert err.startswith("unexpected error: ZeroDivisionError")
    assert err.count("\n") == 1
    [kept] = tmp_path.glob("error-*.log")
    assert str(kept) in err
    assert "Traceback" in kept.read_text()


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = output_of(capsys, "models", "--json")
    assert [m["id"] for m in json.loads(out)] == list(cards())
    out, _ = output_of(capsys, "models")
    assert all(name in out for name in cards())
    assert MODEL.test_top1 is not None
    assert percent(MODEL.test_top1) in out


def test_no_runs_yet_says_how_to_start_one(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "compression run" in output_of(capsys, "runs", "--store", store.url)[0]
    assert json.loads(output_of(capsys, "runs", "--store", store.url, "--json")[0]) == []


# Flags are made from the fields


def test_every_setting_is_a_flag_with_its_help_and_range(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    # a line may be broken after a hyphen
    out = "".join(output_of(capsys, "run", "--help")[0].split())
    for step in STEPS.values():
        for setting in settings(step):
            assert setting.flag in out
            for text in (setting.help, setting.allowed):
                assert "".join(text.split()) in out


def test_flags_make_the_recipe_in_the_order_prune_quantize_distill() -> None:
    flags = {"epochs": "2", "bits": "3", "sparsity": "0.9", "scope": "layer", "alpha": None}
    assert build_recipe(flags, None, 5) == Recipe(
        steps=(Prune(sparsity=0.9, scope="layer"), Quantize(bits=3), Distill(epochs=2)), seed=5
    )
    assert build_recipe({"scheme": "affine"}, None, None).steps == (Quantize(scheme="affine"),)
    assert build_recipe({}, None, None) == Recipe()


def test_a_preset_says_how_and_explicit_flags_win() -> None:
    flags = {"sparsity": "0.8", "bits": "4", "epochs": "1"}
    made = build_recipe(flags, None, None, "better").steps
    assert made == (
        Prune(sparsity=0.8, **PRESETS["better"].values["prune"]),
        Quantize(bits=4, **PRESETS["better"].values["quantize"]),
        Distill(augmentation="none"),
    )
    settings_given = {**flags, "score": "random", "rounding": "nearest", "repair": "none"}
    settings_given |= {"augmentation": "random"}
    assert build_recipe(settings_given, None, None, "better").steps == (
        Prune(sparsity=0.8, scope="allocated", score="random", update="obs"),
        Quantize(bits=4),
        Distill(),
    )


def test_a_flag_at_its_default_takes_nothing_from_a_preset() -> None:
    plain = build_recipe({"bits": "4"}, None, None, "better")
    for flags in ({"rd_lambda": "0"}, {"edge_bits": None}):
        assert build_recipe({"bits": "4", **flags}, None, None, "better") == plain


@pytest.mark.parametrize("flag", ["--rate", "--rd-lambda"])
def test_a_renamed_setting_is_a_flag_by_both_names(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, error = output_of(capsys, "run", MODEL.id, flag, "-1", code=2)
    assert "rd_lambda: got '-1', allowed: from 0 to 10000" in error


def test_a_model_without_images_has_only_the_preset_that_can_do_without() -> None:
    with pytest.raises(InvalidInput, match="preset: got 'better', allowed: fast: the others need"):
        build_recipe({"bits": "4"}, None, None, "better", images=False)
    made = build_recipe({"bits": "4"}, None, None, "fast", images=False)
    assert made.steps == (Quantize(bits=4),)


def test_presets_are_listed_with_flags_that_make_them(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(output_of(capsys, "presets", "--json")[0])["presets"]
    assert [p["name"] for p in listed] == list(PRESETS)
    for preset in listed:
        for step, amount in (("prune", {"sparsity": "0.5"}), ("quantize", {"bits": "4"})):
            given = dict(flag.split(" ") for flag in preset["flags"][step])
            names = {s.flag: s.name for s in settings(STEPS[step])}
            flags = {names[flag]: value for flag, value in given.items()}
            same = build_recipe(amount, None, None, preset["name"])
            assert build_recipe(amount | flags, None, None) == same
    out, _ = output_of(capsys, "presets")
    assert all(f"{name}, s" in out for name in PRESETS)
    assert all(f"{c.id} " in out for c in cards().values() if c.bundled)


def test_costs_are_shown_where_they_were_measured() -> None:
    measured = Costs(machine="a machine", command="python", seconds={MODEL.id: {"fast": 1.234}})
    console = Console(width=200, file=io.StringIO())
    console.print(tables.costs(PRESETS.values(), measured))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (row,) = [line for line in lines if MODEL.id in line]
    assert row.split()[1:] == ["1.23", *tables.NOT_MEASURED.split() * 2]
    assert "a machine" in tables.costs_conditions(measured)


def test_a_recipe_file_keeps_its_seed_unless_another_is_given(tmp_path: Path) -> None:
    recipe = Recipe(steps=(Quantize(bits=3), Prune(threshold=0.01)), seed=9)
    path = tmp_path / "recipe.json"
    path.write_text(recipe.to_json())
    assert build_recipe({"bits": None}, path, None) == recipe
    assert build_recipe({}, path, 4) == recipe.model_copy(update={"seed": 4})
    with pytest.raises(InvalidInput, match="seed"):
        build_recipe({}, path, -4)


def test_figures_have_three_significant_digits_and_units() -> None:
    assert [digits(v) for v in (0.12345, 12.345, 1234.5, 99999)] == [
        "0.123",
        "12.3",
        "1230",
        "100000",
    ]
    assert size(44_787_000) == "44.8 MB"
    assert size(999) == "999 B"
    assert count(11_173_962) == "11.2 M"
    assert percent(Interval(value=0.9231, low=0.915, high=0.93, n=5000)) == ("92.3 % (91.5 to 93)")
    assert points(Interval(value=-0.0042, low=-0.009, high=0.001, n=5000)) == (
        "-0.42 points (-0.9 to +0.1)"
    )
    assert ratio(Ratio(value=1.5, low=1.25, high=1.75)) == "1.5 x (1.25 to 1.75)"
    assert ratio(None) == percent(None) == "-"


@pytest.mark.slow
def test_help_is_quick_for_it_needs_no_torch() -> None:
    code = "import sys\nfrom compression.cli.main import main\n"
    code += "try:\n    main([])\nexcept SystemExit:\n"
    code += "    print('torch' in sys.modules)"
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.endswith("False\n")
    for name in ("models", "presets", "run", "runs", "show", "certify", "curves", "sweep"):
        assert name in done.stdout
