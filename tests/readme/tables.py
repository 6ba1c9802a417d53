"""The generated tables: `python -m tests.readme` writes them, a test holds them true."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from compression.catalogue.cards import cards
from compression.catalogue.examples import examples
from compression.catalogue.preset_timings import costs
from compression.recipe.fields import settings
from compression.recipe.presets import PRESETS, as_flags
from compression.recipe.steps import STEPS
from tests.compression.order import ORDER
from tests.readme import (
    BENCHMARKS,
    DASHBOARD,
    ENGINE,
    RECIPE,
    ROOT,
    markdown_table,
    replace_section,
)
from tests.readme.measured import MEASURED


def settings_table() -> str:
    """Every setting of every step, from the fields themselves."""
    rows = [
        [
            f"`{name}`",
            "".join([f"`{s.name}`", *(f", in JSON `{old}`" for old in s.aliases)]),
            f"{s.allowed}{f' ({s.unit})' if s.unit else ''}",
            _default(s.default),
            s.details,
        ]
        for name, step in STEPS.items()
        for s in settings(step)
    ]
    return markdown_table(("step", "setting", "allowed", "default", "what it does"), rows)


def _default(value: object) -> str:
    if value is None:
        return ""
    return str(value) if value != () else "none"


def presets_table() -> str:
    """What each preset does, which flags it stands for, and what it took."""
    measured = costs()
    bundled = [m for m, c in cards().items() if c.bundled]
    rows = []
    for preset in PRESETS.values():
        flags = [
            f"{step}: {' '.join(f'`{f}`' for f in fs)}" for step, fs in as_flags(preset).items()
        ]
        taken = [s for m in bundled if (s := measured.of(m, preset.name)) is not None]
        cost = f"{min(taken):.2g} to {max(taken):.2g}" if taken else "not measured"
        rows.append([f"`{preset.name}`", preset.description, "<br>".join(flags), cost])
    header = ("preset", "what it does", "stands for", "seconds, by model")
    table = markdown_table(header, rows, right=1)
    if not measured.seconds:
        return table
    return f"{table}\n\nSeconds of `{measured.command}` without measuring, on {measured.machine}."


def models_table() -> str:
    """The bundled models with what their cards say."""
    rows = []
    for card in cards().values():
        if card.bundled and card.test_top1 and card.macs:
            top1 = card.test_top1
            rows.append(
                [
                    f"`{card.id}`",
                    f"{card.parameters / 1e6:.3g} M",
                    f"{card.dense_bytes / 1e6:.3g} MB",
                    f"{card.macs / 1e6:.3g} M",
                    f"{100 * top1.value:.1f} % ({100 * top1.low:.1f} to {100 * top1.high:.1f})",
                ]
            )
    header = ("model", "parameters", "float32 size", "MACs", "top-1 on 10,000 test images")
    return markdown_table(header, rows, right=4)


def examples_table() -> str:
    """The stored examples: figures on test images, and what was done."""
    rows = []
    for example in examples():
        found = example.certificate
        if found is None or found.compressed is None or found.delta is None:
            raise ValueError(f"example {example.name} was not measured on the test images")
        measured, delta = found.compressed, found.delta
        assert measured.top1 and delta.top1 and delta.size_ratio and delta.latency_ratio
        change = f"{100 * delta.top1.low:+.2f} to {100 * delta.top1.high:+.2f}"
        rows.append(
            [
                f"`{example.name}`",
                example.run.model,
                f"{example.run.recipe.sentence()}",
                f"{100 * measured.top1.value:.2f} %",
                f"{100 * delta.top1.value:+.2f} ({change})",
                f"{measured.artifact_bytes / 1e3:.3g} kB, {delta.size_ratio:.0f}x",
                f"{measured.bits_per_weight:.3g}",
                f"{delta.latency_ratio.value:.3g}x",
            ]
        )
    header = ("preset", "model", "recipe", "top-1, test", "change, points")
    return markdown_table((*header, "file", "bits per weight", "faster"), rows, right=5)


def rooms_table(package: str) -> str:
    """The folders of a package in the order in which they may import each other."""
    rooms = [room for room in ORDER if room.startswith(f"{package}/")]
    rows = [
        [f"`{room.removeprefix(f'{package}/')}`", _summary(path)]
        for room in rooms
        for path in (ROOT / room / "__init__.py", ROOT / f"{room}.py")
        if path.exists()
    ]
    return markdown_table(("folder", "what it is"), rows)


def _summary(path: Path) -> str:
    """The first paragraph of a file's docstring, on one line."""
    summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    return " ".join(summary.split())


def engine_rooms() -> str:
    """The folders of the engine."""
    return rooms_table("compression")


def dashboard_rooms() -> str:
    """The folders of the page."""
    return rooms_table("dashboard")


# Where each stands, and what writes it.
TABLES: dict[str, tuple[Path, Callable[[], str]]] = {
    "rooms": (ENGINE, engine_rooms),
    "dashboard-rooms": (DASHBOARD, dashboard_rooms),
    "settings": (RECIPE, settings_table),
    "presets": (RECIPE, presets_table),
    "models": (BENCHMARKS, models_table),
    "examples": (BENCHMARKS, examples_table),
    **MEASURED,
}


def main() -> None:
    """Write every generated table into its README."""
    for name, (path, table) in TABLES.items():
        replace_section(name, table(), path)
