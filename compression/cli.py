"""The command line. Step flags are made from the recipe's fields; nothing is retyped here."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from compression import tables
from compression.catalogue import card, cards
from compression.errors import CompressionError, InvalidInput
from compression.paths import data_dir
from compression.presets import PRESETS, apply_preset, as_flags, costs
from compression.recipe import Recipe, parse, read_recipe
from compression.run import Progress, Run, State
from compression.settings import Setting, settings
from compression.steps import STEPS
from compression.store import Store, new_run, open_store

app = typer.Typer(
    help="Make a model small and fast, and see what it costs: measured.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
StoreUrl = Annotated[
    str | None, typer.Option("--store", help="Where runs are kept: an SQLAlchemy URL.")
]
RunId = Annotated[str, typer.Argument(help="A run's id, or how it begins.", metavar="RUN")]


def _flag(setting: Setting) -> inspect.Parameter:
    default = "" if setting.default in (None, ()) else f"; {setting.default} if not given"
    option = typer.Option(
        setting.flag,
        help=f"{setting.help} [{setting.allowed}{default}]",
        metavar=("," if setting.several else "|").join(setting.choices)
        or ("N" if setting.integer else "X"),
        show_default=False,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        # text: the recipe's own validation says what is allowed, in the same words everywhere
        annotation=Annotated[str | None, option],
    )


def _with_step_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace `**flags` in a command's signature by one option for every setting of every step."""
    known = inspect.signature(command, eval_str=True).parameters.values()
    fixed = [p for p in known if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = {s.name: _flag(s) for step in STEPS.values() for s in settings(step)}
    # typer reads the signature to make its options
    command.__signature__ = inspect.Signature([*fixed, *flags.values()])  # type: ignore[attr-defined]
    return command


def build_recipe(
    flags: dict[str, Any],
    file: Path | None,
    seed: int | None,
    preset: str | None = None,
    *,
    images: bool = True,
) -> Recipe:
    """The recipe that the flags ask for, in the order prune, quantize, distill; or the file's.

    A setting that several steps have goes to each of them, and makes none of them by itself; nor
    does a preset. `images` says whether there are any to calibrate on.

    Raises:
        InvalidInput: a setting out of range, both a file and flags, or a preset without a step.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    counts = Counter(s.name for step in STEPS.values() for s in settings(step))
    steps = [
        {"step": name, **chosen}
        for name, step in STEPS.items()
        if (chosen := {s.name: given[s.name] for s in settings(step) if s.name in given})
        and any(counts[setting] == 1 for setting in chosen)
    ]
    unused = sorted(given.keys() - {name for step in steps for name in step})
    if unused and file is None:
        raise InvalidInput(unused[0], given[unused[0]], "a step to go with, such as --bits 4")
    if file is None:
        if preset is not None:
            if not steps:
                apply_preset(preset, {"step": "prune"}, images=images)
                raise InvalidInput("preset", preset, "a step to go with, such as --bits 4")
            steps = [apply_preset(preset, values, images=images) for values in steps]
        for values in steps:
            parse(STEPS[values["step"]], values)
        return parse(Recipe, {"steps": steps, "seed": seed or 0})
    if given or preset:
        known = {s.name: s.flag for step in STEPS.values() for s in settings(step)}
        names = ", ".join([known[name] for name in given] + (["--preset"] if preset else []))
        raise InvalidInput("recipe", str(file), f"a file alone, without {names}")
    recipe = read_recipe(file)
    return recipe if seed is None else parse(Recipe, {**recipe.model_dump(), "seed": seed})


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models."""
    found = list(cards().values())
    if as_json:
        _print_json([c.model_dump(mode="json", exclude={"weights"}) for c in found])
    else:
        _print(tables.models(found))


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets: what each does, what it sets, and what it costs."""
    found, measured = list(PRESETS.values()), costs()
    if not as_json:
        _print(tables.presets(found))
        _print(tables.costs(found, measured))
        print(tables.costs_conditions(measured))
        return
    document = [
        {
            **{k: getattr(p, k) for k in ("name", "title", "description", "calibrates", "values")},
            "flags": as_flags(p),
            "seconds": {m: measured.of(m, p.name) for m, c in cards().items() if c.bundled},
        }
        for p in found
    ]
    about = {"machine": measured.machine, "command": measured.command}
    _print_json({"presets": document, "measured": about if measured.seconds else None})


@app.command()
@_with_step_flags
def run(
    model: Annotated[
        str, typer.Argument(help="An id listed by `compression models`.", metavar="MODEL")
    ],
    *,
    dataset: Annotated[str | None, typer.Option(help="The model's own if not given.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Steps from a JSON file.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="How each step works, as `compression presets` lists; other flags win over it.",
            metavar="|".join(PRESETS),
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Fixes all randomness; 0 if not given.")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Compress a model and measure it on validation images."""
    own = card(model).dataset
    chosen = build_recipe(flags, recipe, seed, preset, images=own is not None)
    if dataset not in (None, own):
        raise InvalidInput("dataset", dataset, own or f"none: there is none for {model} yet")
    opened = open_store(store)
    done = _execute(new_run(model, own, chosen, State.RUNNING), device, "validation", as_json)
    opened.add(done, device)
    _show(done, None, as_json)


@app.command()
def runs(store: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the runs, oldest first."""
    entries = open_store(store).entries()
    if as_json:
        _print_json([json.loads(e.run.to_json()) for e in entries])
    elif entries:
        _print(tables.runs(entries))
    else:
        print("No runs yet. Start one: compression run fashion-mnist/resnet18 --bits 4")


@app.command()
def show(run: RunId, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show one run's figures beside the original's."""
    opened = open_store(store)
    found = opened.get(run).run
    _show(found, _certificate(opened, found), as_json)


@app.command()
def certify(run: RunId, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Measure a finished run on the test images: once, then kept."""
    opened = open_store(store)
    entry = opened.get(run)
    if entry.run.state is not State.DONE:
        raise InvalidInput("run", run, f"a run that is done; this one is {entry.run.state}")
    certificate = _certificate(opened, entry.run)
    if certificate is None:
        certificate = _execute(entry.run, entry.device, "test", as_json)
        opened.put_fact("certificate", entry.run.id, json.loads(certificate.to_json()))
    _show(certificate, None, as_json)


def _certificate(store: Store, run: Run) -> Run | None:
    body = store.fact("certificate", run.id)
    return None if body is None else Run.model_validate_json(json.dumps(body))


def _execute(run: Run, device: str, split: str, quiet: bool) -> Run:
    # torch is imported here, so that everything else answers at once
    from compression.pipeline import execute, resolve_device

    resolve_device(device)
    # what libraries print must not get between the caller and the JSON
    with contextlib.redirect_stdout(sys.stderr), _progress_bar(quiet) as report:
        return execute(run, device=device, split=split, report=report)


@contextlib.contextmanager
def _progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("Starting", total=1.0)
        yield lambda p: bar.update(task, description=p.stage, completed=p.fraction)


def _show(run: Run, certificate: Run | None, as_json: bool) -> None:
    if as_json:
        print(run.to_json(indent=2))
        return
    print(f"Run {run.id} ({run.state}) · {run.model}\n{run.recipe.sentence()}")
    if run.compressed:
        _print(tables.figures(run))
        print(tables.conditions(run))
    if certificate and certificate.compressed:
        print(f"Certified on test images: top-1 {tables.percent(certificate.compressed.top1)}")
    for note in run.notes:
        print(f"- {note}")


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


def _print(table: Any) -> None:
    # A pipe has no width: do not fold a table for it.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: whatever goes wrong is one line on stderr and an exit code."""
    sys.exit(_guarded(arguments))


def _guarded(arguments: list[str] | None) -> int:
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(args=given or ["--help"], prog_name="compression", standalone_mode=False)
    except CompressionError as error:
        return _complain(str(error), 2)
    except typer.TyperException as error:
        return _complain(error.format_message(), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        name = f"{type(error).__name__}: {error}"
        return _complain(f"unexpected error: {name}, please report; details in {_keep()}", 1)
    if code == 130:
        return _complain("stopped; nothing was stored", 130)
    return int(code or 0)


def _complain(line: str, code: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return code


def _keep() -> Path:
    """Write the traceback where a person can find it, and say where."""
    name = time.strftime("error-%Y%m%d-%H%M%S.log")
    for folder in (data_dir(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(traceback.format_exc(), encoding="utf-8")
            return folder / name
    return Path(os.devnull)


if __name__ == "__main__":
    main()
