"""Settings of distillation and fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, model_validator

from compression.recipe.base import BaseStep, as_set, in_brackets, plain
from compression.recipe.fields import Choice, Inactive, Shown, Values, setting, with_trait

Layers = Annotated[tuple[str, ...], BeforeValidator(as_set)]

Loss = Literal["hinton", "dkd", "logits", "attention", "features"]
Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"]
Schedule = Literal["constant", "step", "exponential", "cosine", "one-cycle", "plateau"]

_LOSSES = {
    "hinton": Choice("KL divergence (Hinton)", "KL divergence between softened logits"),
    "dkd": Choice(
        "Decoupled KL (DKD)",
        "the same with target and non-target classes weighted apart",
        "decoupled",
        traits=("target class",),
    ),
    "logits": Choice(
        "Logit matching", "squared error of the raw logits, without labels", traits=("no labels",)
    ),
    "attention": Choice(
        "Attention transfer",
        "KL divergence, and the spatial attention of layers is matched",
        "attention transfer",
        traits=("layers",),
    ),
    "features": Choice(
        "Feature matching (FitNets)",
        "KL divergence, and the outputs of layers are matched",
        "feature matching",
        traits=("layers",),
    ),
}
_OPTIMIZERS = {
    "sgd": Choice("SGD", "stochastic gradient descent"),
    "momentum": Choice("SGD with momentum", "SGD with heavy-ball momentum", traits=("momentum",)),
    "nesterov": Choice(
        "SGD with Nesterov momentum", "SGD with Nesterov momentum", traits=("momentum",)
    ),
    "adam": Choice("Adam", "adaptive moments"),
    "adamw": Choice("AdamW", "Adam with decoupled weight decay"),
    "rmsprop": Choice("RMSprop", "scaled by a running root mean square", traits=("momentum",)),
    "adagrad": Choice("Adagrad", "scaled by the accumulated squared gradients"),
}
_SCHEDULES = {
    "constant": Choice("Constant", "the learning rate stays the same"),
    "step": Choice("Step decay", "it falls in steps", traits=("decays", "by epochs")),
    "exponential": Choice(
        "Exponential decay", "it falls exponentially", traits=("decays", "by epochs")
    ),
    "cosine": Choice("Cosine annealing", "it falls along a cosine"),
    "one-cycle": Choice("One cycle", "it rises and falls once", traits=("own warm-up",)),
    "plateau": Choice(
        "Reduce on plateau",
        "it falls when validation accuracy stalls",
        traits=("decays", "validation"),
    ),
}
# Losses that match layers, beside the logits.
BETWEEN_LAYERS = with_trait(_LOSSES, "layers")


def _without(
    name: str, choices: dict[str, Choice], trait: str, reason: str
) -> tuple[Inactive, ...]:
    """No effect where the choice made for another setting lacks a trait."""
    return (Inactive(lambda values: values[name] not in with_trait(choices, trait), reason),)


def _no_label(values: Values) -> bool:
    return values["loss"] in with_trait(_LOSSES, "no labels") or values["alpha"] == 1


_NEEDS_DKD = _without("loss", _LOSSES, "target class", "Only dkd weights the non-target classes.")
_NEEDS_LAYERS = _without("loss", _LOSSES, "layers", "This loss matches no layers.")
_NEEDS_MOMENTUM = _without("optimizer", _OPTIMIZERS, "momentum", "This optimizer has no momentum.")
_NEEDS_DECAY = _without("schedule", _SCHEDULES, "decays", "This schedule has no decay factor.")
_NEEDS_EPOCHS = _without(
    "schedule",
    _SCHEDULES,
    "by epochs",
    "This schedule does not decay at fixed intervals of epochs.",
)
_NEEDS_PLATEAU = _without(
    "schedule", _SCHEDULES, "validation", "Only plateau waits for validation accuracy."
)


def _when(holds: Callable[[Values], bool], reason: str) -> tuple[Inactive, ...]:
    return (Inactive(holds, reason),)


class Distill(BaseStep):
    """Train the compressed model on the original's logits (Hinton et al., 2015) and on labels."""

    step: Literal["distill"] = "distill"
    temperature: float = setting(
        4.0,
        gt=0,
        le=50,
        title="Distillation temperature",
        help="Logits are divided by it before the softmax: higher values soften the targets.",
        unit="T",
        shown=Shown(main=True, increment=0.5, low=0.5),
    )
    alpha: float = setting(
        0.9,
        ge=0,
        le=1,
        title="Distillation weight (alpha)",
        help="Share of the distillation loss: 1 trains on the teacher alone, 0 on labels alone.",
        unit="fraction",
        shown=Shown(group="Loss", row=2),
    )
    epochs: int = setting(
        1,
        ge=1,
        le=100,
        title="Epochs",
        help="Passes over the training images.",
        unit="epochs",
        shown=Shown(group="Training", row=1),
    )
    learning_rate: float = setting(
        0.01,
        gt=0,
        le=1,
        title="Learning rate",
        help="Peak learning rate; the schedule scales it.",
        shown=Shown(group="Training", row=4, increment=0.005, low=1e-4),
    )
    loss: Loss = setting(
        "hinton",
        title="Distillation loss",
        help="What is matched between student and teacher.",
        choices=_LOSSES,
        shown=Shown(group="Loss", row=1),
    )
    other_classes: float = setting(
        8.0,
        ge=0,
        le=100,
        title="Non-target weight",
        help="dkd: weight of the non-target classes (beta).",
        inactive=_NEEDS_DKD,
        shown=Shown(group="Loss", row=3, increment=1.0),
    )
    layer_weight: float = setting(
        1.0,
        ge=0,
        le=10_000,
        title="Layer loss weight",
        help="attention, features: weight of the loss between layers.",
        inactive=_NEEDS_LAYERS,
        shown=Shown(group="Loss", row=4, increment=1.0),
    )
    layers: Layers = setting(
        (),
        title="Matched layers",
        help="attention, features: layer names, or student:teacher pairs of names; the end of "
        "every stage if none is given.",
        inactive=_NEEDS_LAYERS,
        shown=Shown(group="Loss", row=5, unset="The end of every stage"),
    )
    student: str | None = setting(
        None,
        title="Student",
        help="Another model of the catalogue, trained in place of this one.",
        shown=Shown(row=1, unset="This model itself"),
    )
    initial: Literal["own", "fresh"] = setting(
        "own",
        title="Student initialisation",
        help="The weights the student starts from.",
        choices={
            "own": Choice("Pretrained weights", "its pretrained weights"),
            "fresh": Choice("Random weights", "random weights", "from random weights"),
        },
        inactive=_when(lambda values: values["student"] is None, "There is no other student."),
        shown=Shown(row=2),
    )
    optimizer: Optimizer = setting(
        "nesterov",
        title="Optimizer",
        help="How gradients become updates.",
        choices=_OPTIMIZERS,
        shown=Shown(group="Training", row=3),
    )
    momentum: float = setting(
        0.9,
        ge=0,
        le=0.999,
        title="Momentum",
        help="Fraction of the previous update carried into the next.",
        unit="fraction",
        inactive=_NEEDS_MOMENTUM,
        shown=Shown(group="Training", row=4),
    )
    batch_size: int = setting(
        128,
        ge=8,
        le=4096,
        title="Batch size",
        help="Images per optimizer step.",
        unit="images",
        shown=Shown(group="Training", row=1),
    )
    schedule: Schedule = setting(
        "cosine",
        title="Learning-rate schedule",
        help="How the learning rate changes over training.",
        choices=_SCHEDULES,
        shown=Shown(group="Training", row=5),
    )
    warmup: float = setting(
        0.0,
        ge=0,
        le=0.5,
        title="Warm-up",
        help="Fraction of all steps over which the learning rate rises linearly at first.",
        unit="fraction",
        inactive=_when(
            lambda values: values["schedule"] in with_trait(_SCHEDULES, "own warm-up"),
            "One cycle has a warm-up of its own.",
        ),
        shown=Shown(group="Training", row=7),
    )
    decay: float = setting(
        0.1,
        gt=0,
        le=1,
        title="Decay factor",
        help="step, exponential, plateau: the factor on the learning rate.",
        unit="factor",
        inactive=_NEEDS_DECAY,
        shown=Shown(group="Training", row=6, low=0.01),
    )
    decay_epochs: float = setting(
        1.0,
        gt=0,
        le=100,
        title="Decay every",
        help="step, exponential: epochs per decay by that factor.",
        unit="epochs",
        inactive=_NEEDS_EPOCHS,
        shown=Shown(group="Training", row=6, increment=0.5, low=0.1),
    )
    patience: int = setting(
        2,
        ge=0,
        le=100,
        title="Patience",
        help="plateau: validation checks without improvement before the learning rate falls.",
        unit="checks",
        inactive=_NEEDS_PLATEAU,
        shown=Shown(group="Training", row=6),
    )
    early_stopping: int | None = setting(
        None,
        ge=1,
        le=100,
        title="Early stopping after",
        help="Validation checks, two per epoch, without improvement; the best model is kept.",
        unit="checks",
        shown=Shown(group="Regularisation", row=3, unset="Never"),
    )
    weight_decay: float = setting(
        1e-4,
        ge=0,
        le=1,
        title="Weight decay",
        help="L2 regularisation; decoupled from the gradient with adamw.",
        shown=Shown(group="Regularisation", row=1, increment=1e-4),
    )
    l1: float = setting(
        0.0,
        ge=0,
        le=1,
        title="L1 penalty",
        help="Weight of the sum of weight magnitudes in the loss, which drives weights to zero.",
        shown=Shown(group="Regularisation", row=1, increment=1e-5),
    )
    label_smoothing: float = setting(
        0.0,
        ge=0,
        le=0.9,
        title="Label smoothing",
        help="Probability mass of the label that is spread evenly over all classes.",
        unit="fraction",
        inactive=_when(_no_label, "No label is used."),
        shown=Shown(group="Regularisation", row=2),
    )
    mixup: float = setting(
        0.0,
        ge=0,
        le=10,
        title="Mixup",
        help="Parameter of the Beta(x, x) distribution that pairs of images and labels are mixed "
        "by; 0 is off.",
        inactive=_when(
            lambda values: values["loss"] in with_trait(_LOSSES, "target class"),
            "Mixed images have no single target class, which dkd needs.",
        ),
        shown=Shown(group="Regularisation", row=2, increment=0.1),
    )
    augmentation: Literal["random", "none"] = setting(
        "random",
        title="Augmentation",
        help="How training images are varied.",
        by_preset=True,
        choices={
            "random": Choice("Flips, shifts, erasing", "random flips, shifts and erased squares"),
            "none": Choice(
                "Off",
                "images as they are, best for a few epochs: teacher logits are computed only once",
            ),
        },
        shown=Shown(row=3),
    )
    images: int | None = setting(
        None,
        ge=100,
        le=10_000_000,
        title="Training images",
        help="Number of training images; all if unset.",
        unit="images",
        shown=Shown(group="Training", row=2, unset="All of them", increment=1000),
    )
    batchnorm: Literal["live", "frozen"] = setting(
        "live",
        title="Batch-norm statistics",
        help="Whether training updates the running statistics.",
        choices={
            "live": Choice("Updated", "updated by the training batches"),
            "frozen": Choice("Frozen, as they are", "kept as they are"),
        },
        shown=Shown(group="Regularisation", row=4),
    )
    dropout: Literal["kept", "none"] = setting(
        "kept",
        title="Dropout",
        help="Whether the architecture's dropout is active.",
        choices={
            "kept": Choice("As in the architecture", "as in the architecture"),
            "none": Choice("Off", "off, for a model with little capacity left"),
        },
        shown=Shown(group="Regularisation", row=5),
    )
    grid: Literal["fixed", "learned"] = setting(
        "fixed",
        title="Quantization scales",
        help="What becomes of the scales of quantized weights.",
        choices={
            "fixed": Choice("Fixed, as quantized", "they stay as they are"),
            "learned": Choice(
                "Learned with the weights (LSQ)",
                "they are learned with the weights (LSQ)",
                "learned scales",
            ),
        },
        shown=Shown(row=4),
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "float32",
        title="Compute dtype",
        help="Dtype of the products in training; weights stay float32.",
        choices={
            "float32": Choice("32 bits (float32)", "full precision"),
            "bfloat16": Choice(
                "16 bits (bfloat16)", "mixed precision, faster where the hardware has it"
            ),
        },
        shown=Shown(row=5),
    )

    @property
    def searches(self) -> bool:
        # Validation accuracy may end a training, and then chooses the model that is kept.
        return True

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.mixup and self.loss in with_trait(_LOSSES, "target class"):
            raise ValueError(
                f"mixup with another loss than {self.loss}, which needs one right class"
            )
        if self.initial == "fresh" and self.student is None:
            raise ValueError("initial fresh only with a student")
        if self.layers and self.loss not in BETWEEN_LAYERS:
            raise ValueError(f"layers only with loss {' or '.join(BETWEEN_LAYERS)}")
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether the original's logits or layers are used."""
        return self.alpha > 0 or self.loss in ("logits", *BETWEEN_LAYERS)

    @property
    def logits_only(self) -> bool:
        """Whether the teacher's logits are all that is used of it."""
        return self.needs_teacher and self.loss not in BETWEEN_LAYERS

    def sentence(self) -> str:
        length = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        if self.images is not None:
            length += f" of {self.images:,} images"
        if not self.needs_teacher:
            text = f"{'fine-tune' if self.student is None else 'train ' + self.student}"
            return f"{text} for {length}" + in_brackets(self.remarks("initial", "grid"))
        into = "" if self.student is None else f" into {self.student}"
        text = f"distill{into} for {length}"
        if self.loss == "logits":
            text += " by matching logits"
        else:
            text += f" at T = {self.temperature:.3g}"
            usual = Distill.model_fields["alpha"].default
            text += "" if self.alpha == usual else f", alpha {self.alpha:.3g}"
        return text + in_brackets(self.remarks("loss", "initial", "grid"))

    def headline(self) -> str:
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        usual = {name: type(self).model_fields[name].default for name in ("temperature", "alpha")}
        parts = [epochs]
        if self.student is not None:
            name = re.sub(r"[^\w.-]+", "-", self.student.rpartition("/")[2])
            parts = [f"into {name}", epochs]
        if self.temperature != usual["temperature"]:
            parts.append(f"T {plain(self.temperature)}")
        if self.alpha != usual["alpha"]:
            parts.append(f"α {plain(self.alpha)}")
        return ", ".join(parts)
