"""From a model id to an `nn.Module`: bundled weights, or torchvision's own API and cache.

`python -m compression.models.load` writes `assets/models/imagenet.json`, the list of torchvision's
ImageNet classifiers that the catalogue shows.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as tv

from compression.catalogue.cards import (
    Card,
    Weights,
    card,
    cards,
)
from compression.errors import InvalidInput, ModelUnavailable
from compression.models.parametrize import compressible, weight_of
from compression.models.placement import evaluating
from compression.paths import assets_dir

QUANTILES = 1001
# Auxiliary heads are only for training from scratch; torchvision's weights carry them.
_AUXILIARY = ("googlenet", "inception_v3")


def build(architecture: str, classes: int) -> nn.Module:
    """A stock torchvision architecture with random weights, in evaluation mode.

    Raises:
        InvalidInput: torchvision has no such classifier.
    """
    if architecture not in tv.list_models(module=tv):
        raise InvalidInput("architecture", architecture, "a classifier of torchvision.models")
    extra: dict[str, Any] = {}
    if architecture in _AUXILIARY:
        extra = {"aux_logits": False, "init_weights": False}
    if architecture.startswith("vit_"):
        extra = {"image_size": tv.get_model_weights(architecture)["DEFAULT"].meta["min_size"][0]}
    model: nn.Module = tv.get_model(architecture, weights=None, num_classes=classes, **extra)
    return model.eval()


def skeleton(architecture: str, classes: int) -> nn.Module:
    """As `build`, but without memory for the weights, on the meta device.

    Raises:
        InvalidInput: torchvision has no such classifier.
    """
    try:
        with torch.device("meta"):
            return build(architecture, classes)
    except NotImplementedError:
        # RegNet computes its widths with tensors, which must hold numbers.
        with torch.device("meta"), _NumbersOnCpu():
            return build(architecture, classes)


class _NumbersOnCpu(TorchFunctionMode):
    """Makes tensors from given numbers on the CPU, where they can be read, whatever the device."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.arange, torch.tensor):
            kwargs = {"device": "cpu", **(kwargs or {})}
        return func(*args, **(kwargs or {}))


def load_model(model_id: str) -> nn.Module:
    """A pretrained model, float32 on the CPU, in evaluation mode; a new one each time.

    Args:
        model_id: an id listed by `compression models`.

    Returns:
        The module: prepared images float32 [n, c, h, w] in, logits [n, classes] out.

    Raises:
        InvalidInput: there is no such model.
        ModelUnavailable: its weights cannot be read or downloaded; says where they are looked for.

    Example:
        >>> from compression import load_model
        >>> model = load_model("fashion-mnist/squeezenet1_1")
        >>> sum(p.numel() for p in model.parameters())
        727626
    """
    entry = card(model_id)
    model = build(entry.architecture, entry.classes)
    state = _bundled_state(entry) if entry.bundled else _downloaded_state(entry)
    try:
        model.load_state_dict(_without_auxiliary(state, entry.architecture))
    except RuntimeError as error:
        raise ModelUnavailable(
            f"model {model_id}: the file {entry.file} does not fit {entry.architecture} "
            f"({str(error).splitlines()[-1].strip()})"
        ) from None
    return model.to(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def original_of(model_id: str) -> nn.Module:
    """As `load_model`, but the last two are kept and shared: nobody moves or changes them.

    Raises:
        InvalidInput: there is no such model.
        ModelUnavailable: its weights cannot be read or downloaded.
    """
    return load_model(model_id)


def _bundled_state(entry: Card) -> dict[str, Tensor]:
    path = assets_dir() / "models" / entry.file
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"model {entry.id}: {path} cannot be read ({error})") from None
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def weights_path(entry: Card) -> Path:
    """Where torchvision's cache holds, or would hold, a downloaded model's file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / entry.file


def _downloaded_state(entry: Card) -> dict[str, Tensor]:
    path = weights_path(entry)
    try:
        weights = tv.get_model_weights(entry.architecture)["DEFAULT"]
        # torch prints "Downloading" on stdout, which belongs to the caller
        with contextlib.redirect_stdout(io.StringIO()):
            state: dict[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
        return state
    except (URLError, OSError, RuntimeError) as error:
        bundled = ", ".join(m for m, c in cards().items() if c.bundled)
        raise ModelUnavailable(
            f"model {entry.id}: the download of {entry.file} failed "
            f"({_reason(error)}). Connect to the network, or put the file at {path}. "
            f"Models that are here: {bundled}."
        ) from None
    except Exception as error:
        # an unreadable file makes torch.load raise nearly anything, UnpicklingError among others
        raise ModelUnavailable(
            f"model {entry.id}: {path} is damaged ({type(error).__name__}); delete it to have it "
            f"downloaded again."
        ) from None


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).splitlines()[0] if str(reason) else type(error).__name__


def _without_auxiliary(state: dict[str, Tensor], architecture: str) -> dict[str, Tensor]:
    if architecture not in _AUXILIARY:
        return state
    return {k: v for k, v in state.items() if not k.lower().startswith("aux")}


def describe_weights(model: nn.Module) -> Weights:
    """How the magnitudes of a model's compressible weights are spread."""
    layers = {name: weight_of(module).abs().flatten() for name, module in compressible(model)}
    ranked = torch.cat(list(layers.values())).sort().values
    at = torch.linspace(0, len(ranked) - 1, QUANTILES, dtype=torch.float64).round().long()
    return Weights(
        quantiles=tuple(float(f"{v:.6g}") for v in ranked[at].tolist()),
        largest={name: w.max().item() for name, w in layers.items()},
        counts={name: w.numel() for name, w in layers.items()},
    )


def count_macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one forward pass of one image of shape `input_shape`."""
    return macs_by_layer(model, next(model.parameters()).new_zeros(1, *input_shape))[""]


def macs_by_layer(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Multiply-accumulates of one forward pass in every module, with all that is inside it.

    Args:
        model: stays in its mode.
        images: prepared images [n, c, h, w] on the model's device.

    Returns:
        By the module's name, the whole model's under the empty name. What has no products is not
        in it, nor a layer whose weight another module multiplies by, as attention does.
    """
    # The fused attention kernel hides its products from the counter.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counter = FlopCounterMode(display=False)
        with evaluating(model), torch.inference_mode(), counter:
            model(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    counts = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    root = type(model).__name__
    inside = {n.removeprefix(f"{root}."): macs for n, macs in counts.items() if n != root}
    return {**inside, "": counts.get("Global", 0)}


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of the tensors of the state dict, 4 to every floating-point number."""
    return sum(
        t.numel() * (4 if t.is_floating_point() else t.element_size())
        for t in model.state_dict().values()
    )


def imagenet_card(architecture: str) -> dict[str, Any]:
    """The catalogue's entry for one of torchvision's ImageNet classifiers."""
    weights = tv.get_model_weights(architecture)["DEFAULT"]
    side = weights.transforms().crop_size[0]
    model = skeleton(architecture, len(weights.meta["categories"]))
    top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    entry = Card(
        id=f"imagenet/{architecture}",
        title=f"{architecture} (ImageNet)",
        architecture=architecture,
        dataset=None,
        classes=len(weights.meta["categories"]),
        input_shape=(3, side, side),
        parameters=sum(p.numel() for p in model.parameters()),
        macs=count_macs(model, (3, side, side)),
        dense_bytes=parameter_bytes(model),
        bundled=False,
        file=os.path.basename(weights.url),
        published_top1=round(top1 / 100, 6),
        training=f"torchvision {architecture}, weights {weights.name}",
        licence="see torchvision's model documentation",
    )
    return entry.model_dump(mode="json", exclude_defaults=True)


def main() -> None:
    """Write the list of torchvision's ImageNet classifiers."""
    entries = [imagenet_card(name) for name in tv.list_models(module=tv)]
    path = assets_dir() / "models" / "imagenet.json"
    path.write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")


if __name__ == "__main__":
    main()
