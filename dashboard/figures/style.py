"""What figures share: colours and marks."""

from __future__ import annotations

# Readable on white and on near-black, and ordered for every common form of colour blindness.
SCALE = ((0.0, "#2b7bba"), (0.5, "#7fa3a8"), (1.0, "#e69f00"))


STAR, FRONT, RING = "#d55e00", "#7d8894", "#d55e00"
