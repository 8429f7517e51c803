"""Commands and Python programs of README and docs, run in a user's folder with few small images."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Set, Tuple

import pytest
from helpers.user_folder import TINY, TINY_CLASSIFIER, WEIGHTS, as_arguments, make_user_folder, publish

import mnssd
from mnssd.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]

PAGES = (
    "README.md", "docs/tutorial.md", "docs/how-to.md", "docs/data.md", "docs/networks.md", "docs/exports.md",
    "docs/mxnet.md", "docs/onnx.md", "docs/cluster.md",
)  # fmt: skip

ADDED: Dict[str, List[str]] = {
    "train_ssd.py": [*as_arguments(TINY), "--no-report"],  # test_quick_start.py has one written
    "train_cls.py": as_arguments(TINY_CLASSIFIER),
    "train-ssd": [*as_arguments(TINY), "--no-report"],
    "train-cls": as_arguments(TINY_CLASSIFIER),
    "check-data": ["--no-estimate"],
    "prune": ["--epochs=1"],
    "export": ["--calibration-images=4", "--parity-images=4"],
}
"""Arguments appended to the commands of the pages."""

TESTED_ELSEWHERE: Dict[str, str] = {
    "make ": "tests/test_setup.py",
    "python3.11 -m venv": "tests/test_setup.py",
    "--download": "tests/fetch/test_official_archives.py",
    "mnssd weights fetch": "tests/fetch/test_published_weights.py",
    "mnssd weights add": "tests/fetch/test_published_weights.py",
    "mnssd bench": "tests/bench/test_bench.py",
    "mnssd compare --output": "tests/bench/test_tradeoff.py",
    "mnssd launch": "tests/distributed/test_distributed.py",
    "--format web": "tests/export/test_web.py",
    "camera:0": "tests/inference/test_sources.py",
    "--minutes": "tests/train/test_stopping.py",
    "--patience": "tests/train/test_stopping.py",
    "--balanced": "tests/data/test_balance.py",
    "--anchors": "tests/tasks/test_chosen_anchors.py",
    "windows": "tests/data/test_tile_dataset.py",
    "--unlabelled": "tests/data/test_pseudo_labels.py",
}
"""Part of a command, and the tests that run such commands."""

SLOW: Dict[str, str] = {
    "--freeze": "tests/train/test_train_detector.py",
    "--overfit": "tests/train/test_train_detector.py",
    "--tensorboard": "tests/train/test_logger.py",
    "--recipe fast": "tests/train/test_recipes.py",
    "--size 448x352": "tests/train/test_options.py",
    "--hold-out": "tests/tasks/test_hold_out.py",
    "--weights none": "tests/train/test_pretrained_weights.py",
    "--output page-two": "tests/report/test_report.py",
    "mnssd prune": "tests/compress/test_prune.py",
}
"""Part of a command that only `make test-slow` runs, and the tests of what it does."""

OUTPUTS = re.compile(r"(?:--output|--fix|--voc|--mot|--json|--jsonl|--coco|--save-detections) (\S+)")


def commands(page: str) -> List[str]:
    """Commands in the code blocks of a page, joined where a backslash continues the line."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"^    (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    lines = [line for block in fenced for line in block.splitlines()] + indented
    found = []
    for line in lines:
        if re.match(r"(python[\d.]* \w|python3?[\d.]* -m|mnssd |make )", line):
            found.append(re.sub(r"\s+", " ", re.sub(r"\s+#\s.*", "", line)).strip())
    return list(dict.fromkeys(found))


def programs(page: str) -> List[str]:
    """Python blocks of a page that use the package; together they are one program."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return blocks if any("import mnssd" in block for block in blocks) else []


def is_slow(command: str) -> bool:
    return any(part in command for part in SLOW)


def other_test(command: str) -> str:
    return next((test for part, test in TESTED_ELSEWHERE.items() if part in command), "")


CASES: List[Tuple[str, str]] = [
    (page, command) for page in PAGES for command in commands(page) if not other_test(command)
]


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("user")
    make_user_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        publish(folder / WEIGHTS, patch)
        yield folder


def test_commands_are_found_in_the_pages() -> None:
    text = " ".join(command for _, command in CASES)
    for word in ("train_ssd.py", "eval_voc.py", "check-data", "convert-data", "report", "export", "detect"):
        assert word in text
    assert len(CASES) > 30


def test_tests_of_other_commands_exist() -> None:
    assert [test for test in {**TESTED_ELSEWHERE, **SLOW}.values() if not (ROOT / test).is_file()] == []


def test_every_command_is_documented() -> None:
    scripts = {"train-ssd": "train_ssd.py", "train-cls": "train_cls.py", "eval": "eval_voc.py",
               "eval-cls": "eval_cls.py", "demo": "make demo"}  # fmt: skip
    text = " ".join((ROOT / page).read_text(encoding="utf-8") for page in (*PAGES, "data/README.md"))
    missing = [
        name
        for name in COMMANDS
        if not re.search(rf"{re.escape(scripts.get(name, f'mnssd {name}'))}\b", text)
    ]
    assert missing == []


def remove_outputs(folder: Path, targets: List[str]) -> None:
    for target in targets:
        path = folder / target
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, marks=[pytest.mark.slow] if is_slow(command) else [])
        for page, command in CASES
    ],
    ids=[f"{page}: {c[:60]}" for page, c in CASES],
)
def test_command(
    page: str, command: str, user_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    words = shlex.split(command)
    resumes = "--resume" in words
    if not resumes:
        remove_outputs(user_folder, OUTPUTS.findall(command))
    if words[:2] == ["mnssd", "convert-data"]:
        remove_outputs(user_folder, [words[3]])
    if words[:2] == ["mnssd", "prune"]:
        remove_outputs(user_folder, [f"{words[2]}-pruned", f"{words[2]}-pruned-start"])
    key = words[1]
    arguments = [*words[2:], *([] if resumes else [*ADDED.get(key, []), *random_weights(page, key, words)])]
    monkeypatch.chdir(user_folder)
    status = run_script(key, arguments, monkeypatch) if key.endswith(".py") else main([key, *arguments])
    output = capfd.readouterr()
    assert status in ((0, 1) if key == "check-data" else (0,)), output.out[-1500:] + output.err[-1500:]


def random_weights(page: str, name: str, words: List[str]) -> List[str]:
    """Option of a training command that saves its time, on pages that do not show the default."""
    trains = "train" in name and page not in PAGES[:2] and not {"--weights", "--recipe"} & set(words)
    return ["--weights=none"] if trains else []


def run_script(name: str, arguments: List[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a script of the top level in this process, which is faster than a new one: its exit status."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    return ended.value.code


def arguments_of(options: Dict[str, Any]) -> FrozenSet[str]:
    """The command-line arguments that mean the same as the options of `mnssd.train_detector`."""
    names = {"data": "data-root"}
    arguments = set()
    for name, value in options.items():
        flag = f"--{names.get(name, name.replace('_', '-'))}"
        text = "x".join(map(str, value)) if isinstance(value, tuple) else value
        arguments.add(flag if value is True else f"{flag}={text}")
    return frozenset(arguments)


def training_commands(page: str) -> Set[FrozenSet[str]]:
    """Arguments of the training commands of a page."""
    lines = [line for line in commands(page) if re.match(r"python train_(ssd|cls)\.py ", line)]
    pairs = (re.sub(r"(--[\w-]+) (?!--)(\S+)", r"\1=\2", line) for line in lines)
    return {frozenset(shlex.split(pair)[2:]) for pair in pairs}


def small_training(train: Callable[..., Any], small: Dict[str, Any], page: str) -> Callable[..., Any]:
    """The function `train` with the options `small` instead of those of the page, unless a run is resumed.

    A training for which the page also has the command is not repeated: its run is returned.
    """

    def train_small(**options: Any) -> Any:
        run = Path(options.get("output") or options.get("resume") or "")
        if (run / "config.yaml").is_file() and arguments_of(options) in training_commands(page):
            return mnssd.Run(run)
        if options.get("resume"):
            return train(**options)
        remove_outputs(Path.cwd(), [options["output"]] if "output" in options else [])
        return train(**{"weights": "none", **options, **small})

    return train_small


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page) and page != "docs/cluster.md"])
def test_python_program(page: str, user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "\n".join(programs(page))
    monkeypatch.chdir(user_folder)
    for name, small in {"train_detector": TINY, "train_classifier": TINY_CLASSIFIER}.items():
        monkeypatch.setattr(mnssd, name, small_training(getattr(mnssd, name), small, page))
    exec(compile(source, page, "exec"), {"__name__": "page"})


def test_commands_and_programs_train_the_same() -> None:
    page = "docs/how-to.md"
    assert arguments_of({"data": "photos", "size": (448, 352), "output": "runs/larger"}) in training_commands(
        page
    )
    assert arguments_of({"data": "photos", "hold_out": 0.1, "output": "runs/trial"}) in training_commands(
        page
    )
    assert arguments_of({"data": "photos", "hold_out": 0.2, "output": "runs/trial"}) not in training_commands(
        page
    )


def test_program_under_another_launcher_compiles() -> None:
    # tests/distributed runs such a program in several processes.
    compile("\n".join(programs("docs/cluster.md")), "docs/cluster.md", "exec")


def test_format_table_lists_every_format() -> None:
    from mnssd.data.formats import formats

    rows = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    built_in = [name for name in formats.names() if type(formats[name]).__module__.startswith("mnssd.")]
    assert sorted(rows) == sorted(built_in)


def test_export_table_lists_every_format() -> None:
    from mnssd.export.formats import export_formats

    text = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w[\w-]*)` \|.*?\| `(\w[\w-]*)` \|", text, re.MULTILINE)
    assert dict(rows) == {entry.name: entry.engine for entry in export_formats}


def test_reference_is_up_to_date() -> None:
    program = (
        "import sys; sys.path.insert(0, 'docs'); import write_reference as w; print(w.reference(), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert done.stdout == reference, "run `python docs/write_reference.py`"
