"""Recipes: named sets of options, a file each, whose first lines say what they reach and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence, Type

import yaml

from ..errors import OptionError
from ..options import from_text, unknown_name

FOLDER = Path(__file__).parents[1] / "recipes"
ENDING = ".yaml"


def recipe_names() -> List[str]:
    """Of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{ENDING}"))


def read_recipe(name: str, task: str, kinds: Sequence[Type[Any]]) -> Dict[str, Any]:
    """The options of a recipe, by name.

    Parameters
    ----------
    name : str
        One of `recipe_names`, or the path of a YAML file like them: ``task``, and ``options`` by name,
        written as on the command line without the dashes in front.
    task : str
        ``'detection'`` or ``'classification'``; the recipe must be of it.
    kinds : sequence of dataclass
        Where the options are fields.

    Raises
    ------
    OptionError
        For a recipe that is not there, is damaged, belongs to the other task, or has an option that is
        unknown or has a value that makes no sense.
    """
    path = FOLDER / f"{name}{ENDING}"
    if not path.is_file():
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            raise OptionError(unknown_name("recipe", name, recipe_names()) + "; or give a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(
            f"{path}: {error.strerror}; --recipe takes {', '.join(recipe_names())} or a file"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # safe_load raises all of them
        raise OptionError(f"{path}: not YAML ({error})") from error
    if (
        not isinstance(content, dict)
        or set(content) != {"task", "options"}
        or not isinstance(content["options"], dict)
    ):
        raise OptionError(f"{path}: a recipe has two keys, 'task' and 'options'")
    if content["task"] != task:
        raise OptionError(f"{path}: a recipe of {content['task']}, not of {task}; use its own command")
    return {key: _value(kinds, key, value, path) for key, value in content["options"].items()}


def _value(kinds: Sequence[Type[Any]], key: Any, value: Any, path: Path) -> Any:
    owner = next((kind for kind in kinds if key in kind.__dataclass_fields__), None)
    if owner is None:
        known = [name for kind in kinds for name in kind.__dataclass_fields__]
        raise OptionError(f"{path}: {unknown_name('option', str(key), known)}")
    if key in ("recipe", "resume", "output"):
        raise OptionError(f"{path}: {key} belongs on the command line, not into a recipe")
    try:
        return from_text(owner, key, value)
    except ValueError as error:
        raise OptionError(f"{path}: {error}") from error
