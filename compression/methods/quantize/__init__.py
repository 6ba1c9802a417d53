"""Quantization: grids for weights, and how their range is chosen."""
