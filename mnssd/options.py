"""Options as dataclasses: one field, one line of help; the parser and the checks are made from them.

Pure standard library, so that ``--help`` and argument errors cost nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Type, TypeVar

from .errors import OptionError

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    parse: Optional[Callable[[str], Any]] = None,
    choices: Optional[Sequence[Any]] = None,
    metavar: Optional[str] = None,
) -> Any:
    """A dataclass field with its line of help.

    Parameters
    ----------
    default
        The default; a bool becomes a ``--name / --no-name`` pair.
    help
        One line.
    parse
        Turns the command line's text into the value; it raises ``ValueError`` with a reason.
        By default the type of `default` (``str`` for None).
    choices, metavar
        As in argparse.
    """
    metadata = {"help": help, "parse": parse, "choices": choices, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def add_arguments(parser: argparse.ArgumentParser, options: Type[Any]) -> None:
    """Add one argument for each field of the dataclass `options`.

    Arguments that were not given are absent from the namespace, so that a recipe or a stored
    configuration can stand between them and the defaults.
    """
    group = parser.add_argument_group(_title(options))
    for field in dataclasses.fields(options):
        meta, name = field.metadata, "--" + field.name.replace("_", "-")
        shown = "" if field.default in (None, "", ()) else f" (default: {_shown(field.default)})"
        text = meta["help"].replace("%", "%%") + shown
        keywords: Dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
        if isinstance(field.default, bool):
            flag = group.add_mutually_exclusive_group()
            flag.add_argument(name, action="store_true", **keywords)
            keywords["help"] = argparse.SUPPRESS
            flag.add_argument("--no-" + name[2:], action="store_false", **keywords)
            continue
        keywords["type"] = _argparse_type(meta["parse"] or _plain_type(field.default))
        keywords["choices"], keywords["metavar"] = meta["choices"], meta["metavar"]
        group.add_argument(name, **keywords)


def from_mapping(options: Type[T], values: Mapping[str, Any], source: str = "options") -> T:
    """Build the dataclass from a mapping; unknown keys are refused with near names.

    Raises
    ------
    OptionError
        For a key that is no field, or a value the dataclass itself refuses.
    """
    known = [field.name for field in dataclasses.fields(options)]  # type: ignore[arg-type]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise OptionError(f"{source}: {unknown_name('option', unknown[0], known)}")
    try:
        return options(**values)
    except ValueError as error:
        raise OptionError(f"{source}: {error}") from error


def from_text(options: Type[Any], name: str, value: Any) -> Any:
    """A value of the field `name` as a file says it, checked and converted as on the command line.

    Parameters
    ----------
    options : dataclass
    name : str
    value : bool, int, float, str, None, or a list of these
        What YAML gives.

    Raises
    ------
    ValueError
        When the field takes no such value.
    """
    field = next(field for field in dataclasses.fields(options) if field.name == name)
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is true or false, not {value!r}")
        return value
    if value is None and field.default is None:
        return None
    if value is None or isinstance(value, (bool, dict)):
        raise ValueError(f"{name} cannot be {value!r}")
    between = "x" if name in ("size", "early_size") else ","
    text = between.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    result = (field.metadata["parse"] or _plain_type(field.default))(text)
    choices = field.metadata["choices"]
    if choices and result not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
    return result


def given(namespace: argparse.Namespace, options: Type[Any]) -> Dict[str, Any]:
    """The fields of `options` that were given on the command line, with their values."""
    names = {field.name for field in dataclasses.fields(options)}
    return {key: value for key, value in vars(namespace).items() if key in names}


def as_arguments(options: Any) -> List[str]:
    """The command line that gives `options`, a dataclass of fields by `option`; defaults are left out."""
    arguments: List[str] = []
    for field in dataclasses.fields(options):
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        else:
            between = "x" if isinstance(value, tuple) else ","  # a size; a list of names
            text = between.join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
            arguments.append(f"--{name}={text}")
    return arguments


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: near names first, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"


def names_list(text: str) -> List[str]:
    """Parse ``a,b,c`` into its names; white space around a name is dropped."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"an empty name in {text!r}; write names separated by commas")
    if len(set(names)) < len(names):
        raise ValueError(f"a name occurs twice in {text!r}")
    return names


def _title(options: Type[Any]) -> str:
    return (options.__doc__ or options.__name__).strip().splitlines()[0].rstrip(".")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _plain_type(default: Any) -> Callable[[str], Any]:
    return str if default is None else type(default)


def _argparse_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert
