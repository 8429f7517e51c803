"""The Python API: training, evaluation and export as functions, with the options of the command line.

Functions take the options of their command as keyword arguments, by the same names and with the same checks:
``--batch-size 8`` is ``batch_size=8``. Where the command prints an error, they raise a subclass of
`mnssd.errors.MnssdError`.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Union

from . import zoo
from .data.formats import allow_dataset
from .errors import OptionError
from .options import from_mapping
from .tasks import compare_runs as comparing
from .tasks import evaluate as evaluation
from .tasks import export as exporting
from .tasks.given_datasets import by_list, datasets_of, given, is_object
from .tasks.given_names import data_options_of, model_options_of
from .tasks.given_transforms import NO_TRANSFORMS, Transform, Transforms
from .train.run_folder import RunFolder

if TYPE_CHECKING:
    from .inference.classifier import Classifier
    from .inference.detector import Detector
    from .metrics.classification import ClassificationResult
    from .metrics.comparison import Comparison

PathLike = Union[str, "os.PathLike[str]"]

Data = Union[PathLike, Any]
"""A folder or name of a dataset, or the dataset itself; see `mnssd.data.gluon.read.from_gluon`."""

get_model = zoo.get_model
list_models = zoo.list_models


class Run:
    """A training run and its network; `path` is the run folder.

    Attributes
    ----------
    path : Path
    task : str
        ``'detection'`` or ``'classification'``.

    Examples
    --------
    >>> run = mnssd.Run("runs/shapes")                    # doctest: +SKIP
    >>> run.evaluate().mean_ap                            # doctest: +SKIP
    0.903
    >>> run.export("onnx", output="exports/shapes")       # doctest: +SKIP
    PosixPath('exports/shapes')
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._datasets: Mapping[str, Any] = {}
        self.task: str = RunFolder(self.path).read_task()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def weights(self) -> Path:
        """Parameter file of the best weights."""
        return RunFolder(self.path).best

    def evaluate(
        self, data: Optional[Data] = None, **options: Any
    ) -> Union[evaluation.DetectionEvaluation, ClassificationResult]:
        """Evaluate the network; see `mnssd.evaluate`."""
        return evaluate(self, data, **options)

    def export(
        self,
        format: Union[str, Sequence[str], None] = None,
        output: Optional[PathLike] = None,
        **options: Any,
    ) -> Path:
        """Export the network; see `mnssd.export`."""
        return export(self, format, output, **options)

    def detector(self, ctx: str = "auto") -> Detector:
        """The trained detector, ready to be called with images; raises WeightsError for a classifier."""
        from .inference.detector import Detector

        return Detector.load(self.path, ctx)

    def classifier(self, ctx: str = "auto") -> Classifier:
        """The trained classifier; as `detector`."""
        from .inference.classifier import Classifier

        return Classifier.load(self.path, ctx)

    def report(
        self,
        output: Optional[PathLike] = None,
        data: Optional[Data] = None,
        val_data: Optional[Any] = None,
    ) -> Path:
        """Write the HTML report of a detection run; returns the path of its ``index.html``.

        Parameters
        ----------
        output : str or Path, optional
            Folder of the page. Defaults to ``report`` in the run folder.
        data : str, Path or dataset, optional
            Folder of the dataset, if it has moved since the training; or the dataset that was given to it.
        val_data : dataset, optional
            As given to the training.
        """
        from .report.collect import collect
        from .report.page import write_report

        root = "" if data is None or is_object(data) else os.fspath(data)
        with datasets_of(self._datasets, data, val_data):
            return write_report(collect(self.path, root), Path(output or self.path / "report"))


def train_detector(
    data: Optional[Data] = None,
    model: Optional[str] = None,
    weights: Optional[PathLike] = None,
    epochs: Optional[int] = None,
    val_data: Optional[Any] = None,
    transform: Optional[Transform] = None,
    val_transform: Optional[Transform] = None,
    **options: Any,
) -> Run:
    """Train an SSD detector.

    Parameters
    ----------
    data : str, Path or dataset, optional
        Folder of a dataset in any known format, or the name of a format (``'voc'``, ``'shapes'``) for its
        default folder. Defaults to ``'shapes'``, the built-in dataset. Or a dataset of GluonCV, such as
        ``gluoncv.data.VOCDetection(...)``, or another object with ``len()`` and items ``(image, label)``;
        if it has no attribute ``classes``, give ``classes=['cat', 'dog']``. To resume, give it again.
    model : str, optional
        Name of the network, such as ``'ssdlite_320_mobilenet_v1_0.5'``; see `list_models`.
    weights : str or Path, optional
        Weights to start from: ``'imagenet'``, the best published ones for the network, which are downloaded
        once; a name that ``mnssd weights`` lists; a file, MXNet's ``.params``, or ``.pth`` or
        ``.safetensors`` of torchvision or timm; or ``'none'``, random weights. Defaults to ``'imagenet'``;
        for ``'shapes'`` to ``'none'``.
    epochs : int, optional
        Passes over the training images.
    val_data : dataset, optional
        With a dataset as `data`: the one to validate on. Defaults to a tenth of `data`, which is held out.
    transform, val_transform : callable, optional
        ``(image, label) -> (image, label)``, or ``-> (image, cls_targets, box_targets)`` for training, in
        place of the augmentation and for validations; see `mnssd.tasks.transformed_samples`. To resume,
        give them again.
    **options
        Options of ``mnssd train-ssd``, such as ``lr=0.001``, ``batch_size=8``, ``output='runs/cats'``,
        ``recipe='fast'``, ``resume='runs/cats'``.

    Raises
    ------
    OptionError
        If an option is unknown or invalid.
    DataError, WeightsError
        If the dataset or the weights cannot be used.
    DownloadError
        If the weights have to be downloaded and cannot.

    Examples
    --------
    >>> run = mnssd.train_detector(data="photos", epochs=20)  # doctest: +SKIP
    """
    datasets, transforms = by_list(data, val_data), Transforms(transform, val_transform)
    with given(datasets) as name:
        run = _train(
            "detection", name or data, model, options, transforms, weights=weights, epochs=epochs
        )  # fmt: skip
    run._datasets = datasets
    return run


def train_classifier(
    data: Optional[PathLike] = None,
    model: Optional[str] = None,
    weights: Optional[PathLike] = None,
    epochs: Optional[int] = None,
    **options: Any,
) -> Run:
    """Train a MobileNet classifier; `weights`, `epochs` and errors are as for `train_detector`.

    Parameters
    ----------
    data : str or Path, optional
        Folder with one folder of images per class, or the name of a dataset (``'shapes'``, ``'cifar10'``).
    model : str, optional
        Name of the network, such as ``'mobilenet_v2_0.5'``.
    **options
        Options of ``mnssd train-cls``.

    Examples
    --------
    >>> run = mnssd.train_classifier(data="photos", model="mobilenet_v2", epochs=5)  # doctest: +SKIP
    """
    return _train("classification", data, model, options, weights=weights, epochs=epochs)


def evaluate(
    run: Union[Run, PathLike], data: Optional[Data] = None, **options: Any
) -> Union[evaluation.DetectionEvaluation, ClassificationResult]:
    """Evaluate a trained network; the result has a `mean_ap` (detector) or a `top1` (classifier).

    Parameters
    ----------
    run : Run, str or Path
        A run, its folder, or a parameter file in it.
    data : str, Path or dataset, optional
        Folder of a dataset, the name of a format, or a dataset as for `train_detector`, all of which is used.
        Defaults to the data that the run was validated on.
    **options
        Options of ``mnssd eval`` (for classifiers ``mnssd eval-cls``), such as ``metric='voc12'``.

    Examples
    --------
    >>> mnssd.evaluate("runs/shapes", metric="voc12").mean_ap  # doctest: +SKIP
    0.91
    """
    path = path_of(run)
    task = RunFolder.containing(path).read_task()
    if task == "detection":
        with datasets_of(_own_datasets(run), data) as own:
            values = _with_text_paths({**(own or data_options_of(data, task)), **options})
            values = evaluation.options_of_run(path, values)
            return evaluation.evaluate_detector(path, from_mapping(evaluation.EvalOptions, values))
    values = _with_text_paths({**data_options_of(data, task), **options})
    return evaluation.evaluate_classifier_run(path, from_mapping(evaluation.EvalClassOptions, values))


def compare_runs(
    a: Union[Run, PathLike], b: Union[Run, PathLike], data: Optional[Data] = None, **options: Any
) -> Comparison:
    """Compare two trained networks on the same images: is B better than A beyond chance?

    The result has the mAP or top-1 of both and their difference, each with a 95 % bootstrap interval over the
    images, the share of resamples in which each is better, and ``better``: ``'a'``, ``'b'`` or None.

    Parameters
    ----------
    a, b : Run, str or Path
        Each a run, its folder, a parameter file in it, an export, or a folder of detection files.
    data : str, Path or dataset, optional
        As for `evaluate`. Defaults to the data that the runs were validated on.
    **options
        Options of ``mnssd compare-runs``, such as ``metric='voc12'``.

    Raises
    ------
    OptionError
        If the classes of the two differ, or the data that they were validated on and `data` is not given.

    Examples
    --------
    >>> mnssd.compare_runs("runs/one", "runs/two").score.difference.interval  # doctest: +SKIP
    Interval(low=-0.012, high=0.031)
    """
    paths = path_of(a), path_of(b)
    with datasets_of(_own_datasets(a), data) as own:
        data_options = own or (data_options_of(data, comparing.task_of(paths[0])) if data is not None else {})
        return comparing.compare_runs(*paths, _with_text_paths({**data_options, **options}))


def export(
    run: Union[Run, PathLike],
    format: Union[str, Sequence[str], None] = None,
    output: Optional[PathLike] = None,
    images: Union[PathLike, Sequence[PathLike], None] = None,
    **options: Any,
) -> Path:
    """Export a trained network and compare the files with it; returns the folder that was written.

    `Detector.load` and `Classifier.load` take this folder.

    Parameters
    ----------
    run : Run, str or Path
        A run, its folder, or a parameter file in it.
    format : str or sequence of str, optional
        Names of formats as for ``mnssd export --format``, such as ``'onnx'``, ``'openvino'`` or ``'web'``.
        Defaults to ``'shared'`` with `shared_bits` or `huffman`, else to ``'symbol'``.
    output : str or Path, optional
        Folder to write. Defaults to ``exports/NAME`` for a run folder called ``NAME``.
    images : str, Path or sequence of them, optional
        Images, or folders of them, for the comparison and for calibration. Defaults to those of the run.
    **options
        Options of ``mnssd export``, such as ``raw_heads=True`` or ``shared_bits=5, huffman=True``.

    Raises
    ------
    ExportError
        If the outputs of the files differ from the network's; nothing is written.

    Examples
    --------
    >>> mnssd.export("runs/shapes", ["symbol", "onnx"])  # doctest: +SKIP
    PosixPath('exports/shapes')
    """
    path = path_of(run)
    folder = Path(output or Path("exports") / RunFolder.containing(path).path.name)
    if format is not None:
        options["format"] = format if isinstance(format, str) else ",".join(format)
    values = from_mapping(exporting.RunExportOptions, _with_text_paths({"output": folder, **options}))
    given = [images] if isinstance(images, (str, os.PathLike)) else images or ()
    with datasets_of(_own_datasets(run)):
        exporting.export_run(path, values, [os.fspath(path) for path in given])
    return folder


def import_model(file: PathLike, labels: Optional[PathLike] = None, output: Optional[PathLike] = None) -> Run:
    """Import a detector or classifier that another framework trained; compares it with its file.

    Parameters
    ----------
    file : str or Path
        TensorFlow Lite (``.tflite``) and 1 (``.pb``), OpenVINO IR (``.xml``), Caffe (``.prototxt``), SSDs of
        PyTorch (``.pth``) and GluonCV (``.params``); see docs/import.md.
    labels : str or Path, optional
        Names of the classes: a text file with one per line, or a ``.pbtxt`` label map.
    output : str or Path, optional
        Run folder to write, which must not exist or be empty; by default ``runs/`` and the name of `file`.

    Raises
    ------
    ImportedFileError
        If the file is damaged, or holds a network that has no equal here; the message names the operator.
    OptionError
        If `output` is not empty, or a package that reading needs is missing.
    """
    from .importers.run import import_file

    texts = [None if path is None else os.fspath(path) for path in (labels, output)]
    return Run(import_file(os.fspath(file), *texts).path)


def save_run(net: Any, output: PathLike, data: Optional[PathLike] = None) -> Run:
    """Write a detector as a run, to evaluate, export or train it further.

    Parameters
    ----------
    net : mnssd.nn.SSD
        From `get_model`, with weights; also after a training of its own, or of its ``as_gluoncv()``.
    output : str or Path
        Folder to write, which must not exist or be empty.
    data : str or Path, optional
        Folder of a dataset, or the name of a format, that the run is evaluated on.

    Examples
    --------
    >>> net = mnssd.get_model("ssd_512_mobilenet1.0_voc", weights="theirs.params")  # doctest: +SKIP
    >>> mnssd.save_run(net, "runs/theirs", data="voc").evaluate()  # doctest: +SKIP
    """
    from .tasks.save_run import save_run as write

    return Run(write(net, os.fspath(output), _with_text_paths(data_options_of(data, "detection"))))


def path_of(run: Union[Run, PathLike]) -> str:
    """Path of a run folder."""
    return os.fspath(run.path if isinstance(run, Run) else run)


def _own_datasets(run: Union[Run, PathLike]) -> Mapping[str, Any]:
    """The datasets that were given to the training of a run."""
    return run._datasets if isinstance(run, Run) else {}


def _train(
    task: str, data: Optional[PathLike], model: Optional[str], options: Dict[str, Any],
    transforms: Transforms = NO_TRANSFORMS, **arguments: Any,
) -> Run:  # fmt: skip
    from .tasks import run

    detect = partial(run.train_detector, transforms=transforms)
    train = detect if task == "detection" else run.train_classifier
    data_options = data_options_of(data, task)
    if "dataset" in options and "data_root" in data_options:  # the format of the folder
        data_options.pop("dataset", None)
    arguments = {**data_options, **model_options_of(model, task), **arguments}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    for name in arguments:
        if name in options:
            raise OptionError(f"{name}: given as an option ({options[name]!r}) and by data= or model=")
    return Run(train(_with_text_paths({**arguments, **options})))


def _with_text_paths(options: Dict[str, Any]) -> Dict[str, Any]:
    allow_dataset(options.get("dataset"))
    paths = {key: os.fspath(value) for key, value in options.items() if isinstance(value, os.PathLike)}
    return {**options, **paths}
