"""Settings of quantization."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from compression.recipe.base import REPAIR, BaseStep, Repairs, in_brackets, plain
from compression.recipe.fields import Choice, Inactive, Shown, Values, setting


def _rate_distortion(values: Values) -> bool:
    return bool(values["rd_lambda"]) or values["keep_accuracy"] is not None


_SET_BY_LAMBDA = Inactive(
    _rate_distortion, "Rate-distortion quantization decides how every layer is rounded."
)
_ACTIVATIONS: dict[str, Any] = {
    "by_preset": True,
    "inactive": (
        Inactive(lambda values: values["activation_bits"] is None, "Activations stay float32."),
    ),
}


class Quantize(BaseStep):
    """Round the weights to a grid of 2**bits values per scale (Jacob et al., 2018)."""

    step: Literal["quantize"] = "quantize"
    bits: int = setting(
        8,
        ge=2,
        le=8,
        title="Bit width",
        help="Bits per weight; with mixed precision, the most that a layer may get.",
        unit="bits",
        shown=Shown(main=True),
    )
    scheme: Literal["symmetric", "affine"] = setting(
        "symmetric",
        title="Quantization scheme",
        help="Where the grid's zero is.",
        by_preset=True,
        choices={
            "symmetric": Choice("Symmetric", "the grid is symmetric about zero"),
            "affine": Choice("Affine (asymmetric)", "the grid is shifted by a zero point"),
        },
        inactive=(_SET_BY_LAMBDA,),
        shown=Shown(row=10),
    )
    granularity: Literal["channel", "tensor"] = setting(
        "channel",
        title="Weight granularity",
        help="How many weights share a scale.",
        by_preset=True,
        choices={
            "channel": Choice("Per output channel", "one scale per output channel"),
            "tensor": Choice("Per tensor", "one scale for the whole weight tensor"),
        },
        inactive=(_SET_BY_LAMBDA,),
        shown=Shown(row=11),
    )
    clipping: Literal["mse", "minmax", "percentile"] = setting(
        "mse",
        title="Weight range",
        help="The range of weights that the grid covers.",
        by_preset=True,
        choices={
            "mse": Choice("Minimum MSE", "the range with the least mean squared error"),
            "minmax": Choice("Min-max", "from the smallest weight to the largest"),
            "percentile": Choice("99.9th percentile", "the outermost 0.1 % are clipped"),
        },
        inactive=(_SET_BY_LAMBDA,),
        shown=Shown(row=9),
    )
    rounding: Literal["nearest", "gptq", "reconstruct"] = setting(
        "nearest",
        title="Rounding",
        help="How weights are rounded to the grid.",
        by_preset=True,
        choices={
            "nearest": Choice("Round to nearest", "each weight to the nearest value"),
            "gptq": Choice(
                "GPTQ",
                "weight after weight, the later ones compensating for the error of the earlier",
                "GPTQ",
                needs_images=True,
            ),
            "reconstruct": Choice(
                "GPTQ, then block reconstruction",
                "GPTQ, then the weights are tuned until each block's output is closest to the "
                "original's",
                "block reconstruction",
                needs_images=True,
            ),
        },
        inactive=(_SET_BY_LAMBDA,),
        shown=Shown(row=4),
    )
    edge_bits: int | None = setting(
        None,
        ge=2,
        le=8,
        title="First and last layer bits",
        help="Bits per weight of the first and the last layer, if not those of the others.",
        unit="bits",
        inactive=(_SET_BY_LAMBDA,),
        shown=Shown(row=8, unset="Same as the others", offered=(8,)),
    )
    average_bits: float | None = setting(
        None,
        ge=2,
        le=8,
        title="Average bits",
        help="Mixed precision: each layer gets bits by its sensitivity, this many per weight on "
        "average.",
        unit="bits",
        needs_images=True,
        inactive=(_SET_BY_LAMBDA,),
        shown=Shown(row=6, increment=0.25),
    )
    sensitivity: Literal["fisher", "direct"] = setting(
        "fisher",
        title="Sensitivity estimate",
        help="How the loss of accuracy per layer is estimated for mixed precision.",
        by_preset=True,
        choices={
            "fisher": Choice("Fisher (gradients)", "from gradients"),
            "direct": Choice("Direct", "by quantizing one layer at a time and measuring"),
        },
        inactive=(
            _SET_BY_LAMBDA,
            Inactive(
                lambda values: values["average_bits"] is None, "Every layer gets the same bits."
            ),
        ),
        shown=Shown(row=7),
    )
    activation_bits: int | None = setting(
        None,
        ge=4,
        le=8,
        title="Activation bits",
        help="Bits of each layer's input; unset keeps float32.",
        unit="bits",
        needs_images=True,
        shown=Shown(row=14, unset="Not quantized (float32)", offered=(8, 7, 6, 5, 4)),
    )
    activation_clipping: Literal["mse", "minmax", "percentile", "kl"] = setting(
        "mse",
        title="Activation range",
        help="The range of activations that the grid covers.",
        choices={
            "mse": Choice("Minimum MSE", "the range with the least mean squared error"),
            "minmax": Choice("Min-max", "from the smallest value to the largest"),
            "percentile": Choice("99.9th percentile", "the outermost 0.1 % are clipped"),
            "kl": Choice("KL divergence", "the range whose histogram diverges least"),
        },
        shown=Shown(row=15),
        **_ACTIVATIONS,
    )
    activation_granularity: Literal["tensor", "channel"] = setting(
        "tensor",
        title="Activation granularity",
        help="How many activations share a scale.",
        choices={
            "tensor": Choice("Per tensor", "one scale for the whole input"),
            "channel": Choice("Per channel", "one per channel in depthwise convolutions"),
        },
        shown=Shown(row=16),
        **_ACTIVATIONS,
    )
    equalization: Literal["none", "cross-layer"] = setting(
        "none",
        title="Equalization",
        help="Whether weight ranges are equalized before rounding.",
        by_preset=True,
        choices={
            "none": Choice("Off", "they stay as they are"),
            "cross-layer": Choice(
                "Cross-layer",
                "the ranges of consecutive layers' channels are equalized",
                "equalized",
            ),
        },
        shown=Shown(row=12),
    )
    other_dtype: Literal["float32", "float16"] = setting(
        "float32",
        stored="rest",
        title="Dtype of the other tensors",
        help="Dtype of biases, batch-norm tensors and scales in the file.",
        choices={
            "float32": Choice("32 bits (float32)", "as they are"),
            "float16": Choice("16 bits (float16)", "half the bytes", "other tensors in float16"),
        },
        shown=Shown(row=13),
    )
    rd_lambda: float = setting(
        0.0,
        stored="rate",
        ge=0,
        le=10_000,
        title="Rate-distortion lambda",
        help="Above 0: weights are quantized in GPTQ's order, more coarsely or to zero wherever "
        "the bytes saved, times lambda, outweigh the loss added per image.",
        unit="mnat/kB",
        needs_images=True,
        inactive=(
            Inactive(
                lambda values: values["keep_accuracy"] is not None,
                "The accuracy to keep decides lambda.",
            ),
        ),
        shown=Shown(row=3, increment=0.5),
    )
    keep_accuracy: float | None = setting(
        None,
        gt=0,
        le=1,
        title="Accuracy to keep",
        help="The smallest file, by the largest rate-distortion lambda, that keeps this fraction "
        "of the validation accuracy.",
        unit="fraction",
        needs_images=True,
        shown=Shown(row=1, unset="Not set", increment=0.005, low=0.001),
    )
    margin: Literal["none", "interval"] = setting(
        "none",
        title="Margin",
        help="Which validation accuracy must be kept.",
        choices={
            "none": Choice("None: as measured", "the accuracy as measured"),
            "interval": Choice(
                "Confidence bound", "the lower bound of the 95 % interval of its change"
            ),
        },
        inactive=(
            Inactive(
                lambda values: values["keep_accuracy"] is None, "There is no accuracy to keep."
            ),
        ),
        shown=Shown(row=2),
    )
    repair: Repairs = setting((), **REPAIR, inactive=(_SET_BY_LAMBDA,), shown=Shown(row=5))

    @property
    def rate_distortion(self) -> bool:
        """Whether rate-distortion quantization decides how many bits each layer takes."""
        return self.rd_lambda > 0 or self.keep_accuracy is not None

    @property
    def searches(self) -> bool:
        return self.keep_accuracy is not None

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.average_bits is not None and self.average_bits > self.bits:
            raise ValueError("an average_bits of at most bits, the most that a layer may get")
        return self

    def sentence(self) -> str:
        if self.rate_distortion:
            text = f"store the weights in as few bits {self._goal()}"
        else:
            text = f"store the weights in {self.average_bits or self.bits:.3g} bits"
            if self.average_bits is not None:
                text += " on average"
        if self.activation_bits is not None:
            text += f", activations in {self.activation_bits}"
        if self.rate_distortion:
            how = ["rate-distortion GPTQ", *self.remarks("equalization", "other_dtype")]
            return text + in_brackets(how)
        how = self.remarks("rounding")
        if self.edge_bits is not None:
            how.append(f"first and last layer in {self.edge_bits}")
        return text + in_brackets([*how, *self.remarks("equalization", "other_dtype", "repair")])

    def _goal(self) -> str:
        if self.keep_accuracy is None:
            return f"as a lambda of {self.rd_lambda:.3g} mnat/kB allows"
        text = f"as keep {100 * self.keep_accuracy:.4g} % of the accuracy"
        return text + (" with 95 % confidence" if self.margin == "interval" else "")

    def headline(self) -> str:
        uniform = not self.rate_distortion and self.average_bits is None
        if uniform and self.activation_bits is not None:
            parts = [f"W{self.bits} A{self.activation_bits}"]
        elif uniform:
            parts = [f"{self.bits} bit"]
        else:
            parts = self._mixed()
        if self.edge_bits is not None and not self.rate_distortion:
            parts.append(f"ends {self.edge_bits}")
        return ", ".join(parts)

    def _mixed(self) -> list[str]:
        """The headline of bits that differ by layer, in parts."""
        if self.keep_accuracy is not None:
            goal = f"keeps {plain(self.keep_accuracy, 2)} %"
        elif self.rate_distortion:
            goal = f"λ {plain(self.rd_lambda)}"
        else:
            goal = f"~{plain(self.average_bits or self.bits)} bit"
        capped = self.bits != type(self).model_fields["bits"].default
        most = [f"≤ {self.bits} bit"] if capped else []
        return [goal, *most, *([f"A{self.activation_bits}"] if self.activation_bits else [])]
