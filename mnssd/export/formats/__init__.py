"""Export formats, one module each: the files a network is exported to, and the engines that run them.

Importing this package or a format imports neither MXNet nor ONNX, so that ``--help`` can list them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import OptionError
from ...options import unknown_name
from ...registry import Registry

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork
    from ..options import ExportOptions


class Tolerance(NamedTuple):
    """Limits of the parity check for rounded weights or activations; see `export.quantization_check`.

    The lowest cosine similarity of the outputs before decoding, and the lowest share of confident predictions
    that network and export have in common.
    """

    cosine: float
    agreement: float


INT8, BFLOAT16, FLOAT16 = Tolerance(0.9, 0.7), Tolerance(0.95, 0.8), Tolerance(0.999, 0.97)


class ExportFormat(ABC):
    """An export format: writes a network to files and loads them into an engine.

    To add one, subclass it in a module of this package or in a plugin, and register an instance.

    Attributes
    ----------
    name, engine : str
        Names for ``--format`` and ``--engine``.
    description : str
        One line for ``mnssd export --help``.
    priority : int
        Without measurements (`export.speed`), ``--engine auto`` uses the format of lowest priority that an
        export has.
    files : dict of str to str
        Each kind of file, its key in the sidecar, and how its name ends: ``{'onnx': '.onnx'}``.
    requirements : dict of str to str
        Modules that writing needs beyond those of mnssd, and their requirements for pip.
    needs_calibration : bool
        Whether `write` uses ``network.calibration``.
    needs_vnni : bool
        Whether the engine's sums of 8-bit integers are exact only on processors with VNNI, unless
        `sidecar.may_saturate` says otherwise; `load_export` warns on others.
    decodes_heads : bool
        Whether the files of a detector always end with its heads, which the engine decodes.
    needs_mxnet : bool
        Whether the engine is MXNet. If not, `load` may get the name of a device, which it ignores.
    in_all : bool
        Whether ``--format all`` includes it; not if writing needs a download.
    """

    name: str
    description: str
    engine: str
    priority: int = 10
    files: Mapping[str, str]
    requirements: Mapping[str, str] = {}
    needs_calibration: bool = False
    needs_vnni: bool = False
    decodes_heads: bool = False
    needs_mxnet: bool = True
    in_all: bool = True

    @property
    def section(self) -> str:
        """Key of the format's section in the sidecar."""
        return self.name.replace("-", "_")

    @abstractmethod
    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        """Write the files to `folder`, at `new_paths`.

        Returns the format's section of the sidecar: ``network.describe_format(...)`` and what else a reader
        needs.
        """

    @abstractmethod
    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """Load the files of an export, found by `paths`.

        Parameters
        ----------
        ctx : mxnet.Context
            Device for formats that MXNet runs.
        tensors : sequence of str
            Tensors that the engine returns instead of the outputs; see `ExportedNetwork.tensors`.

        Raises
        ------
        ExportError
            If a file cannot be loaded; the message names it.
        """

    def engines_to_check(
        self, network: ExportedNetwork, folder: Path, sidecar: Mapping[str, Any]
    ) -> Dict[str, Engine]:
        """Engines for the parity check, by name; each returns ``network.tensors``."""
        return {self.section: self.load(folder, sidecar, network.ctx, network.tensors)}

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        """Tolerance of the parity check; None if the outputs must be equal up to float32 rounding."""
        return None

    def new_paths(self, folder: Path, name: str) -> List[Path]:
        """Paths of the files of an export called `name`, in the order of `files`."""
        return [folder / f"{name}{ending}" for ending in self.files.values()]

    def paths(self, folder: Path, sidecar: Mapping[str, Any]) -> List[Path]:
        """Paths of the files that the sidecar lists, in the order of `files`."""
        return [folder / sidecar["files"][kind]["file"] for kind in self.files]

    def obstacle(self) -> str:
        """Why the format cannot be written here, and the remedy; empty if it can."""
        missing = [entry for module, entry in self.requirements.items() if find_spec(module) is None]
        packages = " ".join(f"'{entry}'" for entry in missing)
        return f"packages are missing; run: pip install {packages}" if missing else ""

    def prepare(self) -> None:  # noqa: B027, most formats need nothing
        """Get what `write` needs; called before anything is written."""


export_formats: Registry[ExportFormat] = Registry("export format", "mnssd.export.formats", dashes=True)


def by_priority() -> List[ExportFormat]:
    """All export formats, the preferred ones first."""
    return sorted(export_formats, key=lambda entry: entry.priority)


def engine_names() -> Tuple[str, ...]:
    """Choices of ``--engine``."""
    return ("auto", *(entry.engine for entry in by_priority()))


def format_of_engine(engine: str) -> ExportFormat:
    """The format that an engine runs; raises OptionError, with near names, if there is no such engine."""
    for entry in by_priority():
        if entry.engine == engine:
            return entry
    raise OptionError(unknown_name("engine", engine, engine_names()))
