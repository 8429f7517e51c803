"""Evaluate a classifier: the same as `mnssd eval-cls`."""

import sys

from mnssd.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("eval-cls", prog="eval_cls.py"))
