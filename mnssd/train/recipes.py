"""Recipes: named sets of training options, one YAML file each.

The comment at the top of a recipe says what it is for and what it reaches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Type

import yaml

from ..errors import OptionError
from ..options import parse_yaml, text_options, unknown_name

FOLDER = Path(__file__).parents[1] / "recipes"
ENDING = ".yaml"


def recipe_names() -> List[str]:
    """Names of the built-in recipes."""
    return sorted(path.stem for path in FOLDER.glob(f"*{ENDING}"))


def read_recipe(name: str, kind: Type[Any]) -> Dict[str, Any]:
    """Read the options of a recipe, checked and converted.

    Parameters
    ----------
    name : str
        One of `recipe_names`, or the path of a YAML file with the keys ``task`` and ``options``.
    kind : type
        `DetectionTraining` or `ClassificationTraining`.

    Raises
    ------
    OptionError
        If the recipe is missing, damaged, for the other task, or has an unknown option or invalid value.
    """
    path = FOLDER / f"{name}{ENDING}"
    if not path.is_file():
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            raise OptionError(f"{unknown_name('recipe', name, recipe_names())}; or give a YAML file")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), text_options(*kind.groups))
    except OSError as error:
        names = ", ".join(recipe_names())
        raise OptionError(f"{path}: {error.strerror}; expected a YAML file or one of {names}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # all of them are possible
        raise OptionError(f"{path}: not YAML ({error})") from error
    is_mapping = isinstance(content, dict) and set(content) == {"task", "options"}
    if not is_mapping or not isinstance(content["options"], dict):
        raise OptionError(f"{path}: expected a recipe with the keys 'task' and 'options'")
    if content["task"] != kind.task:
        raise OptionError(f"{path}: expected a recipe for {kind.task}, got one for {content['task']}")
    for key in ("recipe", "resume", "output"):
        if key in content["options"]:
            raise OptionError(f"{path}: {key} is not allowed in a recipe; give it on the command line")
    return kind.convert(content["options"], str(path))  # type: ignore[no-any-return]
