"""Settings of pruning."""

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


class Prune(BaseStep):
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
    repair: Repairs = REPAIR

    @property
    def fixed_pattern(self) -> bool:
        """Whether the pattern itself says how many weights go."""
        return ":" in self.pattern

    @property
    def searches(self) -> bool:
        return self.max_drop is not None

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
        return self._amount() + how(
            _SCORED.get(self.score),
            "compensated" if self.update == "obs" else None,
            *(REPAIRED[r] for r in self.repair),
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
