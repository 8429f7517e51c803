"""Train an image classifier: the same as `mnssd train-cls`."""

import sys

from mnssd.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train-cls", prog="train_cls.py"))
