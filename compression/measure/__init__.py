"""Measuring: accuracy, size and latency, of the original and the compressed model."""
