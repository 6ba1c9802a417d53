"""Distillation: the compressed model is trained to match the original (Hinton et al., 2015)."""
