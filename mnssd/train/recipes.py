"""Recipes: named sets of training options, one YAML file each.

The comment at the top of a recipe says what it is for and what it reaches. A recipe with the key ``budget``
leaves the options it does not name to `train.automatic`; for others, the general defaults complete it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Type

import yaml

from ..errors import OptionError
from ..options import parse_yaml, text_options, unknown_name

FOLDER = Path(__file__).parents[1] / "recipes"
ENDING = ".yaml"


@dataclass(frozen=True)
class Recipe:
    """Options by name; `budget` is the factor of the steps that the data choose, None if they do not."""

    options: Dict[str, Any]
    budget: Optional[float] = None


def recipe_names() -> List[str]:
    """Names of the built-in recipes."""
    return sorted(path.stem for path in FOLDER.glob(f"*{ENDING}"))


def read_recipe(name: str, kind: Type[Any]) -> Recipe:
    """Read the options of a recipe, checked and converted.

    Parameters
    ----------
    name : str
        One of `recipe_names`, or the path of a YAML file with the keys ``task``, ``options`` and, if other
        options are chosen from the data, ``budget``.
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
    keys = {"task", "options"}
    is_mapping = isinstance(content, dict) and keys <= set(content) <= keys | {"budget"}
    if not is_mapping or not isinstance(content["options"], dict):
        raise OptionError(f"{path}: expected a recipe with the keys 'task' and 'options'")
    if content["task"] != kind.task:
        raise OptionError(f"{path}: expected a recipe for {kind.task}, got one for {content['task']}")
    for key in ("recipe", "resume", "output"):
        if key in content["options"]:
            raise OptionError(f"{path}: {key} is not allowed in a recipe; give it on the command line")
    return Recipe(kind.convert(content["options"], str(path)), _budget(content, path))


def _budget(content: Dict[str, Any], path: Path) -> Optional[float]:
    if "budget" not in content:
        return None
    budget = content["budget"]
    if isinstance(budget, (int, float)) and not isinstance(budget, bool) and 0 < budget < float("inf"):
        return float(budget)
    raise OptionError(f"{path}: budget: expected a number above 0, such as 0.5, got {budget!r}")
