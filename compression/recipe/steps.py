"""The steps a recipe is made of: their settings, ranges, units and help. Nothing runs here.

A default is never changed and a new field has a default, so that the key of an old recipe stays.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compression.recipe.base import BaseStep
from compression.recipe.distill import Distill
from compression.recipe.prune import Prune
from compression.recipe.quantize import Quantize

Step = Annotated[Prune | Quantize | Distill, Field(discriminator="step")]
STEPS: dict[str, type[BaseStep]] = {"prune": Prune, "quantize": Quantize, "distill": Distill}

__all__ = ["STEPS", "BaseStep", "Distill", "Prune", "Quantize", "Step"]
