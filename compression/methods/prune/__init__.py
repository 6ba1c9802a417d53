"""Pruning: scores of weights and channels, masks, and the removal of whole channels."""
