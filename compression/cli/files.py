"""The commands about files: a run as a file of another kind, and how any such file does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compression.catalogue.file_formats import FORMATS
from compression.cli.app import app
from compression.cli.execution import progress_bar
from compression.cli.flags import AsJson, RunId, StoreUrl
from compression.cli.output import print_json
from compression.errors import CompressionError, InvalidInput
from compression.runs.format import digits, latency, percent, points, size
from compression.runs.results import Evaluation, Exported
from compression.runs.store import open_store

_BESIDE = (".md", ".py")


@app.command()
def export(
    run: RunId,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    form: Annotated[
        str, typer.Option("--format", help="What kind of file.", metavar="|".join(FORMATS))
    ] = "packed",
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a finished run as a file of its own, checked against the measured model.

    Beside it, by the same name, go a one-page model card (.md) and a short script that runs the
    file (.py).
    """
    if form not in FORMATS:
        raise InvalidInput("format", form, ", ".join(FORMATS))
    paths = _free(output, force)
    opened = open_store(store)
    entry = opened.runs.get(run)
    with _quietly():
        # torch is imported here, so that everything else answers at once
        from compression.export.inference_script import Runner, check_name, script_of
        from compression.export.model_card import Page, card_of
        from compression.jobs.export import make, write
        from compression.jobs.packed_source import source_of

        check_name(output.stem)
        with progress_bar(as_json) as report:
            source = source_of(opened, entry.run, entry.device, report)
            ready = make(source, form, report)
        digest = write(output, ready.data)
        certificate = opened.certificates.get(entry.run.id)
        page = Page(
            output.name, digest, entry.run, certificate, source.card, ready.exported, paths[2].name
        )
        write(paths[1], card_of(page).encode())
        script = script_of(Runner(output.name, form, source.card, ready.batch))
        write(paths[2], script.encode())
    # by its digest alone, so that a file that was changed since is not taken for ours
    opened.facts.put("exported", digest, {"format": form, "model": entry.run.model})
    if as_json:
        files = {name: str(p) for name, p in zip(("path", "card", "script"), paths, strict=True)}
        about = {"run": entry.run.id, "sha256": digest, **ready.exported.model_dump(mode="json")}
        print_json({**files, **about})
    else:
        _show(ready.exported, paths)


def _free(output: Path, force: bool) -> tuple[Path, Path, Path]:
    """The paths of the file, its card and its script, none of which exists yet."""
    if output.suffix in _BESIDE or not output.stem:
        raise InvalidInput("output", str(output), "a name such as model.onnx")
    paths = (output, *(output.with_name(f"{output.stem}{end}") for end in _BESIDE))
    if not output.parent.is_dir():
        raise CompressionError(f"{output.parent} is not a folder; make it first")
    for path in paths:
        if path.is_dir():
            raise CompressionError(f"{path} is a folder; pass the name of a file")
        if path.exists() and not force:
            raise CompressionError(f"{path} exists; pass --force to replace it")
    return paths[0], paths[1], paths[2]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    # what libraries print must not get between the caller and the JSON
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _show(exported: Exported, paths: tuple[Path, ...]) -> None:
    print(f"Wrote {paths[0]} ({FORMATS[exported.format].title}, {size(exported.file_bytes)}),")
    print(f"its model card {paths[1]} and a script that runs it, {paths[2]}.")
    if exported.top1 is not None:
        print(f"Top-1 on validation images: {percent(exported.top1)}")
        print(f"Same label as the measured model: {percent(exported.agreement)}")
    if exported.difference is not None:
        most = digits(exported.difference)
        print(f"Largest difference from PyTorch's logits: {most} of the largest logit")
    for note in exported.notes:
        print(f"- {note}")


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="A packed, ONNX or .pt2 file.", metavar="FILE")],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help="The original it is compared with; the one named in the file if not given."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The model's own if not given.")] = None,
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    threads: Annotated[int, typer.Option(help="Threads to measure latency with.")] = 1,
    inputs: Annotated[
        str,
        typer.Option(
            "--input",
            help="Pixels: normalised like the bundled data, or raw from 0 to 1.",
            metavar="KIND",
        ),
    ] = "prepared",
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a .pt2 file that was not exported here.")
    ] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Measure a file's accuracy, size and latency, whoever made it.

    Takes what `compression export` writes, and ONNX files of others: one input, float32 images
    [n, 3, h, w], one number for each class.
    """
    opened = open_store(store)
    with _quietly():
        from compression.measure.evaluate_file import evaluate as measure

        evaluation = measure(
            file,
            model=model,
            dataset=dataset,
            split=split,
            threads=threads,
            inputs=inputs,
            known=lambda digest: opened.facts.get("exported", digest) is not None,
            trusted=trust,
        )
    if as_json:
        print_json(evaluation.model_dump(mode="json"))
    else:
        _show_evaluation(evaluation)


def _show_evaluation(file: Evaluation) -> None:
    print(f"{file.file}: {FORMATS[file.format].title}, {size(file.file_bytes)}")
    if file.top1 is not None:
        print(f"Top-1 on {file.top1.n} {file.split} images: {percent(file.top1)}")
    if file.model is not None and file.change is not None and file.flips is not None:
        original = f"{file.model}, {percent(file.original_top1)}"
        print(f"Against the original ({original}): {points(file.change)}")
        print(
            f"Right to wrong {file.flips.right_to_wrong}, wrong to right "
            f"{file.flips.wrong_to_right}, same label {percent(file.agreement)}"
        )
    timed = file.latency
    if timed is not None:
        print(
            f"Latency: median {digits(timed.p50_ms)} ms, p90 {digits(timed.p90_ms)}, "
            f"p99 {digits(timed.p99_ms)} ({latency(timed)}, "
            f"{file.environment.get('device', '')})"
        )
    for note in file.notes:
        print(f"- {note}")
