"""Pairs of layers, one of the student and one of the teacher, whose outputs are matched."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from compression.errors import InvalidInput
from compression.methods.distill.losses import LAYER_LOSSES
from compression.models.hooks import Post, hooked
from compression.recipe.steps import Distill

Pairs = tuple[tuple[str, str], ...]


class Matching:
    """Keeps the outputs of the paired layers in every forward pass and gives their distance.

    Where features of different widths are matched, a 1 x 1 convolution maps the student's to the
    teacher's (FitNets, Romero et al., 2015); it is trained along and then thrown away.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, step: Distill, example: Tensor, seed: int
    ) -> None:
        self.pairs = _pairs(student, teacher, step, example)
        self.loss = LAYER_LOSSES[step.loss]
        self._outputs: dict[tuple[int, str], Tensor] = {}
        self._hooks = ExitStack()
        for side, model in enumerate((student, teacher)):
            layers = {pair[side]: model.get_submodule(pair[side]) for pair in self.pairs}
            self._hooks.enter_context(hooked(layers, post=_keeper(self._outputs, side)))
        _run(student, example)
        _run(teacher, example)
        self.bridges = nn.ModuleList(self._bridge(pair, step, seed) for pair in self.pairs)
        self.bridges.to(example.device)

    def _bridge(self, pair: tuple[str, str], step: Distill, seed: int) -> nn.Module:
        width, target = (self._outputs[side, name].shape[1] for side, name in enumerate(pair))
        if step.loss == "attention" or width == target:
            return nn.Identity()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Conv2d(width, target, 1, bias=False)

    def distance(self) -> Tensor:
        """Mean over the pairs of their loss, in the last forward passes of both models."""
        losses = [
            self.loss(bridge(self._outputs[0, ours]), self._outputs[1, theirs].detach())
            for (ours, theirs), bridge in zip(self.pairs, self.bridges, strict=True)
        ]
        return torch.stack(losses).mean()

    def release(self) -> None:
        """Take the hooks away and forget the outputs."""
        self._hooks.close()
        self._outputs.clear()


def _keeper(outputs: dict[tuple[int, str], Tensor], side: int) -> Post:
    # A closure: a copy of a watched model copies its hooks, and a function is copied as it is.
    def keep(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        outputs[side, name] = output

    return keep


def _pairs(student: nn.Module, teacher: nn.Module, step: Distill, example: Tensor) -> Pairs:
    maps = _maps(student, example), _maps(teacher, example)
    if not step.layers:
        return _stages(*maps)
    pairs = tuple((one.partition(":")[0], one.partition(":")[2] or one) for one in step.layers)
    for pair in pairs:
        for name, known, whose in zip(pair, maps, ("student", "teacher"), strict=True):
            if name not in known:
                some = ", ".join(list(_ends(known).values())[:4])
                raise InvalidInput("layers", name, f"a {whose} layer with maps, such as {some}")
    return pairs


def _stages(student: dict[str, int], teacher: dict[str, int]) -> Pairs:
    """The last layers at every size that both models have; a single pixel has no attention."""
    ours, theirs = _ends(student), _ends(teacher)
    return tuple((ours[size], theirs[size]) for size in ours if size in theirs and size > 1)


def _ends(maps: dict[str, int]) -> dict[int, str]:
    """The last, outermost layer at every size."""
    return {size: name for name, size in maps.items()}


def _maps(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Pixels of the maps that each module gives, in the order in which they end."""
    sizes: dict[str, int] = {}

    def note(name: str, _: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            sizes.pop(name, None)
            sizes[name] = output.shape[2] * output.shape[3]

    with hooked({n: m for n, m in model.named_modules() if n}, post=note):
        _run(model, example)
    return sizes


@torch.no_grad()
def _run(model: nn.Module, example: Tensor) -> None:
    training = [m for m in model.modules() if m.training]
    model.eval()(example)
    for module in training:
        module.training = True
