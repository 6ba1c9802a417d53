"""What one layer's change costs, tried out: it agrees with doing it by hand and leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.data.datasets import load_dataset
from compression.data.splits import Split, batches
from compression.errors import InvalidInput
from compression.methods.quantize.sensitivity import direct_costs
from compression.methods.quantize.weight_ranges import mse
from compression.models.load import original_of
from compression.models.parametrize import compressible, parametrize_weight, weight_of


class _Branches(nn.Module):
    """A residual, a layer called twice, in-place activations and one layer never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 3, padding=1)
        self.side, self.idle = nn.Conv2d(6, 6, 1), nn.Linear(2, 2)
        self.norm, self.act = nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        x = self.act(self.again(self.norm(x))) + self.act(self.side(x))
        x = self.act(self.again(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def _split(n: int = 200) -> Split:
    return load_dataset("fashion-mnist").calibration.head(n)


def _quantize(model: nn.Module, name: str, bits: int) -> None:
    module = model.get_submodule(name)
    parametrize_weight(module, None, mse(weight_of(module), bits, True, True))


def _model() -> nn.Module:
    torch.manual_seed(0)
    return _Branches().eval()


def test_it_is_the_divergence_that_doing_it_gives() -> None:
    layers, options = [n for n, _ in compressible(_model())], [2, 4, 8]
    table = direct_costs(_model(), layers, options, _quantize, _split())
    images = torch.cat([x for x, _ in batches(_split(), 100)])
    with torch.no_grad():
        log_p = _model()(images).double().log_softmax(1)
        for name, row in zip(layers, table, strict=True):
            for bits, cost in zip(options, row, strict=True):
                model = _model()
                _quantize(model, name, bits)
                log_q = model(images).double().log_softmax(1)
                expected = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True).item()
                assert cost == pytest.approx(max(expected, 0), rel=1e-3, abs=1e-7)
            if name == "idle":
                assert row == [0, 0, 0]
            else:
                assert row[0] > row[1] > row[2] >= 0


def test_the_model_is_left_as_it_was() -> None:
    model = _model()
    model.norm.train()
    mask = torch.rand_like(weight_of(model.side)) > 0.5  # type: ignore[arg-type]
    parametrize_weight(model.side, mask, None)  # type: ignore[arg-type]
    modules, state = list(model.modules()), {k: v.clone() for k, v in model.state_dict().items()}
    told: list[float] = []
    direct_costs(model, ["first", "side"], [2, 3], _quantize, _split(), "cpu", told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert [id(m) for m in model.modules()] == [id(m) for m in modules]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules() if m is model.norm] == [True]
    assert not any("forward" in vars(m) or m._forward_hooks for m in model.modules())


def test_an_error_in_the_change_leaves_the_model_as_it_was() -> None:
    model = _model()
    modules = list(model.modules())

    def fail(model: nn.Module, name: str, option: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        direct_costs(model, ["side"], [2], fail, _split())
    assert [id(m) for m in model.modules()] == [id(m) for m in modules]


def test_unknown_layers_are_named() -> None:
    with pytest.raises(InvalidInput, match="nonsense"):
        direct_costs(_model(), ["nonsense"], [2], _quantize, _split())


def test_bits_of_a_bundled_model_cost_less_the_more_there_are() -> None:
    model = original_of("fashion-mnist/squeezenet1_1")
    layers = [n for n, _ in compressible(model)][::6]
    table = direct_costs(model, layers, [2, 4, 8], _quantize, _split(128))
    for row in table:
        assert row[0] > row[1] > row[2] >= 0
