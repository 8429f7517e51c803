"""Run folders: the paths of their files, and a lock against a second writer."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Union

import yaml

from .. import __version__
from ..errors import MnssdError, OptionError
from ..files import is_temporary, write_yaml
from ..nn.backbones import backbones
from ..options import parse_yaml
from ..zoo import BEST_FILE, CONFIG_FILE, ClassifierSpec, DetectorSpec, read_spec
from .options import TRAININGS, Training

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run, as stored in ``config.yaml``."""

    spec: Union[DetectorSpec, ClassifierSpec]
    options: Training
    version: str = __version__  # of the mnssd that started the run
    chosen: str = ""  # line about the options chosen from the data; empty if there are none

    @property
    def task(self) -> str:
        """``'detection'`` or ``'classification'``."""
        return self.options.task


class RunFolder:
    """Folder of a training run; its attributes are the paths of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.log = path / CONFIG_FILE, path / "log.csv"
        self.start = path / "start.json"
        self.best, self.last, self.previous = path / BEST_FILE, path / "last.ckpt", path / "previous.ckpt"
        self.tensorboard = path / "tensorboard"
        self._lock: Optional[int] = None

    @classmethod
    def create(cls, output: str, name: str) -> RunFolder:
        """Create and lock a folder: `output`, or ``runs/NAME`` (numbered if taken) if `output` is empty.

        Raises
        ------
        OptionError
            If `output` exists and is not empty.
        MnssdError
            If it cannot be created, or another process is using it.
        """
        name = name.replace(":", "-")  # of gluoncv:MODULE:NAME; some file systems have none
        for number in itertools.count(1):
            path = Path(output or (f"runs/{name}-{number}" if number > 1 else f"runs/{name}"))
            try:
                path.mkdir(parents=True, exist_ok=bool(output))
                break
            except OSError as error:
                if output and path.exists():
                    raise OptionError(f"{path}: is a file; choose another --output") from error
                if output or not path.exists():
                    raise MnssdError(
                        f"{path}: cannot be created ({error.strerror}); choose another --output"
                    ) from error
        run = cls(path)
        run.lock()
        if any(not is_temporary(entry) for entry in path.iterdir()):
            run.unlock()
            raise OptionError(
                f"{path}: exists already; continue it with --resume {path}, or choose another --output"
            )
        return run

    def lock(self) -> None:
        """Lock the folder until this process ends, and delete temporary files of killed processes.

        Raises MnssdError if another process holds the lock.
        """
        if fcntl is None or self._lock is not None:
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(folder)
            raise MnssdError(
                f"{self.path}: another process is training there; wait for it, or choose another --output"
            ) from error
        self._lock = folder
        for path in filter(is_temporary, self.path.iterdir()):
            path.unlink()

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.last.exists() or self.previous.exists()

    @classmethod
    def containing(cls, path: str) -> RunFolder:
        """The run folder `path`, or the one that holds the parameter file `path`.

        Raises MnssdError if `path` does not exist, or its folder has no ``config.yaml``.
        """
        place = Path(path)
        if not place.exists():
            raise MnssdError(f"{path}: no such run folder or parameter file")
        run = cls(place if place.is_dir() else place.parent)
        if not run.config.exists():
            raise MnssdError(f"{path}: not a run; expected {run.config}")
        return run

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.yaml``."""
        options = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in config.options.values().items()
            if name not in ("resume", "output")
        }
        content = {
            "mnssd": config.version,
            "task": config.task,
            config.spec.section: config.spec.as_dict(),
            **({"chosen": config.chosen} if config.chosen else {}),
            "options": options,
        }
        write_yaml(self.config, content)

    def read_task(self) -> str:
        """The task of the run, ``'detection'`` or ``'classification'``; raises as `read_config`."""
        return str(self._read_config()["task"])

    def read_config(self) -> RunConfig:
        """Read ``config.yaml``.

        Raises MnssdError if it is missing, damaged, or has an unknown option or an invalid value.
        """
        content = self._read_config()
        task, source = content["task"], str(self.config)
        network = str(content["options"].get("network", DetectorSpec.network))
        if network not in backbones:
            raise MnssdError(
                f"{source}: the network {network!r} is not built in; load its file with --plugin FILE"
            )
        options = TRAININGS[task].resolve(content["options"], source)
        kind: Any = DetectorSpec if task == "detection" else ClassifierSpec
        version, chosen = (str(content.get(key, "")) for key in ("mnssd", "chosen"))
        return RunConfig(read_spec(source, kind), options, version, chosen)

    def _read_config(self) -> Dict[str, Any]:
        try:
            content = parse_yaml(self.config.read_text(encoding="utf-8"), ("classes",))
        except OSError as error:
            raise MnssdError(f"{self.path}: not a run ({self.config}: {error.strerror})") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # all of them are possible
            raise MnssdError(f"{self.config}: damaged ({error}); restore it or start a new run") from error
        is_config = isinstance(content, dict) and isinstance(content.get("options"), dict)
        if not is_config or str(content.get("task")) not in TRAININGS:
            raise MnssdError(f"{self.config}: not the configuration of a run; restore it or start a new run")
        return content  # type: ignore[no-any-return]
