"""Structured pruning: whole channels go, with everything that depends on them, and the model is
really smaller.

What depends on what is found by torch-pruning's dependency graph (DepGraph: Fang et al., 2023),
and its group scores rank the channels; how many go is counted here, so that it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from compression.catalogue.channel_support import refusal, require_channels
from compression.data.splits import Split, batches
from compression.errors import InvalidInput
from compression.methods.prune.channel_counts import removed_globally, removed_per_layer
from compression.methods.prune.channel_removal import remove_outputs
from compression.methods.prune.dependency_graph import (
    Coupled,
    Score,
    coupled_channels,
    trace,
    whole_layers,
)
from compression.models.activation_memory import activation_memory
from compression.models.input_quantizers import remove_input_quantizers
from compression.models.parametrize import (
    compressible,
    materialize,
    parametrize_weight,
    weight_of,
)

SCOPES = {"global": removed_globally, "layer": removed_per_layer}
_ACROSS_CHANNELS = (nn.LayerNorm, nn.GroupNorm)
# What torch-pruning has been seen to raise where it loses track, and what PyTorch does then.
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Plan:
    """Which channels go: the outputs of layers, by name; what depends on them goes too.

    `example` [1, c, h, w] is of the model's input size; `note` what there is to say, if anything.
    """

    architecture: str
    example: Tensor
    gone: Mapping[str, Sequence[int]]
    note: str | None


def choose_channels(
    model: nn.Module,
    *,
    architecture: str,
    example: Tensor,
    sparsity: float,
    score: str = "magnitude",
    scope: str = "global",
    round_to: int = 8,
    labelled: Split | None = None,
    seed: int = 0,
) -> Plan:
    """The least important fraction `sparsity` of the channels; the model stays as it is.

    Channels that can only go together count once. What stays of a layer is a multiple of
    `round_to` and at least `round_to`; smaller layers and the classifier's outputs stay whole.

    Args:
        example: [n, 3, h, w], any image of the model's input size.
        score: `magnitude` (L2 norm), `taylor` (|w g| on `labelled`: Molchanov et al., 2019),
            `batchnorm` (scale factors: Liu et al., 2017) or `random` (by `seed` alone), each over
            all that goes with a channel, relative to the layer's mean.
        scope: `global` (one ranking) or `layer` (the same fraction of every layer).
        labelled: images and labels, which `taylor` needs.

    Raises:
        InvalidInput: the model is not supported, or a setting is not possible with it.
    """
    require_channels(architecture)
    if not 0 <= sparsity < 1:
        raise InvalidInput("sparsity", sparsity, "from 0 to less than 1 with pattern channels")
    model = _ordinary(model)
    example = example[:1].to(next(model.parameters()).device)
    rank = _scorer(model, score, labelled, seed)
    with _refused(architecture):
        graph = trace(model, example)
        coupled, whole = coupled_channels(graph, whole_layers(model, example), rank)
    if not coupled:
        raise InvalidInput("score", score, f"another score: {architecture} has nothing it can rank")
    scores, sizes = [c.scores for c in coupled], [c.size for c in coupled]
    counts = SCOPES[scope](scores, sizes, sparsity, round_to)
    total = sum(s.numel() * size for s, size in zip(scores, sizes, strict=True))
    removed = sum(n * size for n, size in zip(counts, sizes, strict=True))
    note = _note(model, removed, total, sparsity, round_to, whole)
    return Plan(architecture, example, _gone(model, coupled, counts), note)


def remove(model: nn.Module, plan: Plan) -> None:
    """Remove the channels of a plan, in place. Masks and grids stay with the channels that stay.

    Raises:
        InvalidInput: the model is not supported.
    """
    with _refused(plan.architecture):
        remove_outputs(model.eval(), plan.example, plan.gone)
        _check(model, plan.example)


def what_stays(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Which weights of each layer stay after `remove`: bool, of the weights' shapes.

    With only these, the model already gives the logits that it will give without the channels.

    Raises:
        InvalidInput: the model is not supported, or its logits would be others, for it normalises
            over channels that go.
    """
    plain, before = _ordinary(model), dict(model.named_modules())
    for _, layer in compressible(plain):
        # Where the weights of a layer were is only told of those that have a mask or a grid.
        parametrize_weight(layer, torch.ones_like(weight_of(layer), dtype=torch.bool), None)
    with _refused(plan.architecture):
        stay = remove_outputs(plain, plan.example, plan.gone)
    for name, module in plain.named_modules():
        if isinstance(module, _ACROSS_CHANNELS) and _sizes(module) != _sizes(before[name]):
            reason = "it normalises over channels; or update none and no bias repair"
            raise refusal(plan.architecture, reason)
    masks = {}
    for name, places in stay.items():
        weight = weight_of(before[name])
        stays = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        stays[places.flatten()] = True
        masks[name] = stays.view(weight.shape)
    return masks


def try_channels(model: nn.Module, architecture: str, input_shape: tuple[int, ...]) -> None:
    """Remove half the channels of a copy without memory, on the meta device: a fraction of a
    second tells whether it can be done at all.

    Raises:
        InvalidInput: it cannot; says why.
    """
    require_channels(architecture)
    with _refused(architecture):
        plain = _ordinary(model).to("meta")
        example = torch.empty(1, *input_shape, device="meta")
        graph = trace(plain, example)
        coupled, _ = coupled_channels(graph, whole_layers(plain, example), _in_order)
        counts = removed_per_layer([c.scores for c in coupled], [c.size for c in coupled], 0.5, 1)
        remove_outputs(plain, example, _gone(plain, coupled, counts))
        with torch.no_grad():
            plain(example)


def _ordinary(model: nn.Module) -> nn.Module:
    """A copy with ordinary weights and inputs, in eval mode."""
    plain = materialize(model).eval()
    remove_input_quantizers(plain)
    return plain


def _gone(model: nn.Module, coupled: list[Coupled], counts: list[int]) -> dict[str, list[int]]:
    """The least important units of each, as outputs of its layer."""
    names = {layer: name for name, layer in compressible(model)}
    outputs_gone = {}
    for group, count in zip(coupled, counts, strict=True):
        if count:
            least = group.scores.argsort(stable=True)[:count]
            units = group.scores.numel()
            outputs = torch.cat([least + units * i for i in range(group.size)])
            outputs_gone[names[group.layer]] = outputs.sort().values.tolist()
    return outputs_gone


def _sizes(module: nn.Module) -> list[torch.Size]:
    return [p.shape for p in module.parameters()]


@contextmanager
def _refused(architecture: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        reason = f"torch-pruning fails on it ({type(error).__name__})"
        raise refusal(architecture, reason) from error


# Scores


def _in_order(group: Any) -> Tensor:
    return torch.arange(len(group[0].idxs)).float()


def _scorer(model: nn.Module, score: str, labelled: Split | None, seed: int) -> Score:
    if score == "taylor":
        if labelled is None:
            raise InvalidInput("score", score, "another for a model without a data set")
        _differentiate(model, labelled)
    if score == "random":
        generator = torch.Generator().manual_seed(seed)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    scores: dict[str, Callable[[], Score]] = {
        "magnitude": tp.importance.GroupMagnitudeImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "batchnorm": tp.importance.BNScaleImportance,
    }
    if score not in scores:
        raise InvalidInput("score", score, f"{', '.join(scores)}, random with pattern channels")
    return scores[score]()


def _differentiate(model: nn.Module, labelled: Split) -> None:
    """Gradients of the mean cross-entropy, a part of the images at a time."""
    device = str(next(model.parameters()).device)
    at_once = activation_memory(model, labelled.head(1).prepared(device)).at_once_for_gradients
    model.zero_grad()
    with torch.enable_grad():
        for images, labels in batches(labelled, at_once):
            loss = F.cross_entropy(model(images.to(device)), labels.to(device), reduction="sum")
            (loss / len(labelled)).backward()


def _check(model: nn.Module, example: Tensor) -> None:
    with torch.no_grad():
        out = model(example)
    if not bool(torch.isfinite(out).all()):
        raise ArithmeticError("its logits are no longer finite")


def _note(
    model: nn.Module, removed: int, total: int, sparsity: float, round_to: int, whole: int
) -> str | None:
    sentences = []
    if removed == 0:
        sentences.append("Pruning changed nothing: no channels were removed")
    elif removed / total - sparsity > 0.01 or sparsity - removed / total > 0.01:
        sentences.append(f"{100 * removed / total:.3g} % of the channels were removed")
    if sentences:
        sentences[0] += f", because each layer keeps a multiple of {round_to} channels."
    if isinstance(model, VisionTransformer):
        sentences.append("Of a vision transformer only channels inside the MLP blocks are removed.")
    if whole:
        sentences.append(
            f"{whole} groups of layers without batch normalisation keep their channels."
        )
    return " ".join(sentences) or None
