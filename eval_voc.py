"""Evaluate a detector: the same as `mnssd eval`."""

import sys

from mnssd.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("eval", prog="eval_voc.py"))
