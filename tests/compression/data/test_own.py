"""Labelled inputs become a data set whose splits share nothing, or are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from compression.data import own
from compression.data.own import dataset_of
from compression.data.preparation import Preparation
from compression.errors import DataError, InvalidInput
from compression.methods.pipeline import compress
from compression.models.parametrize import compressible, grid_of, weight_of
from compression.models.target import Target
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune, Quantize


def numbered(count: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Inputs that are their own number."""
    return torch.arange(float(count)).view(-1, 1), torch.arange(count) % classes


def numbers(split: Any) -> list[int]:
    return [int(x) for x in split.images.flatten()]


@given(st.integers(6, 60), st.integers(1, 3), st.integers(0, 99))
def test_halves_share_nothing_and_hold_each_class_alike(n: int, classes: int, seed: int) -> None:
    data = dataset_of(numbered(n, classes), seed=seed)
    seen, measured = numbers(data.calibration), numbers(data.validation)
    assert sorted(seen + measured) == list(range(n))
    counts = [s.labels.bincount(minlength=classes) for s in (data.calibration, data.validation)]
    assert int((counts[0] - counts[1]).abs().max()) <= 1
    again = dataset_of(numbered(n, classes), seed=seed)
    assert numbers(again.validation) == measured
    assert numbers(data.train) == seen and len(data.test) == 0


@pytest.mark.parametrize("form", ["pair", "arrays", "set", "list", "loader", "items of a loader"])
def test_every_form_gives_the_same(form: str) -> None:
    x, y = numbered(10)
    pairs = TensorDataset(x, y)
    source = {
        "pair": (x, y),
        "arrays": (x.numpy(), y.numpy()),
        "set": pairs,
        "list": [(row.numpy(), int(label)) for row, label in zip(x, y, strict=True)],
        "loader": DataLoader(pairs, batch_size=3),
        "items of a loader": DataLoader(pairs, batch_size=None),
    }[form]
    data = dataset_of(source, train=(x, y), test=pairs, classes=("a", "b", "c"))
    assert torch.equal(data.validation.images, x) and torch.equal(data.validation.labels, y)
    assert numbers(data.test) == numbers(data.train) == numbers(data.calibration)
    assert data.classes == ("a", "b", "c") and data.validation.labels.dtype == torch.int64


def test_many_inputs_lie_in_a_file_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(50, 4, 5), torch.arange(50) % 7
    monkeypatch.setattr(own, "IN_MEMORY_BYTES", 3 * x[:1].nbytes)
    for size in (1, 4, 50):
        data = dataset_of(DataLoader(TensorDataset(x, y), batch_size=size), train=(x, y))
        assert torch.equal(data.validation.images, x) and torch.equal(data.validation.labels, y)


NAN = torch.tensor([[1.0], [float("nan")]])
Y = torch.tensor([0, 1])
BAD: list[tuple[Any, str]] = [
    ((torch.zeros(3, 2), Y), r"data: labels have shape \[2\] and inputs \[3, 2\]"),
    ((NAN, Y), "data: input 1 has numbers that are not finite"),
    ((torch.zeros(2, 2), torch.tensor([0.5, 1.0])), "a label is 0.5, of type torch.float32"),
    ((torch.zeros(2, 2), torch.tensor([-1, 1])), "a label is -1, .* whole numbers from 0"),
    ([], "data: there are no inputs"),
    ((torch.zeros(0, 2), torch.zeros(0).long()), "data: there are no inputs"),
    ((torch.zeros(1, 2), torch.zeros(1).long()), "data: 1 inputs cannot be halved"),
    ([(torch.zeros(2), 0), (torch.zeros(3), 1)], r"input 1 has shape \[3\], .* have \[2\]"),
    ([(object(), 0)], r"item 0 is \(object, int\), not a tensor and a whole number"),
    ([torch.zeros(2)], r"item 0 is a Tensor, not \(input, label\)"),
    (7, "data: int is not a pair of tensors, or a data set or loader"),
]


@pytest.mark.parametrize(("source", "message"), BAD)
def test_what_cannot_be_used_is_named(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset_of(source)


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(DataError, match="classes: 2 are named, but there is a label 2"):
        dataset_of(numbered(9), classes=("a", "b"))


def test_the_shape_is_read_off_the_data_or_asked_for() -> None:
    data = dataset_of(
        (torch.zeros(8, 1, 6, 6, dtype=torch.uint8), torch.arange(8) % 2),
        preparation=Preparation((0.5,), (0.5,), size=8),
    )
    assert Target(nn.Identity(), data=data).input_shape == (3, 8, 8)
    with pytest.raises(InvalidInput, match=r"input_shape: got \(3, 6, 6\).*\(3, 8, 8\)"):
        Target(nn.Identity(), (3, 6, 6), data)
    with pytest.raises(InvalidInput, match="input_shape"):
        Target(nn.Identity())


def tabular(seed: int = 0) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network for rows of 12 numbers, and rows with its own predictions for labels."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)).eval()
    x = torch.randn(400, 12)
    with torch.no_grad():
        return model, (x, model(x).argmax(1))


def sequences(seed: int = 0) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network for tokens of a text: whole numbers in, an embedding, a 1-d convolution."""

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.over = nn.Embedding(50, 16), nn.Conv1d(16, 24, 3, padding=1)
            self.head = nn.Linear(24, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            out: Tensor = self.head(self.over(self.words(tokens).mT).relu().mean(2))
            return out

    torch.manual_seed(seed)
    model = Text().eval()
    tokens = torch.randint(0, 50, (300, 9))
    with torch.no_grad():
        return model, (tokens, model(tokens).argmax(1))


@pytest.mark.parametrize("make", [tabular, sequences])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_module_that_knows_no_images_is_compressed(make: Any, rounding: str) -> None:
    model, pair = make()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    recipe = Recipe(
        steps=(
            Prune(sparsity=0.5, scope="layer", score="obs", update="obs"),
            Quantize(bits=4, rounding=rounding, repair=("bias",)),
        )
    )
    made = compress(model, recipe, dataset_of(pair))
    layers = dict(compressible(made.model))
    zeros = sum(int((weight_of(m) == 0).sum()) for m in layers.values())
    assert zeros >= sum(weight_of(m).numel() for m in layers.values()) // 2
    assert all(grid_of(m) is not None for m in layers.values())
    noted = any("neither linear nor 2-d" in note for note in made.notes)
    assert noted == (make is sequences and rounding == "gptq")
    agree = (made.model(pair[0]).argmax(1) == pair[1]).float().mean()
    assert float(agree) > 0.75
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_data_belong_to_modules_alone() -> None:
    data = dataset_of((np.zeros((4, 2)), np.arange(4) % 2))
    with pytest.raises(InvalidInput, match="data: got 'own', allowed: none"):
        compress("fashion-mnist/resnet18", Recipe(), data)
