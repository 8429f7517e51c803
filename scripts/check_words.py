"""Check that the repository uses the standard terms of the field; part of `make lint`.

    python scripts/check_words.py [FILE ...]

Each entry of `WORDS` is a pattern and what to write instead. Python files, Markdown, YAML, HTML and shell
scripts that Git tracks are checked, except this one. Prints ``file:line: word; write ...`` and exits with
status 1 if a pattern matches.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[1]
ENDINGS = (".py", ".md", ".yaml", ".yml", ".html", ".sh", "Makefile")

WORDS: Sequence[Tuple[str, str]] = (
    # Names of classes, functions and options.
    (r"\b(Found|Guess)\b(?=[(\[\].,:]|$)", "DetectionResult, Prediction"),
    (r"\bPeers\b|\bTogether\(", "DistributedContext"),
    (r"\bJournal\b|\bjournal\b", "TrainingLogger, log"),
    (r"\bBoard\(|\bboard\b(?! of)", "TensorBoardWriter"),
    (r"\bListener\b|\blistener\b|\bheard\b", "SignalHandler, received"),
    (r"\bSaver\b|\bsaver\b", "CheckpointManager"),
    (r"\bBadSteps\b|\bbad[_ -]steps?\b", "NonFiniteGuard, skipped step"),
    (r"\bsettles?\b|\bsettled\b", "wait_all"),
    (r"\bcan_answer\b", "is_pretrained"),
    (r"\badopt[_ -](the )?statistics\b", "recalibrate_batchnorm"),
    (r"\bfit[_ -]output\b|\blast_layer\b", "linear_probe"),
    (r"\bmined\b", "ohem, hard negative mining"),
    (r"\bforeign\b", "checkpoint conversion"),
    (r"\bverdicts?\b|\bVerdict\b|\bjudges?\b", "ErrorType, analyze_errors"),
    (r"\bReportMaterial\b|\bMaterial\b|\bgather\b", "ReportData, collect"),
    (r"\bExamination\b|\bexaminations?\b|\bexamines?\b|\bexamined\b", "validation, check"),
    (r"\bcheck_stray\b|\bstrays?\b", "unreferenced files"),
    (r"\bAgreement\b|\banswers? alike\b", "parity check"),
    # One word for one thing.
    (r"\b[Dd]ata[ -]sets?\b", "dataset"),
    (r"\b[Pp]ictures?\b", "image"),
    (r"\blabelled\b|\bLabelled\b", "labeled"),
    (
        r"\bneighbour|\bcolour|\bbehaviour|\bnormalis|\binitialis|\brecognis|\bgrey\b|\bcentres?\b",
        "American spelling",
    ),
    # Idiom.
    (
        r"\b(images|milliseconds|ms|seconds|minutes|steps|multiply-adds|MB|files?|numbers?) an? "
        r"(image|second|minute|class|step|epoch|frame|batch|core|list)\b",
        "per image, per second, per class, per step",
    ),
    (r"\bby heart\b", "overfit four images"),
    (r"\bgoes before it\b|\bwhat else is given\b", "command-line options override the recipe"),
    (r"\bstay as they are\b", "freeze parameters, including BatchNorm statistics"),
    (r"\bwhat is taken for what\b", "confusion matrix"),
    (r"\btell(s|ing)? images apart\b", "image classification"),
    (r"\blabels to begin with\b", "pre-annotation, pre-labeling"),
    (r"\bof everything random\b", "random seed"),
    (r"\boverlap from which\b", "IoU threshold for a positive anchor"),
    (r"\blonely\b|\bwhoever\b|\bsomebody('s)?\b|\bsaid again\b|\blet(s)? through\b", "plain English"),
    (r"\b[Tt]he doctor\b", "validation, check-data"),
    (r"\bwhat (is|was) said\b|\bis told of\b|\bnothing but\b", "plain English"),
)
"""From the project's glossary; a match is an error wherever the word is not meant in another sense."""

ALLOWED: Sequence[Tuple[str, str]] = (
    ("", r"[\"/]pictures[\"/]"),  # a folder of other people's datasets
    ("docs/", r"\bdoctor\b"),  # the friendly name of check-data
    ("CHANGELOG.md", r"->|was called|renamed"),  # old names stand beside the new ones
)
"""Beginning of a path, and a pattern of lines that are not checked there."""


def tracked_files() -> List[Path]:
    """Text files that Git tracks, except this one."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name.endswith(ENDINGS)]
    return [path for path in paths if path.is_file() and path != Path(__file__).resolve()]


def check(path: Path) -> Iterator[str]:
    """One line of text per match in a file."""
    name = path.relative_to(ROOT).as_posix() if ROOT in path.parents else str(path)
    skipped = [re.compile(pattern) for prefix, pattern in ALLOWED if name.startswith(prefix)]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if any(pattern.search(line) for pattern in skipped):
            continue
        for pattern, instead in WORDS:
            match = re.search(pattern, line)
            if match:
                yield f"{name}:{number}: {match.group()!r}; write: {instead}"


def main(arguments: Sequence[str]) -> int:
    """Check the files named, or all tracked ones; returns the exit status."""
    paths = [Path(argument).resolve() for argument in arguments] or tracked_files()
    matches = [line for path in paths for line in check(path)]
    print("\n".join(matches) if matches else f"{len(paths)} files use the project's terms")
    return 1 if matches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
