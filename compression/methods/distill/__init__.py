"""Distillation: the compressed model learns to answer like the original."""
