"""The steps a recipe is made of: their settings, ranges, units and help. Nothing runs here.

A default is never changed and a new field has a default, so that the key of an old recipe stays.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sentence(self) -> str:
        """What this step does, as a clause in plain words."""
        raise NotImplementedError


def _chosen(value: Any) -> Any:
    """Several choices given as text (`a,b` or `none`), as a list without doubles, in one order."""
    if isinstance(value, str):
        value = [] if value.strip() in ("", "none") else [v.strip() for v in value.split(",")]
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(sorted(set(value)))
    return value


Repairs = Annotated[tuple[Literal["batchnorm", "bias"], ...], BeforeValidator(_chosen)]
_REPAIR = Field(
    default=(),
    title="Repair",
    description="batchnorm: estimate the statistics of batch normalisation again; "
    "bias: take each layer's mean output error off its bias.",
)
_REPAIRED = {"batchnorm": "repaired", "bias": "biases corrected"}


def _how(*words: str | None) -> str:
    """Words on how a step works, in brackets; nothing if there are none."""
    said = [word for word in words if word]
    return f" ({', '.join(said)})" if said else ""


class Prune(_Step):
    """Set the weights that matter least to zero, or remove whole channels."""

    step: Literal["prune"] = "prune"
    threshold: float | None = Field(
        default=None,
        ge=0,
        title="Pruning threshold",
        description="Weights smaller than this in magnitude become zero.",
        json_schema_extra={"unit": "|w|"},
    )
    sparsity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Sparsity",
        description="Fraction of the weights to set to zero, least important first.",
        json_schema_extra={"unit": "fraction"},
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        le=100,
        title="Largest drop of accuracy",
        description="Zero as many weights as validation accuracy allows to lose this much.",
        json_schema_extra={"unit": "points"},
    )
    scope: Literal["global", "layer", "allocated"] = Field(
        default="global",
        title="Sparsity counted over",
        description="One ranking over the whole network, the same sparsity in every layer, or "
        "more where a layer's measured sensitivity is low.",
    )
    score: Literal["magnitude", "activation", "taylor", "fisher", "obs", "batchnorm", "random"] = (
        Field(
            default="magnitude",
            title="Importance score",
            description="What a weight is worth: |w|; |w x|; |w g|; (w g)²; the loss when the "
            "others adjust (OBS); its channel's batch-norm scale; or nothing, as a control.",
            json_schema_extra={"flag": "prune-score"},
        )
    )
    pattern: Literal["unstructured", "2:4", "4:8", "channels"] = Field(
        default="unstructured",
        title="Pattern",
        description="Single weights, 2 of every 4 or 4 of every 8 in a row, or whole channels, "
        "which makes the model really smaller.",
        json_schema_extra={"flag": "prune-pattern"},
    )
    round_to: int = Field(
        default=8,
        ge=1,
        le=64,
        title="Channels a multiple of",
        description="Channels are removed so that multiples of this stay.",
        json_schema_extra={"unit": "channels"},
    )
    update: Literal["none", "obs"] = Field(
        default="none",
        title="Compensation",
        description="obs: the weights that stay adjust so that each layer's output changes least.",
    )
    repair: Repairs = _REPAIR

    @property
    def fixed_pattern(self) -> bool:
        """Whether the pattern itself says how many weights go."""
        return ":" in self.pattern

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        amounts = sum(v is not None for v in (self.threshold, self.sparsity, self.max_drop))
        if self.fixed_pattern and amounts:
            raise ValueError(f"no threshold, sparsity or max_drop: {self.pattern} says how many go")
        if not self.fixed_pattern and amounts != 1:
            raise ValueError("exactly one of threshold, sparsity and max_drop")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.threshold is not None:
            if self.score != "magnitude":
                raise ValueError("a threshold only with score magnitude; else sparsity")
            if self.pattern != "unstructured":
                raise ValueError("a threshold only with pattern unstructured; else sparsity")
        if self.pattern == "channels":
            if self.score not in CHANNEL_SCORES:
                raise ValueError(f"pattern channels with score {', '.join(CHANNEL_SCORES)}")
            if self.scope == "allocated":
                raise ValueError("pattern channels with scope global or layer")
        elif self.score == "batchnorm":
            raise ValueError("score batchnorm only with pattern channels")
        return self

    def sentence(self) -> str:
        return self._amount() + _how(
            _SCORED.get(self.score),
            "compensated" if self.update == "obs" else None,
            *(_REPAIRED[r] for r in self.repair),
        )

    def _amount(self) -> str:
        if self.threshold is not None:
            return f"zero every weight smaller than {self.threshold:.3g}"
        if self.fixed_pattern:
            keep, group = self.pattern.split(":")
            return f"keep {keep} of every {group} weights"
        what = "channels" if self.pattern == "channels" else "weights"
        verb = "remove" if self.pattern == "channels" else "zero"
        if self.max_drop is not None:
            points = "1 point" if self.max_drop == 1 else f"{self.max_drop:.3g} points"
            return f"{verb} as many {what} as a loss of {points} allows"
        which = "smallest" if self.score == "magnitude" else "least important"
        share = f"the {which} {100 * (self.sparsity or 0):.3g} %"
        where = {"global": "", "layer": " of every layer", "allocated": ", where it costs least"}
        return f"{verb} {share} of {what}{where[self.scope]}"


CHANNEL_SCORES = ("magnitude", "taylor", "batchnorm", "random")
_SCORED = {
    "activation": "|w x|",
    "taylor": "|w g|",
    "fisher": "Fisher",
    "obs": "OBS",
    "batchnorm": "batch-norm scale",
    "random": "random score",
}


class Quantize(_Step):
    """Round the weights to a grid of 2**bits values per scale (Jacob et al., 2018)."""

    step: Literal["quantize"] = "quantize"
    bits: int = Field(
        default=8,
        ge=2,
        le=8,
        title="Bit width",
        description="Bits per weight; with an average, the most that a layer may get.",
        json_schema_extra={"unit": "bits"},
    )
    scheme: Literal["symmetric", "affine"] = Field(
        default="symmetric",
        title="Grid",
        description="Symmetric about zero, or affine with a zero point of its own.",
    )
    granularity: Literal["channel", "tensor"] = Field(
        default="channel",
        title="One scale per",
        description="A scale for every output channel, or one for the whole tensor.",
    )
    clipping: Literal["mse", "minmax", "percentile"] = Field(
        default="mse",
        title="Weight range",
        description="The range with the least squared error, from smallest to largest weight, or "
        "without the outermost 0.1 %.",
    )
    rounding: Literal["nearest", "gptq", "reconstruct"] = Field(
        default="nearest",
        title="Rounding",
        description="To the nearest; one after the other, the later weights making up for the "
        "earlier (gptq); or that, then tuned until each block answers as before (reconstruct).",
    )
    edge_bits: int | None = Field(
        default=None,
        ge=2,
        le=8,
        title="Bits of first and last layer",
        description="Bits per weight of the first and the last layer, if not as the others.",
        json_schema_extra={"unit": "bits"},
    )
    average_bits: float | None = Field(
        default=None,
        ge=2,
        le=8,
        title="Average bits",
        description="Give each layer the bits it needs, so that a weight has this many on average.",
        json_schema_extra={"unit": "bits"},
    )
    sensitivity: Literal["fisher", "direct"] = Field(
        default="fisher",
        title="Sensitivity measured by",
        description="What bits cost in a layer: estimated from gradients, or by trying it.",
    )
    activation_bits: int | None = Field(
        default=None,
        ge=4,
        le=8,
        title="Activation bits",
        description="Bits of each layer's input; unset leaves it float32.",
        json_schema_extra={"unit": "bits"},
    )
    activation_clipping: Literal["mse", "minmax", "percentile", "kl"] = Field(
        default="mse",
        title="Activation range",
        description="As for weights, or the range whose histogram diverges least (kl).",
    )
    activation_granularity: Literal["tensor", "channel"] = Field(
        default="tensor",
        title="One activation scale per",
        description="One for the whole input, or one per channel in depthwise convolutions.",
    )
    equalization: Literal["none", "cross-layer"] = Field(
        default="none",
        title="Equalization",
        description="Even out the ranges of consecutive layers' channels before rounding.",
    )
    repair: Repairs = _REPAIR

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.average_bits is not None and self.average_bits > self.bits:
            raise ValueError("an average_bits of at most bits, the most that a layer may get")
        return self

    def sentence(self) -> str:
        text = f"store the weights in {self.average_bits or self.bits:.3g} bits"
        if self.average_bits is not None:
            text += " on average"
        if self.activation_bits is not None:
            text += f", activations in {self.activation_bits}"
        edges = self.edge_bits is not None and f"first and last layer in {self.edge_bits}"
        return text + _how(
            _ROUNDED.get(self.rounding),
            edges or None,
            "equalized" if self.equalization != "none" else None,
            *(_REPAIRED[r] for r in self.repair),
        )


_ROUNDED = {"gptq": "GPTQ", "reconstruct": "reconstructed"}


class Distill(_Step):
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
        description="Largest step size; falls to zero along a cosine.",
    )

    def sentence(self) -> str:
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"teach for {count} at T = {self.temperature:.3g}"


Step = Annotated[Prune | Quantize | Distill, Field(discriminator="step")]
STEPS: dict[str, type[_Step]] = {"prune": Prune, "quantize": Quantize, "distill": Distill}
