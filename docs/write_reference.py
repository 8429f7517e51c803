"""Writes docs/reference.md from the commands' options and the docstrings of what is meant to be imported.

    python docs/write_reference.py

A test compares: whoever changes an option or a docstring runs it again.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any, Iterator, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mnssd.cli.main import COMMANDS

PUBLIC = (
    "mnssd.zoo.get_model", "mnssd.zoo.load_detector", "mnssd.inference.detector.Detector",
    "mnssd.inference.results.DetectionResult", "mnssd.inference.classifier.Classifier", "mnssd.export.detector.export_detector",
    "mnssd.data.open.open_dataset", "mnssd.data.dataset.Dataset", "mnssd.data.sample.Sample",
    "mnssd.data.sample.Detections", "mnssd.data.image.read_image", "mnssd.data.convert.convert",
    "mnssd.validation.check.check_dataset", "mnssd.inference.predict.predict", "mnssd.inference.predict.evaluate",
    "mnssd.metrics.voc.VOCMetric", "mnssd.metrics.voc.VOCResult", "mnssd.metrics.coco.COCOMetric",
    "mnssd.metrics.error_analysis.analyze_errors", "mnssd.tasks.run.train_detector", "mnssd.graph.fast.fast_block",
    "mnssd.graph.inference.inference_block",
)  # fmt: skip
"""What a program that uses the package imports."""

PAGE = Path(__file__).with_name("reference.md")


def reference() -> str:
    """The page."""
    lines = [
        "# Reference",
        "",
        "Written by `docs/write_reference.py` from the program. Commands first, then what Python imports.",
        "",
        "## Commands",
        "",
    ]
    for name in COMMANDS:
        lines += [*_command(name), ""]
    lines += ["## In Python", ""]
    for name in PUBLIC:
        lines += [*_object(name), ""]
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str) -> Iterator[str]:
    module = importlib.import_module(f"mnssd.cli.{COMMANDS[name].module}")
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    yield f"### mnssd {name}"
    yield ""
    yield inspect.cleandoc(module.__doc__ or "")
    for group in parser._action_groups:
        rows = [row for row in map(_row, group._group_actions) if row]
        if rows:
            yield ""
            plain = group.title in ("positional arguments", "options", "optional arguments")
            yield f"| {'argument' if plain else group.title} | |"
            yield "|---|---|"
            yield from rows


def _row(action: argparse.Action) -> str:
    if action.help == argparse.SUPPRESS:
        return ""
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.choices:
        name += f" {{{','.join(map(str, action.choices))}}}"
    elif action.option_strings and action.nargs != 0:
        name += f" {action.metavar or action.dest.upper()}"
    text = (
        (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%").replace("|", "\\|")
    )
    return f"| `{name}` | {text} |"


def _object(name: str) -> List[str]:
    module, _, attribute = name.rpartition(".")
    thing: Any = getattr(importlib.import_module(module), attribute)
    lines = [f"### {name}", "", "```text", *_signature(attribute, thing), "", *_text(thing), "```"]
    if inspect.isclass(thing):
        for method, member in vars(thing).items():
            function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            is_public = not method.startswith("_") or method == "__call__"
            if is_public and inspect.isfunction(function) and function.__doc__:
                lines += [
                    "",
                    "```text",
                    *_signature(f"{attribute}.{method}", function),
                    "",
                    *_text(function),
                    "```",
                ]
    return lines


def _signature(name: str, thing: Any) -> List[str]:
    parameters = inspect.signature(thing).parameters.values()
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    shown = re.sub(r"<(factory|function [^>]*>[^>]*)>", "...", str(inspect.Signature(plain)))
    return [f"{name}{shown}"]


def _text(thing: Any) -> List[str]:
    return [line.rstrip() for line in inspect.cleandoc(thing.__doc__ or "").splitlines()]


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
