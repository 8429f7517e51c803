"""Training that starts from a run folder, of an imported network or a published detector among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Type, Union

from ..errors import OptionError, WeightsError
from ..nn.backbones import INPUT_VARIANTS
from ..nn.choices import backbone_options
from ..train.options import Training
from ..weights.detectors import detector_path
from ..zoo import BEST_FILE, CONFIG_FILE, ClassifierSpec, DetectorSpec, read_spec


def with_structure(kind: Type[Training], values: Mapping[str, Any]) -> Dict[str, Any]:
    """Options of a run whose ``weights`` may be a run folder, which stands for the best weights in it, or the
    name of a published detector.

    The new network also gets the structure of an imported one, which no option tells.

    Parameters
    ----------
    kind : type
        `DetectionTraining` or `ClassificationTraining`.
    values : mapping
        Options by name.

    Raises
    ------
    OptionError
        If an option contradicts the imported network.
    """
    changed = with_weights_file(values)
    place = Path(changed["weights"]) if changed.get("weights") else None
    folder = place and place.parent
    if place is None or folder is None or not (folder / CONFIG_FILE).is_file() or not place.exists():
        return changed  # a name such as "imagenet" is no file, even in a run folder
    spec = _spec_of(folder)
    layout = getattr(spec, "layout", None)
    if spec is None or not (layout or set(INPUT_VARIANTS) & set(spec.variant)):
        return changed
    needed = {"network": spec.network, "width": spec.width, **_options_of(kind, spec)}
    for name, value in needed.items():
        if values.get(name, value) != value:
            raise OptionError(
                f"--{name.replace('_', '-')} {values[name]}: the imported network in {folder} has {value};"
                " omit the option"
            )
    own = {"structure": str(folder), "size": spec.size} if spec.section == _SECTIONS[kind.task] else {}
    return {**needed, **own, **changed}


def with_weights_file(values: Mapping[str, Any]) -> Dict[str, Any]:
    """Options in which the best weights replace a run folder, or the name of a published detector, as
    ``weights``.

    A run stores them like this, so that they are compared like this when it is resumed.
    """
    weights = values.get("weights") and detector_path(values["weights"])
    folder = Path(weights) if weights else None
    if folder is None or not (folder / CONFIG_FILE).is_file():
        return {**values, "weights": weights} if weights else dict(values)
    return {**values, "weights": str(folder / BEST_FILE)}


_SECTIONS = {"detection": DetectorSpec.section, "classification": ClassifierSpec.section}


def _options_of(kind: Type[Training], spec: Union[DetectorSpec, ClassifierSpec]) -> Dict[str, Any]:
    """Options of a spec that the training takes, other than network and width."""
    known = {name for group in kind.groups for name in group.__dataclass_fields__}
    options = {**backbone_options(spec), **({"head": spec.head} if isinstance(spec, DetectorSpec) else {})}
    return {name: value for name, value in options.items() if name in known}


def _spec_of(folder: Path) -> Union[DetectorSpec, ClassifierSpec, None]:
    """Structure of the run in a folder; None if its configuration is not one."""
    kinds: Tuple[Any, ...] = (DetectorSpec, ClassifierSpec)
    for kind in kinds:
        try:
            return read_spec(str(folder / CONFIG_FILE), kind)  # type: ignore[no-any-return]
        except WeightsError:
            continue
    return None
