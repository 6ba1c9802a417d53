"""Settings of quantization."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from compression.recipe.base import (
    REPAIR,
    REPAIRED,
    BaseStep,
    Repairs,
    how,
)


class Quantize(BaseStep):
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
    rest: Literal["float32", "float16"] = Field(
        default="float32",
        title="All other numbers",
        description="Biases, batch normalisation and scales: as they are, or in half the bytes.",
    )
    rate: float = Field(
        default=0.0,
        ge=0,
        le=10_000,
        title="Worth of a kilobyte",
        description="Above 0: in GPTQ's order, coarsely or to zero wherever that costs less loss "
        "per image than the kilobytes saved are worth.",
        json_schema_extra={"unit": "mnat/kB"},
    )
    keep_accuracy: float | None = Field(
        default=None,
        gt=0,
        le=1,
        title="Accuracy to keep",
        description="The smallest file, by the highest worth of a kilobyte, that keeps this share "
        "of the validation accuracy.",
        json_schema_extra={"unit": "fraction"},
    )
    margin: Literal["none", "interval"] = Field(
        default="none",
        title="Margin for chance",
        description="The accuracy to keep is kept as measured on the validation images, or at the "
        "worse end of the 95 % interval of its change.",
    )
    repair: Repairs = REPAIR

    @property
    def by_rate(self) -> bool:
        """Whether bits are paid for: each layer then has as many as they are worth."""
        return self.rate > 0 or self.keep_accuracy is not None

    @property
    def searches(self) -> bool:
        return self.keep_accuracy is not None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.average_bits is not None and self.average_bits > self.bits:
            raise ValueError("an average_bits of at most bits, the most that a layer may get")
        return self

    def sentence(self) -> str:
        if self.by_rate:
            return self._sentence_by_rate()
        text = f"store the weights in {self.average_bits or self.bits:.3g} bits"
        if self.average_bits is not None:
            text += " on average"
        if self.activation_bits is not None:
            text += f", activations in {self.activation_bits}"
        edges = self.edge_bits is not None and f"first and last layer in {self.edge_bits}"
        return text + how(
            _ROUNDED.get(self.rounding),
            edges or None,
            "equalized" if self.equalization != "none" else None,
            "other numbers in 16" if self.rest == "float16" else None,
            *(REPAIRED[r] for r in self.repair),
        )

    def _sentence_by_rate(self) -> str:
        if self.keep_accuracy is not None:
            goal = f"as keep {100 * self.keep_accuracy:.4g} % of the accuracy"
            if self.margin == "interval":
                goal += " by the worse end of its interval"
        else:
            goal = f"as {self.rate:.3g} mnat per kB makes worth while"
        text = f"store the weights in as few bits {goal}"
        if self.activation_bits is not None:
            text += f", activations in {self.activation_bits}"
        return text + how(
            "rate-aware GPTQ",
            "equalized" if self.equalization != "none" else None,
            "other numbers in 16" if self.rest == "float16" else None,
        )


_ROUNDED = {"gptq": "GPTQ", "reconstruct": "reconstructed"}
