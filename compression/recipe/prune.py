"""Settings of pruning."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from compression.recipe.base import REPAIR, BaseStep, Repairs, in_brackets, plain
from compression.recipe.fields import Choice, Inactive, Shown, Values, setting, with_trait


def _by_threshold(values: Values) -> bool:
    return values["threshold"] is not None


def _fixed(values: Values) -> bool:
    return ":" in str(values["pattern"])


_SET_BY_PATTERN = Inactive(_fixed, "The pattern itself fixes the sparsity of every layer.")
_SET_BY_THRESHOLD = Inactive(
    _by_threshold, "A threshold compares the magnitude of single weights, alike in every layer."
)
_SCORES = {
    "magnitude": Choice("Magnitude, |w|", "|w|", traits=("channels",)),
    "activation": Choice("Weight times input, |w x|", "|w x|", "|w x|", needs_images=True),
    "taylor": Choice(
        "First-order Taylor, |w g|", "|w g|", "|w g|", needs_images=True, traits=("channels",)
    ),
    "fisher": Choice("Fisher, (w g)²", "(w g)²", "Fisher", needs_images=True),
    "obs": Choice(
        "Optimal brain surgeon (OBS)",
        "the increase in loss once the remaining weights have adjusted",
        "OBS",
        needs_images=True,
    ),
    "batchnorm": Choice(
        "Batch-norm scale",
        "the batch-norm scale of its channel",
        "batch-norm scale",
        traits=("channels",),
    ),
    "random": Choice(
        "Random (control)", "nothing, as a control", "random score", traits=("channels",)
    ),
}
CHANNEL_SCORES = with_trait(_SCORES, "channels")


class Prune(BaseStep):
    """Set the least important weights to zero, or remove whole channels."""

    step: Literal["prune"] = "prune"
    threshold: float | None = setting(
        None,
        ge=0,
        title="Magnitude threshold",
        help="Weights of smaller magnitude are set to zero.",
        unit="|w|",
        inactive=(_SET_BY_PATTERN,),
        shown=Shown(main=True, short="Threshold"),
    )
    sparsity: float | None = setting(
        None,
        ge=0,
        le=1,
        title="Sparsity",
        help="Fraction of the weights set to zero, least important first.",
        unit="fraction",
        inactive=(_SET_BY_PATTERN,),
        shown=Shown(main=True, short="Sparsity", increment=0.005),
    )
    max_drop: float | None = setting(
        None,
        ge=0,
        le=100,
        title="Largest accuracy drop",
        help="Prune as much as possible while validation accuracy drops by no more than this.",
        unit="points",
        needs_images=True,
        inactive=(_SET_BY_PATTERN,),
        shown=Shown(main=True, short="Largest drop", increment=0.1, high=5.0),
    )
    scope: Literal["global", "layer", "allocated"] = setting(
        "global",
        title="Sparsity allocation",
        help="How sparsity is spread over the layers.",
        by_preset=True,
        choices={
            "global": Choice("Global ranking", "one ranking of all weights of the network"),
            "layer": Choice("Uniform", "the same sparsity in every layer"),
            "allocated": Choice(
                "By layer sensitivity",
                "more where a layer's measured sensitivity is low",
                needs_images=True,
            ),
        },
        inactive=(_SET_BY_PATTERN, _SET_BY_THRESHOLD),
        shown=Shown(row=4),
    )
    score: Literal["magnitude", "activation", "taylor", "fisher", "obs", "batchnorm", "random"] = (
        setting(
            "magnitude",
            title="Importance score",
            help="What ranks the weights.",
            flag="prune-score",
            by_preset=True,
            choices=_SCORES,
            inactive=(_SET_BY_THRESHOLD,),
            shown=Shown(row=3),
        )
    )
    pattern: Literal["unstructured", "2:4", "4:8", "channels"] = setting(
        "unstructured",
        title="Sparsity pattern",
        help="Which weights are removed together.",
        flag="prune-pattern",
        choices={
            "unstructured": Choice("Unstructured", "single weights"),
            "2:4": Choice("2:4 semi-structured", "2 of every 4 weights in a row"),
            "4:8": Choice("4:8 semi-structured", "4 of every 8 weights in a row"),
            "channels": Choice(
                "Channels (structured)", "whole channels, which makes the model itself smaller"
            ),
        },
        inactive=(_SET_BY_THRESHOLD,),
        shown=Shown(row=1),
    )
    round_to: int = setting(
        8,
        ge=1,
        le=64,
        title="Channels a multiple of",
        help="The number of channels kept in a layer is a multiple of this.",
        unit="channels",
        inactive=(
            Inactive(
                lambda values: values["pattern"] != "channels",
                "Only the removal of whole channels rounds to multiples.",
            ),
        ),
        shown=Shown(row=2),
    )
    update: Literal["none", "obs"] = setting(
        "none",
        title="Weight update",
        help="Whether the remaining weights compensate for the pruned ones.",
        by_preset=True,
        choices={
            "none": Choice("Off", "they keep their values"),
            "obs": Choice(
                "OBS update",
                "they adjust so that each layer's output changes least",
                "compensated",
                needs_images=True,
            ),
        },
        shown=Shown(row=5),
    )
    repair: Repairs = setting((), **REPAIR, shown=Shown(row=6))

    @property
    def fixed_pattern(self) -> bool:
        """Whether the pattern itself fixes the sparsity."""
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
    def _compatible(self) -> Self:
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
        return self._amount() + in_brackets(self.remarks("score", "update", "repair"))

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
            return f"{verb} as many {what} as an accuracy drop of {points} allows"
        which = "smallest" if self.score == "magnitude" else "least important"
        share = f"the {which} {100 * (self.sparsity or 0):.3g} %"
        where = {"global": "", "layer": " of every layer", "allocated": ", where it costs least"}
        return f"{verb} {share} of {what}{where[self.scope]}"

    def headline(self) -> str:
        channels = self.pattern == "channels"
        if self.threshold is not None:
            return f"threshold {plain(self.threshold)}"
        if self.fixed_pattern:
            return self.pattern
        if self.max_drop is not None:
            points = "1 point" if self.max_drop == 1 else f"{plain(self.max_drop)} points"
            return f"≤ {points}" + (", channels" if channels else "")
        if channels and self.sparsity == 0.5:
            return "Half the channels"
        return f"{plain(self.sparsity or 0, 2)} %" + (" of channels" if channels else "")
