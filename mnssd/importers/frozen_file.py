"""The nodes of a frozen graph of TensorFlow (``.pb``), or of a SavedModel of TensorFlow 1.

Both are protobuf messages. Only the fields that are needed are in the schema here; others are skipped.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from ..errors import ImportedFileError
from .graph import MOST_VALUES
from .protobuf import make_messages, parse, read_bytes
from .refusal import refusing
from .tensor_bundle import read_bundle

LARGEST = 1 << 30
"""Bytes; the files of MobileNets have up to 70 MB."""

KIND = "a graph of TensorFlow"

MOST_NODES = 50_000
"""More come from a damaged file: an SSD of 91 classes has 7,000, most of them of its post-processing."""

SAVED_MODEL = b"\x08\x01\x12"
"""First bytes of a SavedModel: its version, and the graph."""

# Names and numbers of graph.proto, node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto,
# meta_graph.proto and saved_model.proto at github.com/tensorflow/tensorflow; `*`: repeated.
MESSAGES = {
    "Graph": "node*:Node=1",
    "Node": "name:string=1 op:string=2 input*:string=3 attr*:Attr=5",
    "Attr": "key:string=1 value:Value=2",
    "Value": "list:List=1 s:bytes=2 i:int64=3 f:float=4 b:bool=5 type:int32=6 shape:Shape=7 tensor:Tensor=8",
    "List": "i*:int64=3",
    "Shape": "dim*:Dim=2 unknown_rank:bool=3",
    "Dim": "size:int64=1",
    "Tensor": "dtype:int32=1 shape:Shape=2 content:bytes=4 float_val*:float=5 double_val*:double=6"
    " int_val*:int32=7 int64_val*:int64=10 bool_val*:bool=11 half_val*:int32=13",
    "Saved": "meta*:Meta=2",
    "Meta": "graph:Graph=2",
}

FLOAT, UINT8 = 1, 4
"""Values of ``DataType``."""

VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
"""Operators of weights that are in other files."""

DTYPES = {
    FLOAT: ("<f4", "float_val"), 2: ("<f8", "double_val"), 3: ("<i4", "int_val"), UINT8: ("u1", "int_val"),
    6: ("i1", "int_val"), 9: ("<i8", "int64_val"), 10: ("?", "bool_val"), 19: ("<f2", "half_val"),
}  # fmt: skip
"""NumPy's types and the fields of values by ``DataType``."""


@lru_cache(maxsize=None)
def _messages() -> Dict[str, Any]:
    """The classes of `MESSAGES`."""
    return make_messages("mnssd_tensorflow", "TensorFlow's graphs", MESSAGES, {})


def graph_bytes(path: str) -> bytes:
    """The serialized graph in a file; variables of a SavedModel are constants in it."""
    data = read_bytes(path, LARGEST)
    if not data.startswith(SAVED_MODEL):
        return data
    saved = parse(_messages()["Saved"](), data, KIND)
    if not len(saved.meta):
        return b""
    graph = saved.meta[0].graph
    prefix = Path(path).parent / "variables" / "variables"
    if any(node.op in VARIABLES for node in graph.node) and Path(f"{prefix}.index").exists():
        _freeze(graph, prefix)
    return bytes(graph.SerializeToString())


def _freeze(graph: Any, prefix: Path) -> None:
    """Make constants of the variables whose values are in the files of `prefix`."""
    variables = read_bundle(prefix)
    frozen: Dict[str, int] = {}
    for node in graph.node:
        shared = [attr.value.s.decode() for attr in node.attr if attr.key == "shared_name"]
        variable = variables.get((shared and shared[0]) or node.name)
        if node.op in VARIABLES and variable:
            tensor = _messages()["Tensor"](dtype=variable.dtype, content=variable.content)
            for side in variable.shape:
                tensor.shape.dim.add(size=side)
            frozen[node.name] = variable.dtype
            _replace(node, "Const", dtype={"type": variable.dtype}, value={"tensor": tensor})
            del node.input[:]
    for node in graph.node:
        if node.op == "ReadVariableOp" and node.input[0] in frozen:
            _replace(node, "Identity", T={"type": frozen[node.input[0]]})


def _replace(node: Any, op: str, **attrs: Dict[str, Any]) -> None:
    """Make another operator of a node."""
    node.op = op
    del node.attr[:]
    for key, value in attrs.items():
        node.attr.add(key=key, value=_messages()["Value"](**value))


class Node(NamedTuple):
    """An operator; `inputs` are names of tensors: ``NODE`` for its first output, ``NODE:1`` for another."""

    name: str
    op: str
    inputs: Tuple[str, ...]
    attrs: Dict[str, Any]

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"

    def number(self, name: str, default: int = 0) -> int:
        """An attribute that is an integer."""
        return int(self.attrs[name].i) if name in self.attrs else default

    def numbers(self, name: str) -> List[int]:
        """An attribute that is a list of integers."""
        return [int(value) for value in self.attrs[name].list.i] if name in self.attrs else []

    def text(self, name: str, default: str) -> str:
        """An attribute that is a string."""
        return self.attrs[name].s.decode() if name in self.attrs else default


class FrozenGraph:
    """Nodes by name.

    Raises
    ------
    ImportedFileError
        If a file is damaged, or weights are neither in it nor in ``variables/`` beside it.
    OptionError
        If protobuf is not installed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with refusing(path, "the graph"):
            nodes = list(parse(_messages()["Graph"](), graph_bytes(path), KIND).node)
            if not 0 < len(nodes) <= MOST_NODES:
                raise ImportedFileError(f"{len(nodes)} nodes; damaged or another kind of file")
            self.nodes = {node.name: _node(node) for node in nodes}
            if len(self.nodes) != len(nodes):
                raise ImportedFileError("two nodes of the same name")
            stored = [node for node in self.nodes.values() if node.op in VARIABLES]
            if stored:
                raise ImportedFileError(
                    f"{stored[0]}: its value is not in this file, nor in variables/ beside a saved_model.pb"
                    " of TensorFlow 1; freeze the graph by TensorFlow's freeze_graph, or"
                    " export_inference_graph.py of the Object Detection API, or convert it to .tflite"
                )

    def producer(self, tensor: str) -> Node:
        """The node that makes a tensor; ImportedFileError if there is none."""
        name = tensor.split(":")[0]
        if name not in self.nodes:
            raise ImportedFileError(f"node {name!r} is missing")
        return self.nodes[name]

    def before(self, tensors: Iterable[str], stops: Sequence[str] = ()) -> List[Node]:
        """Nodes that tensors depend on, each after those that it reads; `stops` are operators to stop at.

        A loop's first node comes before its last.
        """
        result: List[Node] = []
        known: Set[str] = set()
        for tensor in tensors:
            waiting = [(self.producer(tensor), False)]
            while waiting:
                node, is_done = waiting.pop()
                if is_done:
                    result.append(node)
                elif node.name not in known:
                    known.add(node.name)
                    waiting.append((node, True))
                    if node.op not in stops:
                        waiting += [(self.producer(source), False) for source in reversed(node.inputs)]
        return result


def _node(message: Any) -> Node:
    inputs = [name[:-2] if name.endswith(":0") else name for name in message.input if name[:1] != "^"]
    attrs = {attr.key: attr.value for attr in message.attr}
    return Node(message.name, message.op, tuple(inputs), attrs)


def constant(node: Node) -> np.ndarray:
    """The value of a ``Const`` node."""
    tensor = node.attrs["value"].tensor
    if tensor.dtype not in DTYPES:
        raise ImportedFileError(f"{node}: values of type {tensor.dtype}")
    dtype, field = DTYPES[tensor.dtype]
    shape = [int(dim.size) for dim in tensor.shape.dim]
    count = 1
    for side in shape:
        count *= side
    if len(shape) > 8 or min(shape, default=0) < 0 or count > MOST_VALUES:
        raise ImportedFileError(f"{node}: shape {shape}")
    if tensor.content:
        return np.frombuffer(tensor.content, dtype).reshape(shape)
    values = np.array(getattr(tensor, field), np.uint16 if field == "half_val" else dtype)
    values = values.view(dtype) if field == "half_val" else values
    if not len(values):  # TensorFlow leaves zeros out, and values that repeat the last one
        return np.zeros(shape, dtype)
    if len(values) > count:
        raise ImportedFileError(f"{node}: {len(values)} values for shape {shape}")
    return np.concatenate([values, np.full(count - len(values), values[-1])]).astype(dtype).reshape(shape)
