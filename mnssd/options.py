"""Options as dataclasses: argument parsers, checks and stored values are derived from their fields.

Imports only the standard library, so that ``--help`` and argument errors are quick.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from .errors import OptionError

T = TypeVar("T")

Size = Tuple[int, int]
"""``(width, height)`` in pixels."""

Overrides = Mapping[str, Mapping[str, Any]]
"""Defaults by dataset, then by option; those under ``""`` are for the datasets that do not change them."""


def _join(value: Any, separator: str = ",") -> str:
    return separator.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@dataclasses.dataclass(frozen=True)
class ValueType:
    """How the values of an option are read from text and written as text.

    `parse` raises ValueError with a reason. `format` accepts lists for tuples, as YAML has no tuples.
    """

    parse: Callable[[str], Any]
    format: Callable[[Any], str] = _join


def _number(kind: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"expected {expected}, got {text!r}") from None

    return parse


def parse_size(text: str) -> Size:
    """Parse ``300`` or ``480x320`` (width x height) into ``(width, height)``."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"expected a size such as 300 or 480x320, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def format_size(size: Any) -> str:
    """``300`` for a square, else ``480x320``; the inverse of `parse_size`."""
    is_square = isinstance(size, (list, tuple)) and len(size) == 2 and size[0] == size[1]
    return str(size[0]) if is_square else _join(size, "x")


def parse_names(text: str) -> List[str]:
    """Parse ``a,b,c`` into a list of names; white space around a name is dropped."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"empty name in {text!r}; separate names by single commas")
    if len(set(names)) < len(names):
        raise ValueError(f"duplicate name in {text!r}")
    return names


def _format_names(names: Any) -> str:
    comma = next((name for name in names if "," in str(name)), None)
    if comma is not None:
        raise ValueError(f"the name {comma!r} contains a comma")
    return _join(names)


def _parse_tuple(parse: Callable[[str], Any]) -> Callable[[str], Tuple[Any, ...]]:
    return lambda text: tuple(parse(part.strip()) for part in text.split(",")) if text.strip() else ()


INT, FLOAT = ValueType(_number(int, "a whole number")), ValueType(_number(float, "a number"))
TEXT = ValueType(str)
INTS, FLOATS = ValueType(_parse_tuple(INT.parse)), ValueType(_parse_tuple(FLOAT.parse))
SIZE, NAMES = ValueType(parse_size, format_size), ValueType(parse_names, _format_names)


def option(
    default: Any,
    help: str,
    *,
    type: Optional[ValueType] = None,
    choices: Any = None,
    metavar: Optional[str] = None,
    shown: Optional[str] = None,
    repeatable: bool = False,
) -> Any:
    """Dataclass field with a line of help; `help` and `metavar` are as in argparse.

    Parameters
    ----------
    default
        A bool becomes a ``--name / --no-name`` pair.
    type : ValueType, optional
        Derived from `default` if it is an int, float or str.
    choices : sequence, or callable that returns one
        Allowed values. A callable is evaluated when a parser is built or a value is checked.
    shown : str, optional
        Text after ``default:`` in the help, if the default depends on other things.
    repeatable : bool
        Whether the option may be given several times; its value is then a tuple of values of `type`, by
        default ``()``.
    """
    metadata = {"help": help, "type": type, "choices": choices, "metavar": metavar, "shown": shown}
    metadata["repeatable"] = repeatable
    return dataclasses.field(default=default, metadata=metadata)


def add_options(
    parser: argparse.ArgumentParser, options: Type[Any], overrides: Optional[Overrides] = None
) -> None:
    """Add one argument for each field of the dataclass `options`, whose fields are made by `option`.

    Options that are not given are absent from the namespace, because a recipe or a stored configuration
    has precedence over the defaults. `overrides` are shown in the help.
    """
    title = (options.__doc__ or options.__name__).splitlines()[0].rstrip(".")
    group = parser.add_argument_group(title)
    for field in dataclasses.fields(options):
        text = (field.metadata["help"] + _default_text(field, overrides)).replace("%", "%%")
        if isinstance(field.default, bool):
            flags = _flag(field), _flag(field, "no-")
            group.add_argument(*flags, action=_Toggle, dest=field.name, help=text)
        else:
            group.add_argument(
                _flag(field), dest=field.name, default=argparse.SUPPRESS, choices=_choices(field),
                type=_argparse_type(_value_type(field).parse), metavar=field.metadata["metavar"], help=text,
                action="append" if field.metadata["repeatable"] else "store",
            )  # fmt: skip


def from_mapping(options: Type[T], values: Mapping[str, Any], source: str = "options") -> T:
    """Build the dataclass from values by name; see `convert_values`."""
    converted = convert_values(values, (options,), source)
    try:
        return options(**converted)
    except ValueError as error:
        raise OptionError(f"{source}: {error}") from error


def convert_values(
    values: Mapping[str, Any], kinds: Iterable[Type[Any]], source: str = "options"
) -> Dict[str, Any]:
    """Check and convert values by name, of the fields of the dataclasses `kinds`, as the command line does.

    The values are Python values, or what YAML yields. Messages name their `source`.

    Raises
    ------
    OptionError
        For an unknown name (near names are listed) or an invalid value.
    """
    fields = {field.name: field for kind in kinds for field in dataclasses.fields(kind)}
    try:
        for name in values:
            if name not in fields:
                raise ValueError(unknown_name("option", str(name), fields))
        return {name: _convert(fields[name], value) for name, value in values.items()}
    except ValueError as error:
        raise OptionError(f"{source}: {error}") from error


def _convert(field: Any, value: Any, is_one: bool = False) -> Any:
    """The value of a field; with `is_one`, one of the values of a repeatable option."""
    if field.metadata["repeatable"] and not is_one:
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(field, one, True) for one in values)
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{field.name}: expected true or false, got {value!r}")
        return value
    if value is None and field.default is None:
        return None
    value_type = _value_type(field)
    is_list = isinstance(value, (list, tuple))
    if value is None or isinstance(value, (bool, dict)) or (is_list and value_type in (INT, FLOAT, TEXT)):
        raise ValueError(f"{field.name}: invalid value {value!r}")
    try:
        result = value_type.parse(value if isinstance(value, str) else value_type.format(value))
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from error
    choices = _choices(field)
    if choices and result not in choices:
        raise ValueError(f"{field.name}: {unknown_name('value', str(result), map(str, choices))}")
    return result


def parse_yaml(text: str, as_text: Sequence[str]) -> Any:
    """Content of a YAML file, in which the values of the keys `as_text` are text as written.

    YAML takes class names such as ``no``, ``010`` and ``2020-01-01`` for False, 8 and a date. A single null
    remains None. Raises yaml.YAMLError, ValueError or RecursionError if the text is not YAML.
    """
    import yaml

    loader = yaml.SafeLoader("")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return None
        _mark_as_text(root, as_text)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _mark_as_text(root: Any, keys: Sequence[str]) -> None:
    """Make text of the scalars below the `keys` in a tree of YAML nodes."""
    null, text = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"
    seen, waiting = set(), [(root, False)]
    while waiting:
        node, inside = waiting.pop()
        if (id(node), inside) in seen:  # an alias
            continue
        seen.add((id(node), inside))
        if isinstance(node.value, str):
            node.tag = text if inside else node.tag
            continue
        for entry in node.value:
            key, value = entry if isinstance(entry, tuple) else (None, entry)
            starts = not inside and key is not None and isinstance(key.value, str) and key.value in keys
            if not (starts and value.tag == null):
                waiting.append((value, inside or starts))


def text_options(*kinds: Type[Any]) -> List[str]:
    """Names of the fields of the dataclasses `kinds` whose values are text or lists of names."""
    fields = (field for kind in kinds for field in dataclasses.fields(kind))
    return [f.name for f in fields if _value_type(f) in (TEXT, NAMES) and not isinstance(f.default, bool)]


def require(options: Any, rule: str, is_valid: Callable[[Any], bool], *names: str) -> None:
    """Check fields of a dataclass in its ``__post_init__``; raises ValueError with the name and the rule."""
    for name in names:
        value = getattr(options, name)
        if not is_valid(value):
            raise ValueError(f"{name}: expected {rule}, got {_join(value)}")


def given(namespace: argparse.Namespace, *options: Type[Any]) -> Dict[str, Any]:
    """Values that were given on the command line, by name, of the fields of `options`."""
    names = {field.name for kind in options for field in dataclasses.fields(kind)}
    return {name: value for name, value in vars(namespace).items() if name in names}


def as_arguments(options: Any) -> List[str]:
    """Command line that parses to `options`, a dataclass of fields made by `option`; defaults are omitted."""
    arguments: List[str] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            if isinstance(value, bool):
                arguments.append(_shown(field, value))
                continue
            format = _value_type(field).format
            values = value if field.metadata["repeatable"] else [value]
            arguments += [f"{_flag(field)}={format(one)}" for one in values]
    return arguments


def format_value(options: Any, name: str) -> str:
    """The value of a field as it is written on the command line."""
    field = next(field for field in dataclasses.fields(options) if field.name == name)
    return _shown(field, getattr(options, name))


def listed(names: Iterable[str], limit: int = 10) -> str:
    """Names joined by commas; of more than `limit`, the first and a count."""
    shown = list(names)
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for an unknown name: lists near names, or all known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed(known)}"
    return f"unknown {kind} {name!r}; {hint}"


class _Toggle(argparse.Action):
    """``--name`` and ``--no-name``; both together are refused."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: Optional[str] = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        value = option_string == self.option_strings[0]
        if getattr(namespace, self.dest, value) != value:
            raise argparse.ArgumentError(self, "both were given; choose one")
        setattr(namespace, self.dest, value)


def _flag(field: Any, prefix: str = "") -> str:
    return f"--{prefix}{field.name.replace('_', '-')}"


def _value_type(field: Any) -> ValueType:
    return field.metadata["type"] or {int: INT, float: FLOAT}.get(type(field.default), TEXT)


def _choices(field: Any) -> Optional[Sequence[Any]]:
    choices = field.metadata["choices"]
    return choices() if callable(choices) else choices  # type: ignore[no-any-return]


def _default_text(field: Any, overrides: Optional[Overrides]) -> str:
    overrides, shown = overrides or {}, field.metadata["shown"]
    default = overrides.get("", {}).get(field.name, field.default)
    if shown is None:
        shown = "" if default in (None, "", ()) else _shown(field, default)
    datasets: Dict[str, List[str]] = {}
    for dataset, values in overrides.items():
        if field.name in values and (values[field.name] != default or (dataset and field.metadata["shown"])):
            datasets.setdefault(_shown(field, values[field.name]), []).append(dataset)
    parts = [shown, *(f"{', '.join(names)} {value}" for value, names in datasets.items())]
    text = "; ".join(filter(None, parts))
    return f" (default: {text})" if text else ""


def _shown(field: Any, value: Any) -> str:
    if isinstance(value, bool):
        return _flag(field, "" if value else "no-")
    return "none" if value in (None, "", ()) else _value_type(field).format(value)


def _argparse_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert_text(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert_text
