"""OpenVINO IR: layers of the XML with the constants of the ``.bin`` file beside it; every size is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Dict, List, Tuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..errors import ImportedFileError
from .graph import MOST_VALUES

MOST_BYTES = 64 << 20
"""A larger XML describes no MobileNet: those here have a quarter of a megabyte."""

MOST_LAYERS = 20_000

DTYPES = {"f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4", "u8": "u1", "i8": "i1", "boolean": "u1"}
"""NumPy's types by OpenVINO's names of element types."""


@dataclass
class Layer:
    """A layer: its attributes, the names of the layers that it reads, and the shape of its first output."""

    name: str
    kind: str
    attributes: Dict[str, str]
    shape: Tuple[int, ...]
    inputs: List[str] = field(default_factory=list)

    def numbers(self, attribute: str) -> Tuple[float, ...]:
        """Numbers of an attribute, separated by commas."""
        return tuple(float(part) for part in self.attributes.get(attribute, "").split(",") if part.strip())

    def integers(self, attribute: str) -> Tuple[int, ...]:
        return tuple(int(part) for part in self.attributes.get(attribute, "").split(",") if part.strip())


class IRFile:
    """Layers by name, in the order in which they are computed."""

    def __init__(self, path: str) -> None:
        self.path, self._total = path, 0
        self.layers = _in_order(path, _parse(path))
        place = Path(path).with_suffix(".bin")
        try:
            self._weights = place.read_bytes()
        except OSError as error:
            raise ImportedFileError(
                f"{place}: cannot be read ({error.strerror}); the weights of {path} belong there"
            ) from error

    def constant(self, name: str) -> np.ndarray:
        """A constant, through conversions of its type; ImportedFileError if it is not in the file."""
        layer = self.layers[name]
        for _ in range(len(self.layers)):
            if layer.kind != "Convert":
                break
            layer = self.layers[layer.inputs[0]]
        if layer.kind != "Const":
            raise ImportedFileError(f"{self.path}: layer {name!r}: expected a constant, got {layer.kind}")
        dtype = DTYPES.get(layer.attributes.get("element_type", ""))
        shape = layer.integers("shape")
        offset, size = int(layer.attributes["offset"]), int(layer.attributes["size"])
        if dtype is None or min(shape, default=0) < 0 or np.dtype(dtype).itemsize * prod(shape) != size:
            kind = layer.attributes.get("element_type")
            raise ImportedFileError(
                f"{self.path}: layer {layer.name!r}: {size} bytes for shape {shape} of {kind}"
            )
        if offset < 0 or offset + size > len(self._weights):
            raise ImportedFileError(
                f"{self.path}: layer {layer.name!r}: bytes {offset} to {offset + size} of a .bin file of"
                f" {len(self._weights)}"
            )
        values = np.frombuffer(self._weights, dtype, prod(shape), offset).reshape(shape)
        self._total += values.size
        if self._total > MOST_VALUES:
            raise ImportedFileError(f"{self.path}: more than {MOST_VALUES} weights")
        return values.astype(np.float32) if values.dtype.kind == "f" else values

    def is_constant(self, name: str) -> bool:
        layer = self.layers[name]
        if layer.kind == "Convert" and layer.inputs:
            layer = self.layers[layer.inputs[0]]
        return layer.kind == "Const"

    def readers(self) -> Dict[str, int]:
        """How many inputs read each layer."""
        counts: Dict[str, int] = {}
        for layer in self.layers.values():
            for name in layer.inputs:
                counts[name] = counts.get(name, 0) + 1
        return counts


def _parse(path: str) -> Element:
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise ImportedFileError(f"{path}: more than {MOST_BYTES} bytes; not the XML of a MobileNet")
        root: Any = fromstring(Path(path).read_bytes(), forbid_dtd=True)
    except OSError as error:
        raise ImportedFileError(f"{path}: cannot be read ({error.strerror})") from error
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        raise ImportedFileError(f"{path}: not well-formed XML ({error})") from error
    layers = root.find("layers")
    if root.tag != "net" or layers is None or not 0 < len(layers) <= MOST_LAYERS:
        raise ImportedFileError(f"{path}: not an OpenVINO IR; expected <net> with <layers>")
    return root  # type: ignore[no-any-return]


def _in_order(path: str, root: Element) -> Dict[str, Layer]:
    """Layers by name so that each comes after those it reads; ImportedFileError for cycles and odd edges."""
    names: Dict[str, str] = {}
    layers: Dict[str, Layer] = {}
    for element in root.findall("layers/layer"):
        layer = _layer(path, element)
        number = element.get("id", "")
        if number in names or layer.name in layers:
            raise ImportedFileError(f"{path}: layer {layer.name!r}: occurs twice")
        names[number], layers[layer.name] = layer.name, layer
    edges: Dict[str, List[Tuple[int, str]]] = {}
    for edge in root.findall("edges/edge"):
        ends = names.get(edge.get("from-layer", "")), names.get(edge.get("to-layer", ""))
        port = edge.get("to-port", "")
        if ends[0] is None or ends[1] is None or not port.isdigit():
            raise ImportedFileError(f"{path}: an edge between layers that do not exist: {edge.attrib}")
        edges.setdefault(ends[1], []).append((int(port), ends[0]))
    for name, sources in edges.items():
        layers[name].inputs = [source for _, source in sorted(sources)]
    return _sorted(path, layers)


def _sorted(path: str, layers: Dict[str, Layer]) -> Dict[str, Layer]:
    """Layers after those that they read (Kahn 1962); ImportedFileError if one depends on itself."""
    missing = {name: len(layer.inputs) for name, layer in layers.items()}
    readers: Dict[str, List[str]] = {}
    for name, layer in layers.items():
        for source in layer.inputs:
            readers.setdefault(source, []).append(name)
    ready = [name for name, count in missing.items() if not count]
    for name in ready:
        for reader in readers.get(name, ()):
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if len(ready) < len(layers):
        stuck = next(name for name, count in missing.items() if count)
        raise ImportedFileError(f"{path}: layer {stuck!r}: depends on itself")
    return {name: layers[name] for name in ready}


def _layer(path: str, element: Element) -> Layer:
    name, kind = element.get("name", ""), element.get("type", "")
    data, port = element.find("data"), element.find("output/port")
    try:
        shape = tuple(int(dim.text or "") for dim in port.findall("dim")) if port is not None else ()
    except ValueError as error:
        raise ImportedFileError(f"{path}: layer {name!r}: shape of its output: {error}") from error
    return Layer(name, kind, dict(data.attrib) if data is not None else {}, shape)
