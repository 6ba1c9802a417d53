"""Backends by id."""

from __future__ import annotations

EAGER, COMPILE, ONNX, INT8 = "eager", "compile", "onnx", "onnx-int8"
