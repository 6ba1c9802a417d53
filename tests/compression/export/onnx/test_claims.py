"""A small graph cannot ask for gigabytes before it has seen an image."""

import resource

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.errors import ArtifactError
from compression.export.handlers import open_data
from compression.export.onnx.claims import check_constants
from compression.export.onnx.float_graph import float_graph
from compression.export.onnx.int8_graph import int8_graph
from tests.compression.tiny import images, net

SHAPE = (3, 8, 8)


def _graph(values: int, kind: str) -> onnx.ModelProto:
    """Adds to ten logits the sums of so many values for each, made by one node or two."""
    constants = {
        "w": np.zeros((3, 10), np.float32),
        "axis": np.array([1]),
        "shape": np.array([10, values]),
        "root": np.array([int(values**0.5)]),
        "ten": np.array([10]),
        "one": np.zeros((1, 1), np.float32),
    }
    sparse = []
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["products"]),
    ]
    if kind == "zeros":
        nodes.append(helper.make_node("ConstantOfShape", ["shape"], ["many"]))
    elif kind == "expanded":
        nodes.append(helper.make_node("Expand", ["one", "shape"], ["many"]))
    elif kind == "computed":
        nodes.append(helper.make_node("Mul", ["root", "root"], ["columns"]))
        nodes.append(helper.make_node("Concat", ["ten", "columns"], ["both"], axis=0))
        nodes.append(helper.make_node("ConstantOfShape", ["both"], ["many"]))
    else:
        value = helper.make_tensor("many", TensorProto.FLOAT, [1], [1.0])
        place = helper.make_tensor("place", TensorProto.INT64, [1], [0])
        sparse.append(helper.make_sparse_tensor(value, place, [10, values]))
    nodes.append(helper.make_node("ReduceSum", ["many", "axis"], ["sums"], keepdims=0))
    nodes.append(helper.make_node("Add", ["products", "sums"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        sparse_initializer=sparse,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("kind", ["zeros", "expanded", "computed", "sparse"])
def test_values_made_of_nothing_are_refused_before_they_are_made(kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ArtifactError,
        match=r"the graph's constants expand to [0-9,]+ values, too many for a file of",
    ):
        open_data(_graph(1 << 24, kind).SerializeToString(), SHAPE, trusted=False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    assert open_data(_graph(1 << 10, kind).SerializeToString(), SHAPE, trusted=False)


@pytest.mark.slow
def test_graphs_that_are_written_here_pass() -> None:
    model = net("convolutional")
    graphs = [
        float_graph(model, "convolutional", images()[:1]),
        int8_graph(model, "convolutional", images()[:1], images()[:8]).graph,
    ]
    for graph in graphs:
        check_constants(graph, graph.ByteSize())
