"""The one value that goes down every flow: a model, and what it is compressed for.

`target_of` makes it where a flow begins; nothing after that looks a model's name up again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from compression.catalogue.cards import Card, card, student_card
from compression.data.datasets import load_dataset
from compression.data.splits import Dataset, Split, noise
from compression.errors import InvalidInput
from compression.models.load import count_macs, original_of
from compression.models.placement import evaluated, placed, resolve_device
from compression.models.requirements import require_applicable
from compression.recipe.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Target:
    """A pretrained model with all that compressing and measuring it needs.

    Args:
        module: an `nn.Module` in float32, or a function that loads it when it is first needed. It
            is shared: nobody moves or changes it.
        input_shape: of one prepared input: channels, height and width of an image. Where there are
            data it is theirs if not given.
        data: labelled inputs, as `dataset_of` makes them; None leaves size and latency to measure.
        name: what the model is called in messages and in the files made of it.
        architecture: torchvision's name of the architecture, which a packed file is rebuilt from.
        card: the model's entry in the catalogue; None for a module of your own.
        student: the model that the recipe trains in place of this one, if it names one.
        device: `cpu` or `cuda`, where it is compressed and measured.
        split: the name of the split that is measured on.

    Example:
        >>> import torch
        >>> from compression import Prune, Recipe, Target, compress
        >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> target = Target(module, input_shape=(3, 8, 8), name="mine")
        >>> pruned = compress(target, Recipe(steps=(Prune(sparsity=0.75),))).model
        >>> int((pruned[1].weight == 0).sum())
        1440
    """

    module: nn.Module | Callable[[], nn.Module]
    input_shape: tuple[int, ...] = ()
    data: Dataset | None = None
    name: str = "model"
    architecture: str | None = None
    card: Card | None = None
    student: Target | None = None
    device: str = "cpu"
    split: str = "validation"

    def __post_init__(self) -> None:
        """Read the shape off the data, and refuse a shape that is not theirs.

        Raises:
            InvalidInput: the shape is missing, or is not that of the data.
        """
        data_shape = None
        if self.data is not None:
            data_shape = tuple(self.data.validation.head(1).prepared().shape[1:])
        if not self.input_shape:
            if data_shape is None:
                allowed = "the shape of one input, or data to read it off"
                raise InvalidInput("input_shape", self.input_shape, allowed)
            object.__setattr__(self, "input_shape", data_shape)
        elif data_shape not in (None, tuple(self.input_shape)):
            raise InvalidInput("input_shape", self.input_shape, f"that of the data, {data_shape}")

    @cached_property
    def model(self) -> nn.Module:
        """The pretrained module on the CPU in evaluation mode, shared: copy it before changing it.

        Raises:
            ModelUnavailable: its weights cannot be read or downloaded.
        """
        module = self.module if isinstance(self.module, nn.Module) else self.module()
        return evaluated(placed(module, "cpu"))

    @property
    def base(self) -> Target:
        """What the recipe's compressed model is made of: the student if there is one, or this."""
        return self.student or self

    @cached_property
    def identity(self) -> str:
        """Names the weights and the images in caches: the same text, the same results."""
        if self.card is not None:
            return f"{self.card.id}|{self.card.date}"
        digest = hashlib.sha256(repr(self.model).encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        images = None if self.data is None else self.data.id
        return f"{self.name}|{digest.hexdigest()}|{images}"

    @property
    def structure(self) -> str:
        """Names what the model is but for its weights and widths."""
        return f"{self.architecture or self.identity}-{self.classes}"

    @cached_property
    def classes(self) -> int:
        """How many classes it tells apart."""
        if self.card is not None:
            return self.card.classes
        if self.data is not None:
            return len(self.data.classes)
        with torch.inference_mode():
            return int(self.model(noise(self.input_shape, 1)).shape[1])

    @cached_property
    def parameters(self) -> int:
        """How many parameters the model has."""
        if self.card is not None:
            return self.card.parameters
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def macs(self) -> int | None:
        """Multiply-accumulates for one image."""
        return self.card.macs if self.card else count_macs(self.model, self.input_shape)

    @cached_property
    def on_device(self) -> nn.Module:
        """The model where it is compressed and measured; shared like `model`."""
        return placed(self.model, self.device)

    @property
    def measured(self) -> Split | None:
        """The images that are measured on, as stored; None where there are none."""
        return self.data.split(self.split) if self.data else None

    def images(self, count: int, split: str | None = None) -> Tensor:
        """Prepared images, float32 [count, c, h, w] on the CPU: the first ones of a split, by
        default that which is measured on; noise where there is no data."""
        if self.data is None:
            return noise(self.input_shape, count)
        return self.data.split(split or self.split).head(count).prepared()


def target_of(
    model: str | Target | nn.Module,
    recipe: Recipe | None = None,
    data: Dataset | None = None,
    *,
    device: str | None = None,
    split: str | None = None,
) -> Target:
    """Everything that a recipe's way needs to know of a model, looked up once.

    Args:
        model: an id of the catalogue, a target, which gets the recipe's student, or a module.
        recipe: what will be done; the empty one if not given.
        data: labelled inputs for a module; a target and a model of the catalogue have their own.
        device: `auto`, `cpu` or `cuda`. If not given, the target's own, for an id `auto`.
        split: what is measured on. If not given, the target's own, for an id `validation`.

    Raises:
        InvalidInput: there is no such model, student, device or split, or the recipe is not for
            the model.
    """
    recipe = recipe or Recipe()
    if isinstance(model, nn.Module):
        model = Target(model, data=data, name=type(model).__name__)
    elif data is not None:
        raise InvalidInput("data", data.id, "none, for this model has data of its own")
    target = _looked_up(model, recipe) if isinstance(model, str) else _with_student(model, recipe)
    place = target.device if device is None and isinstance(model, Target) else device or "auto"
    place, split = resolve_device(place), split or target.split
    if target.data is not None:
        target.data.split(split)
    if (place, split) == (target.device, target.split):
        return target
    student = target.student and replace(target.student, device=place, split=split)
    return replace(target, student=student, device=place, split=split)


def _looked_up(model_id: str, recipe: Recipe) -> Target:
    entry = card(model_id)
    data = load_dataset(entry.dataset) if entry.dataset else None
    return _with_student(_of_card(entry, data), recipe)


def _with_student(target: Target, recipe: Recipe) -> Target:
    dataset = target.data.id if target.data else None
    student = student_card(recipe, target.classes, dataset)
    architecture = student.architecture if student else target.architecture
    require_applicable(recipe, target.name, architecture, has_images=dataset is not None)
    if student is None:
        return replace(target, student=None) if target.student else target
    if target.student is not None and target.student.card == student:
        return target
    other = replace(_of_card(student, target.data), device=target.device, split=target.split)
    return replace(target, student=other)


def _of_card(entry: Card, data: Dataset | None) -> Target:
    return Target(
        module=partial(original_of, entry.id),
        input_shape=entry.input_shape,
        data=data,
        name=entry.id,
        architecture=entry.architecture,
        card=entry,
    )
