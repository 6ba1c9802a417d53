"""Makes the stored examples: `python -m tests.benchmarks.examples NAME [--device cpu]`.

Runs a recipe of `EXAMPLES`, measures it on validation and then, once, on the test images, and
writes `assets/examples/NAME.json`: what the page begins with and `--preset NAME` runs again; and
`NAME.safetensors`, the packed model.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from compression.catalogue.cards import card
from compression.catalogue.examples import Example
from compression.cli.execution import certify_here, execute_here
from compression.paths import assets_dir
from compression.recipe.recipe import Recipe, parse
from compression.runs.results import State
from compression.runs.store import new_run, open_store


@dataclass(frozen=True)
class Wanted:
    """A run worth showing, before it is run."""

    title: str
    description: str
    model: str
    steps: tuple[dict[str, Any], ...]


_REPAIR = ("batchnorm", "bias")
_PRUNE = {"step": "prune", "update": "obs", "repair": _REPAIR}
_DISTILL = {
    "step": "distill",
    "augmentation": "random",
    "precision": "bfloat16",
    "weight_decay": 5e-4,
}
EXAMPLES: dict[str, Wanted] = {
    "smallest-trained": Wanted(
        "The smallest file with training",
        "Whole channels go first, then single weights, each followed by distillation; what is left "
        "is quantized last, by rate-distortion optimization.",
        "fashion-mnist/resnet18",
        (
            {**_PRUNE, "sparsity": 0.55, "pattern": "channels", "score": "taylor"},
            {**_DISTILL, "epochs": 6, "learning_rate": 0.05},
            {**_PRUNE, "sparsity": 0.945, "scope": "allocated", "score": "obs"},
            {**_DISTILL, "epochs": 10, "learning_rate": 0.05},
            {"step": "quantize", "rest": "float16", "keep_accuracy": 0.996},
        ),
    ),
}


def make(name: str, device: str) -> tuple[Example, bytes]:
    """Run and measure an example, and its packed file."""
    packed: list[bytes] = []
    wanted = EXAMPLES[name]
    recipe = parse(Recipe, {"steps": wanted.steps, "seed": 0})
    asked = new_run(wanted.model, card(wanted.model).dataset, recipe, State.RUNNING)
    run, curves = execute_here(asked, device, quiet=True, keep=packed.append)
    with TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/runs.sqlite")
        store.runs.add(run, device)
        store.files.put(run.id, packed[0])
        certificate = certify_here(store, run, device, quiet=True)
    example = Example(
        name=name,
        title=wanted.title,
        description=wanted.description,
        run=run,
        certificate=certificate,
        curves=tuple(curves),
    )
    return example, packed[0]


def main() -> None:
    """Make the named examples, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(EXAMPLES))
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    for name in given.names:
        example, packed = make(name, given.device)
        folder = assets_dir() / "examples"
        folder.mkdir(exist_ok=True)
        body = json.loads(example.model_dump_json(exclude_none=True))
        (folder / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        (folder / f"{name}.safetensors").write_bytes(packed)
        for run in (example.run, example.certificate):
            if run is not None and run.compressed is not None and run.delta is not None:
                top1, ratio = run.compressed.top1, run.delta.size_ratio
                print(f"{name} on {run.environment['split']}: {top1}, {ratio:.1f} times smaller")


if __name__ == "__main__":
    main()
