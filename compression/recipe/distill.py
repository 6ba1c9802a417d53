"""Settings of distillation and fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from compression.recipe.base import BaseStep, chosen, how

Layers = Annotated[tuple[str, ...], BeforeValidator(chosen)]

Loss = Literal["hinton", "dkd", "logits", "attention", "features"]
Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"]
Schedule = Literal["constant", "step", "exponential", "cosine", "one-cycle", "plateau"]

# Which settings mean something beside which loss, optimizer and schedule.
BETWEEN_LAYERS = ("attention", "features")
WITH_MOMENTUM = ("momentum", "nesterov", "rmsprop")
DECAYING = ("step", "exponential", "plateau")


class Distill(BaseStep):
    """Teach the compressed model to answer like the original (Hinton et al., 2015)."""

    step: Literal["distill"] = "distill"
    temperature: float = Field(
        default=4.0,
        gt=0,
        le=50,
        title="Distillation temperature",
        description="Softens the original's answers: higher shows more of its second guesses.",
        json_schema_extra={"unit": "T"},
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        title="Weight of the original's answers",
        description="1 learns only from the original's answers, 0 only from the labels.",
        json_schema_extra={"unit": "fraction"},
    )
    epochs: int = Field(
        default=1,
        ge=1,
        le=100,
        title="Epochs",
        description="Passes over the training images.",
        json_schema_extra={"unit": "epochs"},
    )
    learning_rate: float = Field(
        default=0.01,
        gt=0,
        le=1,
        title="Learning rate",
        description="Largest step size; the schedule lowers it.",
    )
    loss: Loss = Field(
        default="hinton",
        title="What is matched",
        description="Softened answers (hinton); these with the right class and the others apart "
        "(dkd); raw answers, no label read (logits); or, beside softened answers, where layers "
        "look (attention) or what they hold (features).",
    )
    other_classes: float = Field(
        default=8.0,
        ge=0,
        le=100,
        title="Weight of the wrong classes",
        description="dkd: how much the answers among the wrong classes count.",
    )
    layer_weight: float = Field(
        default=1.0,
        ge=0,
        le=10_000,
        title="Weight of the layers",
        description="attention, features: how much the match between layers counts.",
    )
    layers: Layers = Field(
        default=(),
        title="Layers matched",
        description="attention, features: names, or student:teacher pairs of names; the end of "
        "every stage if none is given.",
    )
    student: str | None = Field(
        default=None,
        title="Student",
        description="Another model of the catalogue that is taught in place of this one.",
    )
    initial: Literal["own", "fresh"] = Field(
        default="own",
        title="Student starts from",
        description="Its own trained weights, or fresh random ones.",
    )
    optimizer: Optimizer = Field(
        default="nesterov",
        title="Optimizer",
        description="SGD, with momentum or Nesterov's; or an adaptive variant: Adam, AdamW, "
        "RMSprop, Adagrad.",
    )
    momentum: float = Field(
        default=0.9,
        ge=0,
        le=0.999,
        title="Momentum",
        description="Share of the last step that goes on into the next.",
        json_schema_extra={"unit": "fraction"},
    )
    batch_size: int = Field(
        default=128,
        ge=8,
        le=4096,
        title="Batch size",
        description="Images per step of the optimizer.",
        json_schema_extra={"unit": "images"},
    )
    schedule: Schedule = Field(
        default="cosine",
        title="Learning-rate schedule",
        description="How the learning rate falls: not at all, by steps, exponentially, along a "
        "cosine, up and down once, or when validation accuracy stalls (plateau).",
    )
    warmup: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        title="Warm-up",
        description="First share of all steps, in which the learning rate rises from near zero.",
        json_schema_extra={"unit": "fraction"},
    )
    decay: float = Field(
        default=0.1,
        gt=0,
        le=1,
        title="Decay",
        description="step, exponential, plateau: what the learning rate is multiplied by.",
        json_schema_extra={"unit": "factor"},
    )
    decay_epochs: float = Field(
        default=1.0,
        gt=0,
        le=100,
        title="Decay every",
        description="step, exponential: epochs in which the learning rate falls by that factor.",
        json_schema_extra={"unit": "epochs"},
    )
    patience: int = Field(
        default=2,
        ge=0,
        le=100,
        title="Patience",
        description="plateau: looks at validation without a gain before the rate falls.",
        json_schema_extra={"unit": "looks"},
    )
    early_stopping: int | None = Field(
        default=None,
        ge=1,
        le=100,
        title="Stop early after",
        description="Looks at validation, two an epoch, without a gain; the best model is kept.",
        json_schema_extra={"unit": "looks"},
    )
    weight_decay: float = Field(
        default=1e-4,
        ge=0,
        le=1,
        title="Weight decay",
        description="L2 regularisation; decoupled from the gradient with adamw.",
    )
    l1: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="L1 penalty",
        description="Added to the loss for each unit of weight magnitude: pulls weights to zero.",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        le=0.9,
        title="Label smoothing",
        description="Share of the label that is spread over all classes.",
        json_schema_extra={"unit": "fraction"},
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        title="Mixup",
        description="Blends pairs of images and their labels, by Beta(x, x) shares; 0 is off.",
    )
    augmentation: Literal["random", "none"] = Field(
        default="random",
        title="Augmentation",
        description="Flips, shifts and erased squares; or none, for a few epochs: the original's "
        "answers are then computed only once.",
    )
    images: int | None = Field(
        default=None,
        ge=100,
        le=10_000_000,
        title="Training images",
        description="Learn from so many training images; all of them if unset.",
        json_schema_extra={"unit": "images"},
    )
    batchnorm: Literal["live", "frozen"] = Field(
        default="live",
        title="Batch-norm statistics",
        description="Follow the training batches, or stay as they are.",
    )
    dropout: Literal["kept", "none"] = Field(
        default="kept",
        title="Dropout",
        description="As the architecture has it, or none: a model with few weights left has little "
        "to spare.",
    )
    grid: Literal["fixed", "learned"] = Field(
        default="fixed",
        title="Quantization grid",
        description="Weights on a grid keep its scales, or learn them with the weights (LSQ).",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        title="Arithmetic",
        description="float32, or bfloat16 products with float32 weights: faster where the "
        "machine has it.",
    )

    @property
    def searches(self) -> bool:
        # Validation accuracy may end a training, and then chooses the model that is kept.
        return True

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.mixup and self.loss == "dkd":
            raise ValueError("mixup with another loss than dkd, which needs one right class")
        if self.initial == "fresh" and self.student is None:
            raise ValueError("initial fresh only with a student")
        if self.layers and self.loss not in BETWEEN_LAYERS:
            raise ValueError(f"layers only with loss {' or '.join(BETWEEN_LAYERS)}")
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether the original's answers or layers take part."""
        return self.alpha > 0 or self.loss in ("logits", *BETWEEN_LAYERS)

    @property
    def answers_only(self) -> bool:
        """Whether the teacher's logits are all that is asked of it."""
        return self.needs_teacher and self.loss not in BETWEEN_LAYERS

    def sentence(self) -> str:
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        if self.images is not None:
            count += f" of {self.images:,} images"
        verb = "teach" if self.student is None else f"teach {self.student}"
        if not self.needs_teacher:
            text = f"{'fine-tune' if self.student is None else 'train ' + self.student} for {count}"
        elif self.loss == "logits":
            text = f"{verb} for {count} by raw answers"
        else:
            text = f"{verb} for {count} at T = {self.temperature:.3g}"
            usual = Distill.model_fields["alpha"].default
            text += "" if self.alpha == usual else f", alpha {self.alpha:.3g}"
        return text + how(
            _MATCHED.get(self.loss) if self.needs_teacher else None,
            "from fresh weights" if self.initial == "fresh" else None,
            "learned grid" if self.grid == "learned" else None,
        )


_MATCHED = {
    "dkd": "decoupled",
    "attention": "attention matched",
    "features": "features matched",
}
