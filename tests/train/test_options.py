"""Options: parsing, help, conversion and formatting of fields, and the defaults of training runs."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, Dict, List, Optional, Tuple, Type

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnssd.cli
from mnssd import options as o
from mnssd.errors import OptionError
from mnssd.options import option
from mnssd.train.options import ClassificationTraining, DetectionTraining


def positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise ValueError("must be above 0")
    return value


@dataclass(frozen=True)
class Recipe:
    """Options of a test. The second sentence is part of the title."""

    lr: float = option(0.01, "learning rate, 100% honest", type=o.ValueType(positive))
    batch_size: int = option(32, "images per step")
    schedule: str = option("cosine", "schedule", choices=lambda: ("cosine", "step"))
    flip: bool = option(True, "mirror images")
    resume: bool = option(False, "resume the run")
    classes: Optional[List[str]] = option(None, "names", type=o.NAMES, shown="all")
    steps: Tuple[int, ...] = option((3, 5), "epochs", type=o.INTS)
    size: o.Size = option((300, 300), "input size", type=o.SIZE)

    def __post_init__(self) -> None:
        o.require(self, "at least 1", lambda value: value >= 1, "batch_size")


@dataclass(frozen=True)
class Other:
    """Other options."""

    name: str = option("x", "a name")


OVERRIDES = {"": {"batch_size": 16}, "shapes": {"lr": 0.4, "size": (96, 64)}, "voc": {"lr": 0.4, "steps": ()}}


def make_parser(*options: Type[Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for kind in options:
        o.add_options(parser, kind, OVERRIDES)
    return parser


def parse(*arguments: str) -> Dict[str, Any]:
    return o.given(make_parser(Recipe, Other).parse_args(arguments), Recipe)


def test_absent_options_are_absent() -> None:
    assert parse() == {}
    assert parse("--name", "y") == {}  # of another dataclass
    assert parse("--batch-size", "32") == {"batch_size": 32}  # the default, but given


ARGUMENTS: Dict[str, st.SearchStrategy] = {
    "lr": st.floats(1e-6, 1e3).map(lambda v: (["--lr", repr(v)], v)),
    "batch_size": st.integers(1, 10**6).map(lambda v: ([f"--batch-size={v}"], v)),
    "schedule": st.sampled_from(["cosine", "step"]).map(lambda v: (["--schedule", v], v)),
    "flip": st.booleans().map(lambda v: (["--flip" if v else "--no-flip"], v)),
    "resume": st.booleans().map(lambda v: (["--resume" if v else "--no-resume"], v)),
    "classes": st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(
        lambda v: (["--classes", " , ".join(v)], v)
    ),
    "steps": st.lists(st.integers(0, 99)).map(lambda v: (["--steps=" + ", ".join(map(str, v))], tuple(v))),
    "size": st.tuples(st.integers(1, 999), st.integers(1, 999)).map(
        lambda v: (["--size", f"{v[0]}x{v[1]}"], v)
    ),
}


@given(st.fixed_dictionaries({}, optional=ARGUMENTS), st.randoms())
def test_parsed_options_have_their_values_and_the_others_their_defaults(
    chosen: Dict[str, Any], shuffler: Any
) -> None:
    order = list(chosen)
    shuffler.shuffle(order)
    values = parse(*[word for name in order for word in chosen[name][0]])
    assert values == {name: value for name, (_, value) in chosen.items()}
    assert asdict(o.from_mapping(Recipe, values)) == {**asdict(Recipe()), **values}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--lr", "0"], ["--lr"]),
        (["--lr", "fast"], ["--lr", "fast"]),
        (["--batch-size", "2.5"], ["--batch-size", "2.5"]),
        (["--schedule", "linear"], ["--schedule", "linear", "cosine", "step"]),
        (["--classes", "cat,,dog"], ["--classes", "cat,,dog"]),
        (["--classes", "cat,cat"], ["--classes", "cat,cat"]),
        (["--size", "300,300"], ["--size", "300,300", "480x320"]),
        (["--batchsize", "3"], ["--batchsize"]),
        (["--flip", "yes"], ["yes"]),
        (["--flip", "--no-flip"], ["--flip", "--no-flip"]),
    ],
)
def test_invalid_arguments_are_refused_by_name(
    arguments: List[str], names: List[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(*arguments)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert not [name for name in names if name not in text]


def test_help_shows_the_defaults_that_are_used() -> None:
    text = " ".join(make_parser(Recipe).format_help().split())
    assert Recipe.__doc__
    assert Recipe.__doc__.rstrip(".") in text
    assert "learning rate, 100% honest (default: 0.01; shapes, voc 0.4)" in text
    assert "--flip, --no-flip mirror images (default: --flip)" in text
    assert "resume the run (default: --no-resume)" in text
    assert "(default: 16)" in text  # for all datasets
    assert "(default: 3,5; voc none)" in text
    assert "(default: 300; shapes 96x64)" in text
    assert "names (default: all)" in text
    assert "{cosine,step}" in text


def test_unknown_names_are_refused_with_near_names() -> None:
    with pytest.raises(OptionError, match=r"config\.yaml: .*'batchsize'.*batch_size"):
        o.from_mapping(Recipe, {"lr": 0.1, "batchsize": 3}, "config.yaml")
    with pytest.raises(OptionError, match="batch_size, classes, flip, lr"):
        o.from_mapping(Recipe, {"zzz": 1})


@pytest.mark.parametrize(
    ("name", "near"), [("coww", ["cow"]), ("dog", ["dogs", "doggo"]), ("zebra", ["cow", "doggo", "dogs"])]
)
def test_unknown_name_lists_near_names_or_all(name: str, near: List[str]) -> None:
    known = ["dogs", "cow", "doggo"]
    text = o.unknown_name("class", name, iter(known)).replace(repr(name), "")
    assert [other for other in known if other in text.replace(",", " ").replace("?", " ").split()] == [
        other for other in known if other in near
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", 96, (96, 96)),
        ("size", [96, 64], (96, 64)),
        ("size", "96x64", (96, 64)),
        ("steps", [], ()),
        ("steps", (1, 2), (1, 2)),
        ("classes", ["a", "b c"], ["a", "b c"]),
        ("classes", None, None),
        ("lr", "1e-3", 1e-3),
        ("lr", 2, 2.0),
        ("flip", False, False),
    ],
)
def test_values_are_converted_as_on_the_command_line(name: str, value: Any, expected: Any) -> None:
    converted = getattr(o.from_mapping(Recipe, {name: value}), name)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("batch_size", "many"), ("batch_size", None), ("batch_size", True),
        ("batch_size", [1]), ("flip", 1), ("flip", None), ("schedule", "linear"), ("classes", ["a,b"]),
        ("classes", ["a", "a"]), ("classes", []), ("size", [1, 2, 3]), ("size", {"w": 1}), ("steps", ["x"]),
    ],
)  # fmt: skip
def test_invalid_values_are_refused_by_name_and_source(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"config\.yaml: {name}"):
        o.from_mapping(Recipe, {name: value}, "config.yaml")


@given(st.lists(st.text("abc-_ é", min_size=1).map(str.strip).filter(bool), min_size=1, unique=True))
def test_parse_names_inverts_joining(names: List[str]) -> None:
    assert o.parse_names(" , ".join(names)) == names


# ---- every dataclass of options in the package -------------------------------------------------------------


def option_classes() -> List[Type[Any]]:
    """The dataclasses whose fields are made by `option`, of the commands and the modules that they import."""
    modules = [
        importlib.import_module(f"mnssd.cli.{m.name}") for m in pkgutil.iter_modules(mnssd.cli.__path__)
    ]
    kinds = {*DetectionTraining.groups, *ClassificationTraining.groups}
    for module in modules:
        kinds |= {kind for kind in vars(module).values() if isinstance(kind, type) and is_dataclass(kind)}
    return sorted(
        (kind for kind in kinds if all("help" in field.metadata for field in fields(kind))),
        key=lambda kind: kind.__qualname__,
    )


VALUES: Dict[o.ValueType, st.SearchStrategy] = {
    o.INT: st.integers(-1, 300),
    o.FLOAT: st.floats(0, 1),
    # argparse removes a value that is "--", even in "--name=--"
    o.TEXT: st.text(st.characters(min_codepoint=32, max_codepoint=300), max_size=5).filter("--".__ne__),
    o.SIZE: st.tuples(st.integers(32, 999), st.integers(32, 999)),
    o.NAMES: st.lists(st.sampled_from(["cat", "a dog", "-x"]), min_size=1, unique=True),
    o.INTS: st.lists(st.integers(32, 999)).map(tuple),
    o.FLOATS: st.lists(st.floats(0.01, 0.99)).map(tuple),
}


def field_values(field: Any) -> st.SearchStrategy:
    """Valid and invalid values of a field, of the right type."""
    if isinstance(field.default, bool):
        return st.booleans()
    choices = o._choices(field)
    values = st.sampled_from(list(choices)) if choices else VALUES.get(o._value_type(field), st.nothing())
    return st.just(field.default) | values


@lru_cache(maxsize=None)
def parser_of(kind: Type[Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    o.add_options(parser, kind)
    return parser


@pytest.mark.parametrize("kind", option_classes(), ids=lambda kind: kind.__qualname__)
@settings(max_examples=15)
@given(data=st.data())
def test_arguments_of_options_parse_to_the_same_options(kind: Type[Any], data: st.DataObject) -> None:
    try:
        options = kind(**{field.name: data.draw(field_values(field)) for field in fields(kind)})
    except ValueError:  # an invalid combination; single changes are often valid
        field = data.draw(st.sampled_from(fields(kind)))
        try:
            options = kind(**{field.name: data.draw(field_values(field))})
        except ValueError:
            return
    parsed = o.from_mapping(kind, o.given(parser_of(kind).parse_args(o.as_arguments(options)), kind))
    assert parsed == options


def test_no_option_of_a_command_is_left_out() -> None:
    kinds = option_classes()
    assert {*DetectionTraining.groups, *ClassificationTraining.groups} <= set(kinds)
    assert len(kinds) >= 15


# ---- training runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DetectionTraining, ClassificationTraining])
def test_defaults_by_dataset_are_options_with_valid_values(kind: Type[Any]) -> None:
    for dataset in kind.defaults:
        options = kind.resolve({"dataset": dataset} if dataset else {"dataset": "recordio"})
        assert kind.defaults[dataset].items() <= options.values().items()


def test_defaults_of_the_dataset_precede_general_defaults_and_given_values_precede_both() -> None:
    options = DetectionTraining.resolve({"lr": 0.5})
    assert (options.data.dataset, options.data.size, options.loop.lr) == ("shapes", (128, 128), 0.5)
    options = DetectionTraining.resolve({"dataset": "voc"})
    assert (options.data.size, options.loop.lr, options.loop.val_interval) == ((300, 300), 0.01, 5)
    assert DetectionTraining.resolve({"data_root": "photos"}).data.dataset == "auto"


def test_replace_keeps_all_other_values_and_checks_the_new_ones() -> None:
    options = DetectionTraining.resolve({"dataset": "shapes", "lr": 0.5})
    changed = options.replace(size=96, classes=["a"])
    assert changed.values() == {**options.values(), "size": (96, 96), "classes": ["a"]}
    with pytest.raises(OptionError, match="epoch"):
        options.replace(epoch=3)
    with pytest.raises(OptionError, match="head"):
        options.replace(head="yolo")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"batchsize": 1}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"lr": float("nan")}, "lr"),
        ({"freeze": "("}, "freeze"),
        ({"dataset": "vocc"}, "voc"),
        ({"overfit": -1}, "overfit"),
        ({"expand_ratio": 0.5}, "expand_ratio"),
        ({"crop_overlaps": [1.5]}, "crop_overlaps"),
        ({"early_size": 96}, "early_epochs"),
        ({"hold_out": 0.1, "overfit": 4}, "overfit"),
    ],
)
def test_invalid_training_options_are_refused_by_name(values: Dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError, match=name):
        DetectionTraining.resolve(values, "test")
