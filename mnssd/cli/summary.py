"""Print parameters and multiply-adds of every layer of a network, and the anchors of a detector.

NETWORK is a name (mobilenet_v2, mobilenet_v2_0.5, ssd_300_mobilenet_v2, ssdlite_320_mobilenet_v2, ...), a
run, an export, or any -symbol.json file. Multiply-adds are counted as in the papers, in convolutions and
dense layers. Nothing is computed and no weights are needed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from ..bench.measure import format_table
from ..errors import MnssdError, OptionError
from ..nn.backbones import backbones
from ..nn.choices import ClassifierOptions
from ..options import FLOAT, SIZE, Size, ValueType, add_options, from_mapping, given, option, require

if TYPE_CHECKING:
    from ..compress.cost import Costs

Row = Sequence[str]

Counted = Tuple[str, "Costs", List[Dict[str, Any]]]
"""A title, the costs, and the feature maps of a detector with their anchors."""


def parse_shape(text: str) -> Tuple[str, Tuple[int, ...]]:
    """Parse ``data=1x3x224x224`` into a name and a shape."""
    name, sign, sides = text.partition("=")
    if not name or not sign or not all(side.isdigit() and int(side) > 0 for side in sides.split("x")):
        raise ValueError(f"expected NAME=1x3x224x224, got {text!r}")
    return name, tuple(map(int, sides.split("x")))


def format_shape(shape: Tuple[str, Tuple[int, ...]]) -> str:
    """The inverse of `parse_shape`."""
    return f"{shape[0]}={'x'.join(map(str, shape[1]))}"


@dataclass(frozen=True)
class SummaryOptions:
    """Summary."""

    width: Optional[float] = option(
        None, "width multiplier of a network by name", type=FLOAT, shown="that of the name, else 1.0"
    )
    size: Optional[Size] = option(
        None, "input in pixels, also WIDTHxHEIGHT", type=SIZE, shown="that of the network, else 224"
    )
    classes: int = option(0, "number of classes of a network by name", shown="1000, detectors 20")
    input: Optional[Tuple[str, Tuple[int, ...]]] = option(
        None,
        "input name and shape of a symbol file, such as data=1x3x224x224",
        type=ValueType(parse_shape, format_shape),
    )
    json: bool = option(False, "print JSON")
    markdown: bool = option(False, "print Markdown tables")

    def __post_init__(self) -> None:
        require(self, "at least 1", lambda value: value >= 0, "classes")
        if self.json and self.markdown:
            raise ValueError("json and markdown: choose one")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NETWORK", help="name, run, export or -symbol.json file")
    add_options(parser, SummaryOptions)
    add_options(parser, ClassifierOptions)
    parser.epilog = (
        f"networks: {', '.join(backbones.names())}; SSD detectors: ssd_SIZE_NAME, ssdlite_SIZE_NAME"
    )


def run(args: argparse.Namespace) -> int:
    options = from_mapping(SummaryOptions, given(args, SummaryOptions))
    title, costs, maps = _count(args.network, options, given(args, ClassifierOptions))
    if options.json:
        separable = [{**asdict(pair), "ratio": round(pair.ratio, 4)} for pair in costs.separable]
        counted = {**asdict(costs), "separable": separable, "anchors": maps}
        print(json.dumps({"network": title, **counted}, indent=2))
        return 0
    tables = [
        ("layers", *_layers(costs)),
        ("depthwise separable and standard convolutions", *_separable(costs)),
        ("anchors", *_anchors(maps)),
    ]
    print(f"# {title}\n" if options.markdown else title)
    for caption, head, rows in tables:
        if rows:
            print(f"\n{'## ' if options.markdown else ''}{caption}\n")
            print(format_table(head, rows, options.markdown))
    print(f"\n{_totals(costs)}")
    for line in costs.not_counted:
        print(f"not counted: {line}")
    return 0


def _count(network: str, options: SummaryOptions, backbone: Dict[str, Any]) -> Counted:
    """Count a network; `backbone` are the options of a backbone that are given."""
    path = Path(network)
    if network.endswith(".json") or path.exists():
        if options.width is not None or options.classes or backbone:
            flags = ", ".join(f"--{name}" for name in ("width", "classes", *backbone))
            raise OptionError(f"{network}: {flags} apply only to a network by name")
        return _count_path(path, options)
    from .. import zoo
    from ..compress.cost import count_block

    name = zoo.canonical_name(network, options.width, options.size)
    detector = bool(zoo.parse_name(name).head)
    classes: Any = [str(i) for i in range(options.classes)] if detector else options.classes
    net = zoo.get_model(name, classes=classes or None, **backbone)
    name = " ".join([name, *(f"--{option} {value}" for option, value in backbone.items())])
    if detector:
        return _count_detector(name, net)
    width, height = options.size or (224, 224)
    return f"{name} at {width}x{height}", count_block(net, (1, 3, height, width)), []


def _count_path(path: Path, options: SummaryOptions) -> Counted:
    from .. import zoo

    if path.is_dir() and (path / zoo.CONFIG_FILE).exists():
        return _count_run(path)
    from ..compress.cost import count_json
    from ..export.sidecar import find_sidecars, read_export
    from ..weights import read_params

    params: Optional[Path] = None
    name, size = "data", (224, 224)
    if path.is_dir():
        if not find_sidecars(path):
            raise MnssdError(f"{path}: neither a run nor an export; give a -symbol.json file")
        _, sidecar = read_export(path)
        name, size = sidecar["input"]["name"], sidecar["input"]["size"]
        params, path = (path / sidecar["files"][kind]["file"] for kind in ("params", "symbol"))
    width, height = options.size or size
    name, shape = options.input or (name, (1, 3, height, width))
    try:
        text = path.read_text(encoding="utf-8")
        arrays = {key: value.shape for key, value in read_params(str(params)).items()} if params else {}
        costs = count_json(text, {name: shape}, arrays)
    except OSError as error:
        raise MnssdError(f"{path}: cannot read ({error.strerror})") from error
    except ValueError as error:
        raise MnssdError(f"{path}: {error}") from error
    return f"{path}, {name} {'x'.join(map(str, shape))}", costs, []


def _count_run(path: Path) -> Counted:
    from .. import zoo
    from ..compress.cost import count_block
    from ..train.run_folder import RunFolder

    config = str(path / zoo.CONFIG_FILE)
    if RunFolder(path).read_task() != "classification":
        return _count_detector(str(path), zoo.build_detector(zoo.read_spec(config, zoo.DetectorSpec)))
    spec = zoo.read_spec(config, zoo.ClassifierSpec)
    width, height = spec.size
    costs = count_block(zoo.build_classifier(spec), (1, 3, height, width))
    return f"{path}, {spec.describe()}", costs, []


def _count_detector(title: str, net: Any) -> Counted:
    from ..compress.cost import count_block
    from ..nn.anchors import anchors_per_position

    width, height = net.size
    maps = []
    for i, (w, h) in enumerate(net.map_sizes()):
        per_position = anchors_per_position(i, net.heads.layout.anchors)
        maps.append({"map": [w, h], "anchors_per_position": per_position, "anchors": w * h * per_position})
    return f"{title} at {width}x{height}", count_block(net.heads, (1, 3, height, width)), maps


def _layers(costs: Costs) -> Tuple[Row, List[Row]]:
    total = max(1, costs.multiply_adds)
    rows: List[Row] = [
        (
            layer.name, layer.kind, _map(layer.input), _map(layer.output),
            _number(layer.parameters), _number(layer.multiply_adds),
            "?" if layer.multiply_adds is None else f"{layer.multiply_adds / total:.1%}",
        )
        for layer in costs.layers
        if layer.parameters != 0 or layer.multiply_adds != 0 or layer.input != layer.output
    ]  # fmt: skip
    return ("layer", "type", "from", "to", "parameters", "multiply-adds", "share"), rows


def _separable(costs: Costs) -> Tuple[Row, List[Row]]:
    rows: List[Row] = [
        (
            pair.name, "x".join(map(str, pair.kernel)), f"{pair.channels[0]} -> {pair.channels[1]}",
            _number(pair.weights), _number(pair.standard_weights),
            _number(pair.multiply_adds), _number(pair.standard_multiply_adds), f"{pair.ratio:.3f}",
        )
        for pair in costs.separable
    ]  # fmt: skip
    head = ("layer", "kernel", "channels", "weights", "standard", "multiply-adds", "standard", "ratio")
    return head, rows


def _anchors(maps: Sequence[Dict[str, Any]]) -> Tuple[Row, List[Row]]:
    rows: List[Row] = [
        ("x".join(map(str, row["map"])), str(row["anchors_per_position"]), _number(row["anchors"]))
        for row in maps
    ]
    if rows:
        rows.append(("all", "", _number(sum(row["anchors"] for row in maps))))
    return ("map", "per position", "anchors"), rows


def _totals(costs: Costs) -> str:
    least = "at least " if costs.not_counted else ""
    text = (
        f"{least}{_number(costs.parameters)} parameters, {least}{_number(costs.multiply_adds)} multiply-adds"
        f" ({costs.parameters / 1e6:.3f} M, {costs.multiply_adds / 1e6:.1f} M)"
    )
    if costs.separable:
        ours = sum(pair.multiply_adds for pair in costs.separable)
        standard = sum(pair.standard_multiply_adds for pair in costs.separable)
        share = f"{ours / standard:.3f} of the standard convolutions' multiply-adds"
        text += f"\ndepthwise separable layers: {share}"
    return text


def _map(shape: Optional[Sequence[int]]) -> str:
    """``150x150x32`` for (32, 150, 150), as in the papers."""
    if shape is None:
        return "?"
    return "x".join(map(str, [*shape[1:], shape[0]])) if shape else "1"


def _number(value: Optional[int]) -> str:
    return "?" if value is None else f"{value:,}"
