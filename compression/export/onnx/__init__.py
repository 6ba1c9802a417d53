"""ONNX graphs: float32, and int8 as QuantizeLinear / DequantizeLinear pairs."""
