"""The state of a training in a file, from which it goes on as if nothing had happened."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compression.paths import keep_newest, write_cached

State = dict[str, Any]
# One for every training that was interrupted, or stopped early, and not taken up again.
MOST_FILES = 8
# To be raised with every change of what a state holds.
FORMAT = 3


def write(path: Path, state: State) -> bool:
    """Write the state so that nobody ever reads half of it; False if that cannot be done."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    try:
        write_cached(path, buffer.getvalue())
        keep_newest(path.parent, f"*{path.suffix}", MOST_FILES)
    except OSError:
        return path.exists()
    return True


def read(path: Path) -> State | None:
    """The state, or None where there is none, one of another version of this program, or only a
    damaged one, which is then removed.

    Nothing in the file is executed: tensors, numbers and text only.
    """
    if not path.exists():
        return None
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises nearly anything on a damaged file
        path.unlink(missing_ok=True)
        return None
    return state if state.get("format") == FORMAT else None


def random_state(generator: torch.Generator, device: str) -> list[Tensor]:
    """The states of that generator, of torch's, and of the GPU's if the training is there."""
    states = [generator.get_state(), torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if device == "cuda" else states


def set_random_state(generator: torch.Generator, device: str, states: list[Tensor]) -> None:
    """Go on from what `random_state` gave for the same device."""
    generator.set_state(states[0])
    torch.set_rng_state(states[1])
    if device == "cuda":
        torch.cuda.set_rng_state(states[2])
