"""Options as dataclasses: the parser made from them, and the checks."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnssd import options as o
from mnssd.errors import OptionError
from mnssd.options import option


def positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise ValueError("must be above 0")
    return value


@dataclass(frozen=True)
class Recipe:
    """How it is trained. The rest is not the title."""

    lr: float = option(0.01, "learning rate, 100% honest", parse=positive)
    batch_size: int = option(32, "images a step")
    schedule: str = option("cosine", "how the rate falls", choices=["cosine", "step"])
    flip: bool = option(True, "mirror half of the images")
    resume: bool = option(False, "go on from the last checkpoint")
    classes: Optional[List[str]] = option(None, "names", parse=o.names_list)
    steps: Tuple[int, ...] = option((3, 5), "epochs", parse=lambda text: tuple(map(int, text.split(","))))

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError("batch_size must be 1 or more")


@dataclass(frozen=True)
class Other:
    """Something else."""

    name: str = option("x", "a name")


def parse(*arguments: str) -> Dict[str, Any]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    o.add_arguments(parser, Recipe)
    o.add_arguments(parser, Other)
    return o.given(parser.parse_args(arguments), Recipe)


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parse(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_what_is_not_given_is_absent() -> None:
    """So that a recipe or a stored configuration can stand between the command line and the defaults."""
    assert parse() == {}
    assert parse("--name", "y") == {}  # of another dataclass
    assert parse("--batch-size", "32") == {"batch_size": 32}  # the default, but given


WAYS: Dict[str, st.SearchStrategy] = {
    "lr": st.floats(1e-6, 1e3).map(lambda v: (["--lr", repr(v)], v)),
    "batch_size": st.integers(1, 10**6).map(lambda v: ([f"--batch-size={v}"], v)),
    "schedule": st.sampled_from(["cosine", "step"]).map(lambda v: (["--schedule", v], v)),
    "flip": st.booleans().map(lambda v: (["--flip" if v else "--no-flip"], v)),
    "resume": st.booleans().map(lambda v: (["--resume" if v else "--no-resume"], v)),
    "classes": st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(
        lambda v: (["--classes", " , ".join(v)], v)
    ),
    "steps": st.lists(st.integers(0, 99), min_size=1).map(
        lambda v: (["--steps", ",".join(map(str, v))], tuple(v))
    ),
}


@given(st.fixed_dictionaries({}, optional=WAYS), st.randoms())
def test_what_is_given_arrives_and_the_rest_is_default(ways: Dict[str, Any], shuffler: Any) -> None:
    order = list(ways)
    shuffler.shuffle(order)
    found = parse(*[word for name in order for word in ways[name][0]])
    assert found == {name: value for name, (_, value) in ways.items()}
    assert asdict(o.from_mapping(Recipe, found)) == {**asdict(Recipe()), **found}


def test_both_of_a_pair_are_refused(capsys: pytest.CaptureFixture) -> None:
    assert "not allowed with" in refused(capsys, "--flip", "--no-flip")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lr", "0"], ["--lr", "must be above 0"]),
        (["--lr", "fast"], ["--lr", "fast"]),
        (["--batch-size", "2.5"], ["--batch-size", "2.5"]),
        (["--schedule", "linear"], ["--schedule", "cosine", "step"]),
        (["--classes", "cat,,dog"], ["--classes", "empty name"]),
        (["--classes", "cat,cat"], ["--classes", "twice"]),
        (["--batchsize", "3"], ["--batchsize"]),
        (["--flip", "yes"], ["yes"]),
    ],
)
def test_bad_values_name_the_option_and_the_reason(
    arguments: List[str], words: List[str], capsys: pytest.CaptureFixture
) -> None:
    text = refused(capsys, *arguments)
    assert not [word for word in words if word not in text]


def test_help_is_from_the_fields() -> None:
    parser = argparse.ArgumentParser()
    o.add_arguments(parser, Recipe)
    text = " ".join(parser.format_help().split())
    assert "How it is trained. The rest is not the title:" in text
    assert "learning rate, 100% honest (default: 0.01)" in text
    assert "mirror half of the images (default: True)" in text
    assert "epochs (default: 3,5)" in text
    assert "names (default" not in text
    assert "{cosine,step}" in text


def test_unknown_keys_are_refused_with_near_names() -> None:
    with pytest.raises(
        OptionError, match=r"config\.yaml: unknown option 'batchsize'; did you mean batch_size"
    ):
        o.from_mapping(Recipe, {"lr": 0.1, "batchsize": 3}, "config.yaml")
    with pytest.raises(OptionError, match="known: batch_size, classes, flip, lr"):
        o.from_mapping(Recipe, {"zzz": 1})


def test_what_the_dataclass_refuses_names_its_source() -> None:
    with pytest.raises(OptionError, match=r"config\.yaml: batch_size must be 1 or more"):
        o.from_mapping(Recipe, {"batch_size": 0}, "config.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coww", "did you mean cow?"),
        ("dog", "did you mean dogs or doggo?"),
        ("zebra", "known: cow, doggo, dogs"),
    ],
)
def test_unknown_name(name: str, words: str) -> None:
    assert o.unknown_name("class", name, iter(["dogs", "cow", "doggo"])) == f"unknown class {name!r}; {words}"


@given(st.lists(st.text("abc-_ é", min_size=1).map(str.strip).filter(bool), min_size=1, unique=True))
def test_names_list_is_the_inverse_of_joining(names: List[str]) -> None:
    assert o.names_list(" , ".join(names)) == names


@given(
    st.builds(
        Recipe,
        lr=st.floats(1e-6, 1e6),
        batch_size=st.integers(1, 1000),
        schedule=st.sampled_from(["cosine", "step"]),
        flip=st.booleans(),
        resume=st.booleans(),
        classes=st.none() | st.lists(st.sampled_from(["cat", "dog", "a cow"]), min_size=1, unique=True),
    )
)
def test_arguments_of_options_give_the_options(recipe: Recipe) -> None:
    parser = argparse.ArgumentParser()
    o.add_arguments(parser, Recipe)
    namespace = parser.parse_args(o.as_arguments(recipe))
    assert o.from_mapping(Recipe, o.given(namespace, Recipe)) == recipe
