"""Find labels that look wrong to a trained detector: missing, spurious, of another class, or loose boxes.

Detects in the labeled images of the run, or of --data-root, and compares. Each line has a suspicion from 0 to
1, the fault, the image and the boxes, in pixels counted from 0; the four faults take turns. Look at them and
correct the labels in your labeling tool: some are errors of the detector. Nothing is changed.

Images that the detector was not trained on give better results: it has partly learned the faults of the
others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import OptionError
from ..files import encodable, write_json
from ..options import add_options, given
from ..tasks.labelling_options import CheckLabelsOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of a detector, or a parameter file in one")
    add_options(parser, CheckLabelsOptions)


def run(args: argparse.Namespace) -> int:
    from ..tasks.check_labels import check_labels

    values = given(args, CheckLabelsOptions)
    folder = Path(values["output"]) if values.get("output") else None
    if folder and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OptionError(f"--output {folder}: exists and is not an empty folder; choose a new one")
    result = check_labels(args.run, values)
    print(encodable(str(result)))
    for reason in result.skipped:
        print(encodable(f"error: {reason}"), file=sys.stderr)
    if "json" in values:
        write_json(values["json"], result.as_dict())
    if folder:
        from ..report.suspects import draw_suspects

        print(encodable(f"drawn: {draw_suspects(result, folder)} images in {folder}"))
    return 1 if result.skipped else 0
