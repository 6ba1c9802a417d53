"""The short script that comes with an exported file: runs it on images, alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from torchvision import models as tv

from compression.catalogue.cards import Card
from compression.catalogue.file_formats import FORMATS
from compression.data.datasets import MEAN, STD, load_dataset
from compression.errors import InvalidInput
from compression.export.handlers import HANDLERS, Script

_FASHION = f"""\
# uint8 [n, 28, 28]: grey, 0 is the background
pixels = np.load(sys.argv[1]) if sys.argv[1:] else np.zeros((2, 28, 28), np.uint8)
padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[:, None].repeat(3, axis=1)
images = (padded.astype(np.float32) / 255 - {MEAN}) / {STD}
"""
_IMAGENET = """\
# uint8 [n, {height}, {width}, 3]: red, green, blue
empty = np.zeros((2, {height}, {width}, 3), np.uint8)
pixels = np.load(sys.argv[1]) if sys.argv[1:] else empty
images = (pixels.transpose(0, 3, 1, 2) / np.float32(255) - {mean}) / {std}
images = images.astype(np.float32)
"""
_TAKEN = {"numpy", "onnxruntime", "torch", "compression", *sys.stdlib_module_names}


@dataclass(frozen=True)
class Runner:
    """What a script is for: a file by its name, of a format, of a model."""

    file: str
    format: str
    card: Card
    batch: int | None = None


def check_name(stem: str) -> None:
    """A script named as what it imports would import itself.

    Raises:
        InvalidInput: the name is such a one.
    """
    if stem in _TAKEN:
        raise InvalidInput("output", stem, "another name, for its script must not hide a module")


def script_of(runner: Runner) -> str:
    """The script: Python that needs only what `FORMATS` says, and the file beside it."""
    form, card = FORMATS[runner.format], runner.card
    script = HANDLERS[runner.format].script
    logits = script.logits % "images"
    if runner.batch is not None:
        some = f"images[i : i + {runner.batch}]"
        places = f"range(0, len(images), {runner.batch})"
        logits = f"np.concatenate([{script.logits % some} for i in {places}])"
    names = f"names = {load_dataset(card.dataset).classes!r}\n" if card.dataset else ""
    shown = "names[label]" if card.dataset else "label"
    body = f"""\
# Runs {runner.file!r} ({form.title}), {card.title}: prints a class for each image.
# Needs: pip install {form.pip_packages}. Give it a .npy file of images.
import sys
from pathlib import Path

{_imports(script)}

file = Path(__file__).with_name({runner.file!r})
{_prepared(card)}{script.open}
logits = {logits}
"""
    return f"{body}{names}for label in logits.argmax(1):\n    print({shown})\n"


def _imports(script: Script) -> str:
    lines = [*script.imports, "import numpy as np"]
    return "\n".join(sorted(lines, key=lambda line: line.split()[1]))


def _prepared(card: Card) -> str:
    if card.dataset is not None:
        return _FASHION
    transforms = tv.get_model_weights(card.architecture)["DEFAULT"].transforms()
    mean, std = (
        f"np.float32({list(v)}).reshape(3, 1, 1)" for v in (transforms.mean, transforms.std)
    )
    height, width = card.input_shape[1:]
    return _IMAGENET.format(height=height, width=width, mean=mean, std=std)
