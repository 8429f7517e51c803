"""Run folders of detectors that were not trained by this package's loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

from ..errors import OptionError
from ..files import atomic_path
from ..nn.choices import backbone_options
from ..runtime.settings import wait_all
from ..train.checkpoint import save_weights
from ..train.options import ClassificationTraining, DetectionTraining
from ..train.run_folder import RunConfig, RunFolder
from ..zoo import ClassifierSpec


def save_run(net: Any, output: str, given: Mapping[str, Any]) -> Path:
    """Write a detector as a run folder; returns its path.

    Parameters
    ----------
    net : mnssd.nn.SSD or mnssd.nn.gluoncv_ssd.GluonCVSSD
        Made by `zoo.get_model`, `zoo.build_detector` or `zoo.load_detector`, with weights.
    output : str
        Folder to write, which must not exist or be empty.
    given : mapping
        Options of the run that say which data it belongs to (`dataset`, `data_root`).

    Raises
    ------
    OptionError
        If the network was not made by `zoo`, has no weights, or `output` is not empty.
    """
    net = getattr(net, "net", net)
    spec = getattr(net, "spec", None)
    if spec is None:
        raise OptionError(f"{output}: expected a detector of mnssd.get_model, got {type(net).__name__}")
    parameters = net.heads._collect_params_with_prefix()
    empty = [name for name, parameter in parameters.items() if parameter._data is None]
    if empty:
        raise OptionError(
            f"{output}: the network has no weights yet ({empty[0]}); load some, or call it once"
        )
    spec = replace(spec, classes=net.classes)
    structure = {"network": spec.network, "width": spec.width, "size": spec.size, "head": spec.head}
    given = given or {"dataset": "auto"}  # of the folder to evaluate on
    options = DetectionTraining.resolve({**given, **structure, **backbone_options(spec), "weights": None})
    run = RunFolder.create(output, "")
    try:
        run.write_config(RunConfig(spec, options))
        wait_all()
        with atomic_path(run.best) as temporary:
            net.heads.save_parameters(str(temporary))
    finally:
        run.unlock()
    return run.path


def save_classifier_run(net: Any, spec: ClassifierSpec, output: str) -> Path:
    """Write a classifier with weights as a run folder; raises OptionError if `output` is not empty."""
    structure = {"network": spec.network, "width": spec.width, "size": spec.size}
    options = ClassificationTraining.resolve({**structure, **backbone_options(spec), "weights": None})
    run = RunFolder.create(output, "")
    try:
        run.write_config(RunConfig(spec, options))
        save_weights(run.best, net)
    finally:
        run.unlock()
    return run.path
