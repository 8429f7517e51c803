"""The folder of a run: where things lie in it, and that no second run writes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping

import yaml

from ..errors import MnssdError, OptionError
from ..files import write_whole
from ..zoo import BEST_FILE, CONFIG_FILE


class RunFolder:
    """``runs/NAME``.

    Attributes
    ----------
    path : Path
    config, log, best, last : Path
        ``config.yaml``, ``log.csv``, ``best.params``, ``last.ckpt``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.log = path / CONFIG_FILE, path / "log.csv"
        self.best, self.last = path / BEST_FILE, path / "last.ckpt"

    @classmethod
    def create(cls, output: str, name: str) -> RunFolder:
        """A new folder: `output` if given, which must be free, else ``runs/NAME`` with a number where taken.

        Raises
        ------
        OptionError
            When `output` exists and is not empty.
        MnssdError
            When it cannot be made.
        """
        path = Path(output) if output else Path("runs") / name
        number = 1
        while not output and path.exists():
            number += 1
            path = Path("runs") / f"{name}-{number}"
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OptionError(
                f"{path}: exists already; go on with it by --resume {path}, or choose another --output"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MnssdError(f"{path}: cannot be made ({error.strerror}); choose another --output") from error
        return cls(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the run's configuration."""
        write_whole(
            self.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode("utf-8")
        )

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
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise MnssdError(f"{self.config}: damaged ({error}); restore it or start a new run") from error
        if not isinstance(config, dict) or "options" not in config:
            raise MnssdError(f"{self.config}: not the configuration of a run; restore it or start a new run")
        return config
