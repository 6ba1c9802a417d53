"""Data sets: labelled inputs as tensors, their splits, and how a model is given them."""
