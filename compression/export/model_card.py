"""The page that comes with an exported file: what it is, how it does, and what it is not for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compression.catalogue.cards import Card
from compression.catalogue.file_formats import FORMATS
from compression.export.front_matter import Result, front_matter
from compression.runs.format import (
    NONE,
    busy_note,
    digits,
    percent,
    points,
    ratio,
    size,
    threads,
    unsearched_images,
)
from compression.runs.results import (
    Exported,
    Latency,
    Measurement,
    Run,
)


@dataclass(frozen=True)
class Data:
    """A data set in words: what it holds, whose it is, and what a model of it is good for."""

    title: str
    holds: str
    licence: str
    use: str


DATA: dict[str | None, Data] = {
    "fashion-mnist": Data(
        "Fashion-MNIST",
        "70,000 grey images of clothing, 28 x 28 pixels, in 10 classes, by Zalando Research; "
        "5,000 of the 60,000 for training are held out as validation images",
        "MIT",
        "Telling ten kinds of clothing apart on small grey pictures as those of Fashion-MNIST: one "
        "piece, centred, light on black; for study, teaching and comparing methods.",
    ),
    None: Data(
        "ImageNet-1k",
        "1.3 million photographs in 1,000 classes",
        "for research; see image-net.org",
        "Telling the 1,000 classes of ImageNet apart on photographs.",
    ),
}
_LIMITS = (
    "It predicts one of its classes for any image, also for one of something else.",
    "It was not tested with noise, other cameras or attacks, nor for single groups of images "
    "beyond the figures above. It is not for decisions about people.",
    "Latency is of the machine named here. Another may rank the files otherwise: measure there, "
    "with `compression evaluate`.",
)


@dataclass(frozen=True)
class Page:
    """What a card is about: a file by its name and digest, made of a run of a model."""

    file: str
    sha256: str
    run: Run
    certificate: Run | None
    card: Card
    exported: Exported
    script: str


def card_of(page: Page) -> str:
    """The page, in Markdown, behind the YAML that programs read."""
    run, form = page.run, FORMATS[page.exported.format]
    parts = [
        f"# {page.card.title}, compressed",
        f"`{page.file}`: {form.title}, {size(page.exported.file_bytes)}, of run {run.id}.",
        f"**What was done.** {run.recipe.sentence()} (recipe {run.recipe_key}, seed "
        f"{run.recipe.seed}).",
        "## Figures",
        _figures(page),
        _latency(page),
        "## How it was measured",
        _measured(page),
        *([_bullets(page.exported.notes)] if page.exported.notes else []),
        "## Use",
        f"{DATA[page.card.dataset].use} `{page.script}` beside this file runs it on images, with "
        f"the preparation of pixels written out. It needs: `pip install {form.pip_packages}`.",
        "## Limits",
        _bullets(_LIMITS),
        "## Data and licence",
        _origin(page.card),
        "## File",
        f"SHA-256 `{page.sha256}`, {page.exported.file_bytes} bytes.",
    ]
    return f"{_front_matter(page)}\n" + "\n\n".join(parts) + "\n"


def _front_matter(page: Page) -> str:
    measured = (("validation", page.run.compressed), ("test", _certified(page)))
    return front_matter(
        name=f"{page.card.title}, compressed",
        dataset=DATA[page.card.dataset].title,
        licence=page.card.licence,
        pip_packages=FORMATS[page.exported.format].pip_packages,
        tags=("model-compression", page.card.architecture, page.exported.format),
        results=[
            Result(split, done.top1.value, done.top1.n)
            for split, done in measured
            if done and done.top1
        ],
    )


def _certified(page: Page) -> Measurement | None:
    return page.certificate.compressed if page.certificate else None


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _figures(page: Page) -> str:
    lines = ["| | original | compressed | change |", "|---|---:|---:|---:|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in _rows(page))])


_COUNTS: dict[str, Callable[[Measurement], str]] = {
    "parameters": lambda m: f"{m.parameters:,}",
    "of them not zero": lambda m: f"{m.nonzero:,}",
    "multiply-accumulates an image": lambda m: NONE if m.macs is None else f"{m.macs:,}",
}


def _rows(page: Page) -> Iterator[tuple[str, ...]]:
    run, exported = page.run, page.exported
    for title, done in (("validation", run), ("test", page.certificate)):
        if done and done.baseline and done.compressed and done.compressed.top1 and done.delta:
            name = f"top-1 accuracy, {done.compressed.top1.n:,} {title} images"
            figures = (done.baseline.top1, done.compressed.top1)
            yield name, *map(percent, figures), points(done.delta.top1)
    if exported.top1 is not None and exported.format != "packed":
        yield "of this file, validation images", "", percent(exported.top1), ""
        yield "same label as the compressed model", "", percent(exported.agreement), ""
    if run.baseline and run.compressed:
        before, after = run.baseline, run.compressed
        yield "this file", size(before.dense_bytes), *_size(exported.file_bytes, before.dense_bytes)
        if exported.format != "packed":
            packed = after.artifact_bytes
            yield "packed file", size(before.dense_bytes), *_size(packed, before.dense_bytes)
        for title, cell in _COUNTS.items():
            yield title, cell(before), cell(after), ""


def _size(after: int, before: int) -> tuple[str, str]:
    return size(after), f"{ratio(before / after)} smaller"


def _latency(page: Page) -> str:
    """What was timed of the run, the graph of this file first."""
    run = page.run
    timings = [t for t in run.timings if t.backend in FORMATS]
    busy = any(t.compressed.on_busy_machine for t in timings)
    sentences = [
        f"{_timed(t.compressed)}, against {_timed(t.baseline)} for the original: {ratio(t.ratio)}"
        for t in sorted(timings, key=lambda t: t.backend != page.exported.format)
    ]
    if not sentences and run.compressed and run.compressed.latency and run.baseline:
        before, after = run.baseline.latency, run.compressed.latency
        against = f", against {_timed(before)} for the original" if before else ""
        gain = f": {ratio(run.delta.latency_ratio)}" if run.delta else ""
        sentences, busy = [f"{_timed(after)}{against}{gain}"], after.on_busy_machine
    if not sentences:
        return "Latency was not measured: `compression evaluate` does, for this file."
    where = run.environment.get("device", "an unnamed machine")
    said = f"Latency on {where}: {'; '.join(sentences)}."
    return f"{said} **{busy_note()}**" if busy else said


def _timed(latency: Latency) -> str:
    return (
        f"{digits(latency.p50_ms)} ms (p90 {digits(latency.p90_ms)}, p99 {digits(latency.p99_ms)}; "
        f"{latency.backend}, batch {latency.batch}, {threads(latency.threads)})"
    )


def _measured(page: Page) -> str:
    environment, exported = page.run.environment, page.exported
    where = ", ".join(
        f"{name} {environment[key]}"
        for name, key in (
            ("Python", "python"),
            ("PyTorch", "torch"),
            ("ONNX Runtime", "onnxruntime"),
        )
        if key in environment
    )
    lines = [
        "Accuracy is of the packed file, loaded back, on images held out from training; intervals "
        "are 95 %, the change is paired on the same images. The original's size is its float32 "
        "weights. Original and compressed were timed interleaved in one process.",
        f"Measured {environment.get('created', 'at an unknown time')} on "
        f"{environment.get('device', 'a machine')} ({where}).",
    ]
    top1 = page.run.compressed.top1 if page.run.compressed else None
    if environment.get("split") == "report" and top1 is not None:
        lines.append(unsearched_images(top1.n))
    if page.certificate is None:
        lines.append("The test images have not been looked at.")
    if exported.difference is not None:
        lines.append(
            "This file's largest difference from PyTorch's logits is "
            f"{digits(exported.difference)} of the largest logit."
        )
    return " ".join(lines)


def _origin(card: Card) -> str:
    data = DATA[card.dataset]
    return (
        f"Trained on {data.title} ({data.holds}; licence: {data.licence}). Training of the "
        f"original: {card.training or 'not known'}. Licence of the weights: "
        f"{card.licence or 'not known'}."
    )
