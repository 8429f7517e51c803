"""Train an SSD detector: the same as `mnssd train-ssd`."""

import sys

from mnssd.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train-ssd", prog="train_ssd.py"))
