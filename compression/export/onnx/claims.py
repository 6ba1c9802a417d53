"""What a graph of unknown origin claims, held against the size of its file.

A few nodes can ask for gigabytes before any image is seen: a tensor of zeros of a given shape, one
value expanded to many, a sparse tensor of one value. Engines make these when they load the graph.
What a graph makes of the images it is given is bounded by nothing here: a graph is a program.
"""

from __future__ import annotations

import math

import onnx

from compression.errors import ArtifactError

# Codes become four times as many bytes; small constants (masks, positions) may be made of nothing.
_VALUES_PER_BYTE = 16
_FREE_VALUES = 1 << 22


def check_constants(graph: onnx.ModelProto, file_bytes: int) -> None:
    """Refuse a graph whose constants are out of all proportion to its file.

    Raises:
        ArtifactError: they have more values than the file can account for.
    """
    most = _FREE_VALUES + _VALUES_PER_BYTE * file_bytes
    values = sum(math.prod(t.dims) for t in graph.graph.sparse_initializer)
    if values <= most:
        values += _made_values(graph)
    if values > most:
        raise ArtifactError(
            f"the graph's constants expand to {values:,} values, too many for a file of "
            f"{file_bytes:,} bytes"
        )


def _made_values(graph: onnx.ModelProto) -> int:
    """Values of all tensors that nodes make without the images."""
    shapes = onnx.shape_inference.infer_shapes(graph, data_prop=True)
    sizes = {
        info.name: math.prod(d.dim_value or 1 for d in info.type.tensor_type.shape.dim)
        for info in shapes.graph.value_info
    }
    initializers = {tensor.name for tensor in graph.graph.initializer}
    from_images = {info.name for info in graph.graph.input} - initializers
    made = 0
    for node in graph.graph.node:
        if from_images & set(node.input):
            from_images |= set(node.output)
        else:
            made += sum(sizes.get(name, 0) for name in node.output)
    return made
