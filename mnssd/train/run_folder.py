"""The folder of a run: where things lie in it, and that no second run writes into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import yaml

from ..errors import MnssdError, OptionError
from ..files import is_temporary, write_text
from ..zoo import BEST_FILE, CONFIG_FILE

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


class RunFolder:
    """``runs/NAME``.

    Attributes
    ----------
    path : Path
    config, log, best, last, previous : Path
        ``config.yaml``, ``log.csv``, ``best.params``, ``last.ckpt``, ``previous.ckpt``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.log = path / CONFIG_FILE, path / "log.csv"
        self.best, self.last, self.previous = path / BEST_FILE, path / "last.ckpt", path / "previous.ckpt"
        self._lock: Optional[int] = None

    @classmethod
    def create(cls, output: str, name: str) -> RunFolder:
        """A new folder, locked: `output` if given, which must be free, else ``runs/NAME``, with a number.

        Raises
        ------
        OptionError
            When `output` exists and is not empty.
        MnssdError
            When it cannot be made, or another process writes into it.
        """
        path, number = Path(output) if output else Path("runs") / name, 1
        while True:
            try:
                path.mkdir(parents=True, exist_ok=bool(output))
                break
            except OSError as error:
                if output and path.exists():
                    raise OptionError(f"{path}: is a file; choose another --output") from error
                if output or not path.exists():
                    raise MnssdError(
                        f"{path}: cannot be made ({error.strerror}); choose another --output"
                    ) from error
            number += 1
            path = Path("runs") / f"{name}-{number}"
        run = cls(path)
        run.lock()
        if any(not is_temporary(entry) for entry in path.iterdir()):
            run.unlock()
            raise OptionError(
                f"{path}: exists already; go on with it by --resume {path}, or choose another --output"
            )
        return run

    def lock(self) -> None:
        """Keep other processes out until this one ends.

        Raises
        ------
        MnssdError
            When another one has done so before.
        """
        if fcntl is None or self._lock is not None:
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(folder)
            raise MnssdError(
                f"{self.path}: another process trains there; wait for it, or choose another --output"
            ) from error
        self._lock = folder
        for path in filter(is_temporary, self.path.iterdir()):  # left behind by a process that was killed
            path.unlink()

    def unlock(self) -> None:
        """Let others in again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def has_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.last.exists() or self.previous.exists()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the run's configuration."""
        write_text(self.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def read_config(self) -> Dict[str, Any]:
        """The run's configuration.

        Raises
        ------
        MnssdError
            When there is none, or it is damaged.
        """
        try:
            config = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except OSError as error:
            raise MnssdError(f"{self.config}: {error.strerror}; {self.path} is no run folder") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # safe_load raises all of them
            raise MnssdError(f"{self.config}: damaged ({error}); restore it or start a new run") from error
        if not isinstance(config, dict) or "options" not in config:
            raise MnssdError(f"{self.config}: not the configuration of a run; restore it or start a new run")
        return config
