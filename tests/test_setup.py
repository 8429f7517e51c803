"""Setup: scripts, Makefile, requirements and pins."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

import pytest
import setuptools
import yaml
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mnssd
from mnssd.runtime import environment

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.8", "3.9", "3.10", "3.11")

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this system")


# ---- find_python.sh ----------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Dict[str, str]:
    """An environment with shell tools but no Python; the first folder on its PATH is empty."""
    (tmp_path / "first").mkdir()
    (tmp_path / "tools").mkdir()
    for tool in ("sh", "tr", "ls", "head", "sort", "cut", "sed", "grep", "touch", "dirname"):
        path = shutil.which(tool)
        assert path, tool
        (tmp_path / "tools" / tool).symlink_to(path)
    return {
        "PATH": f"{tmp_path / 'first'}:{tmp_path / 'tools'}",
        "HOME": str(tmp_path),
        "PYENV_ROOT": str(tmp_path / "pyenv"),
    }


def write_script(path: Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def fake_python(path: Path, version: str) -> str:
    """A program that find_python.sh takes for a Python of that version."""
    return write_script(path, f'echo "{version} {path}"')


def find(env: Dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "scripts/find_python.sh", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


class TestFindPython:
    def test_finds_python_by_any_name(self, bare: Dict[str, str], tmp_path: Path) -> None:
        real = write_script(tmp_path / "first" / "python", f'exec "{sys.executable}" "$@"')
        assert find(bare).stdout.strip() in (sys.executable, real)

    def test_newest_version_comes_first(self, bare: Dict[str, str], tmp_path: Path) -> None:
        fake_python(tmp_path / "first" / "python3", "3.9")
        fake_python(tmp_path / "first" / "python3.8", "3.8")
        best = fake_python(tmp_path / "pyenv" / "versions" / "3.10.4" / "bin" / "python", "3.10")
        assert find(bare).stdout.strip() == best
        everything = find(bare, "--all").stdout.split()
        assert sorted(everything) == sorted(
            [best, str(tmp_path / "first" / "python3"), str(tmp_path / "first" / "python3.8")]
        )

    def test_all_lists_each_version_once(self, bare: Dict[str, str], tmp_path: Path) -> None:
        first = fake_python(tmp_path / "first" / "python3.11", "3.11")
        fake_python(tmp_path / "pyenv" / "versions" / "3.11.7" / "bin" / "python", "3.11")
        assert find(bare, "--all").stdout.split() == [first]

    @pytest.mark.parametrize(
        "script", ["exit 127", "echo 'pyenv: command not found' >&2; exit 127", "read x; exit 1"]
    )
    def test_program_that_fails_is_skipped(self, script: str, bare: Dict[str, str], tmp_path: Path) -> None:
        """Such as pyenv's shim for an inactive version, or a program that reads its input."""
        write_script(tmp_path / "first" / "python3.11", script)
        second = fake_python(tmp_path / "tools" / "python3.11", "3.11")
        assert find(bare).stdout.strip() == second

    @pytest.mark.parametrize("missing", ["venv", "ensurepip", "ctypes", "ssl"])
    def test_python_without_a_required_module_is_skipped(
        self, missing: str, bare: Dict[str, str], tmp_path: Path
    ) -> None:
        """Such as Debian's without python3-venv, or one built without libffi or OpenSSL."""
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / f"{missing}.py").write_text("raise ImportError")
        where = f'PYTHONPATH="{tmp_path / "broken"}"'
        write_script(tmp_path / "first" / "python3.11", f'{where} exec "{sys.executable}" "$@"')
        assert find(bare).returncode == 1

    @pytest.mark.parametrize("version", [(3, 7), (3, 12), (2, 7)])
    def test_unsupported_versions_are_skipped(
        self, version: tuple, bare: Dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "usercustomize.py").write_text(f"import sys; sys.version_info = {version}")
        where = f'PYTHONPATH="{tmp_path}"'
        write_script(tmp_path / "first" / "python3", f'{where} exec "{sys.executable}" "$@"')
        (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.version_info = {version}")
        assert find(bare).returncode == 1

    def test_no_python_is_one_line_on_stderr(self, bare: Dict[str, str]) -> None:
        done = find(bare)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        for word in ("3.8", "3.11", "apt install", "pyenv install 3.11", "PYTHON="):
            assert word in line

    def test_python_variable_is_the_only_candidate(self, bare: Dict[str, str], tmp_path: Path) -> None:
        fake_python(tmp_path / "first" / "python3.11", "3.11")
        other = fake_python(tmp_path / "other", "3.8")
        assert find({**bare, "PYTHON": other}).stdout.strip() == other
        assert find({**bare, "PYTHON": "python3.11"}).stdout.strip() == str(tmp_path / "first" / "python3.11")
        done = find({**bare, "PYTHON": str(tmp_path / "absent")})
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1
        assert f"PYTHON={tmp_path / 'absent'}" in line


# ---- make --------------------------------------------------------------------------------------------------


def make(
    *arguments: str, cwd: Path = ROOT, env: Optional[Dict[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = [shutil.which("make") or "make", *arguments]
    return subprocess.run(command, cwd=cwd, env=env or clean, capture_output=True, text=True)


def targets() -> List[str]:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    return phony.split()


@needs_make
class TestMake:
    def test_help_lists_all_targets(self) -> None:
        done = make()
        assert done.returncode == 0
        listed = re.findall(r"^  (\S+) +\S", done.stdout, re.M)
        assert sorted(listed) == sorted(targets())

    @pytest.mark.parametrize("target", targets())
    def test_dry_run_of_each_target(self, target: str) -> None:
        assert make("--dry-run", target).returncode == 0

    def test_setup_without_python_fails_with_one_line(self, bare: Dict[str, str], tmp_path: Path) -> None:
        venv = tmp_path / "venv"
        done = make("setup", f"VENV={venv}", env=bare)
        assert done.returncode != 0
        message, from_make = done.stderr.splitlines()
        assert "3.8 to 3.11" in message
        assert from_make.startswith("make: ***")
        assert not venv.exists()

    def test_environment_is_recreated_only_when_the_pins_change(self, tmp_path: Path) -> None:
        for name in ("Makefile", "setup.py", "constraints.txt"):
            shutil.copy(ROOT / name, tmp_path)
        shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
        (tmp_path / "scripts" / "setup_venv.sh").write_text('mkdir -p "$2"; echo "$1 $2" >> calls\n')
        for _ in range(2):
            done = make("setup", f"PYTHON={sys.executable}", cwd=tmp_path)
            assert done.returncode == 0
            assert done.stdout.splitlines()[-1].endswith(". .venv/bin/activate")
        assert (tmp_path / "calls").read_text().split() == [sys.executable, ".venv"]
        pins = tmp_path / "constraints.txt"
        os.utime(pins, (pins.stat().st_mtime + 60,) * 2)
        make("setup", f"PYTHON={sys.executable}", cwd=tmp_path)
        assert (tmp_path / "calls").read_text().count("\n") == 2

    def test_failed_installation_is_repeated(self, tmp_path: Path) -> None:
        shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
        for name in ("Makefile", "setup.py", "constraints.txt"):
            shutil.copy(ROOT / name, tmp_path)
        (tmp_path / "scripts" / "setup_venv.sh").write_text('mkdir -p "$2"; exit 1\n')
        for _ in range(2):
            assert make("setup", f"PYTHON={sys.executable}", cwd=tmp_path).returncode != 0

    def test_clean_keeps_user_files(self, tmp_path: Path) -> None:
        shutil.copy(ROOT / "Makefile", tmp_path)
        kept = [
            "data/VOCdevkit/a.jpg",
            "runs/demo/best.params",
            "exports/a.json",
            "mnssd/a.py",
            "tests/b.py",
            "scripts/c",
        ]
        removed = [
            ".venv/bin/python",
            "build/lib/a",
            "mnssd.egg-info/PKG-INFO",
            ".mypy_cache/a",
            "mnssd/__pycache__/a.pyc",
        ]
        for name in kept + removed:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert make("clean", cwd=tmp_path).returncode == 0
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        assert left == {*kept, "Makefile"}


def test_setup_venv_installs_the_pins_except_opencv_python(tmp_path: Path) -> None:
    """Python is replaced by a script that records its arguments."""
    log = tmp_path / "log"
    pip = f'echo "$*" >> "{log}"'
    python = write_script(
        tmp_path / "python",
        f'{pip}\nfor venv; do :; done\nmkdir -p "$venv/bin"\n'
        f'printf "#!/bin/sh\\necho \\"\\$*\\" >> {log}\\n" > "$venv/bin/python"; chmod +x "$venv/bin/python"',
    )
    venv = tmp_path / "new"
    command = ["/bin/sh", str(ROOT / "scripts/setup_venv.sh"), python, str(venv)]
    subprocess.run(command, check=True, cwd=tmp_path)
    create, packages, package = log.read_text().splitlines()
    assert create == f"-m venv --clear {venv}"
    assert packages == f"-m pip install --no-compile --no-deps -r {venv}/requirements.txt"
    assert package == "-m pip install --no-deps --no-build-isolation --editable ."
    pinned = set((ROOT / "constraints.txt").read_text().splitlines())
    installed = set((venv / "requirements.txt").read_text().splitlines())
    assert installed < pinned
    assert {Requirement(line).name for line in pinned - installed} == {"opencv-python"}


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    assert workflow["strategy"]["matrix"]["python"] == list(PYTHONS)
    assert "bash .ci/run" in [step.get("run") for step in workflow["steps"]]


@needs_make
def test_pre_commit_runs_the_linters_of_make() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].replace("--force-exclude", "").split() for hook in repository["hooks"]]
    recipe = make("--dry-run", "lint").stdout
    for program, *arguments in entries:
        module = ["-m", Path(program).name] if Path(program).name != "python" else []
        command = [".venv/bin/python", *module, *arguments]
        assert [line for line in recipe.splitlines() if set(command) <= set(line.split())], command


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_shell(script: Path) -> None:
    assert subprocess.run(["/bin/sh", "-n", str(script)]).returncode == 0


# ---- pins --------------------------------------------------------------------------------------------------


def pins(python: str) -> Dict[str, Requirement]:
    """Pins by name on that Python; fails if a package is pinned twice."""
    result: Dict[str, Requirement] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                assert canonicalize_name(pin.name) not in result, line
                result[canonicalize_name(pin.name)] = pin
    return result


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.fixture(scope="module")
def packaged() -> Dict[str, Any]:
    """The keyword arguments of `setup` in setup.py."""
    captured: Dict[str, Any] = {}
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(setuptools, "setup", lambda **keywords: captured.update(keywords))
        context.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return captured


def requirements(packaged: Dict[str, Any], python: str) -> List[Requirement]:
    """Those of the package and its extras that hold for a version of Python."""
    extras = [line for extra in packaged["extras_require"].values() for line in extra]
    lines = map(Requirement, packaged["install_requires"] + extras)
    return [one for one in lines if not one.marker or one.marker.evaluate({"python_version": python})]


@pytest.mark.parametrize("python", PYTHONS)
def test_requirements_are_pinned_within_their_limits(python: str, packaged: Dict[str, Any]) -> None:
    pinned = pins(python)
    for requirement in requirements(packaged, python):
        assert requirement.specifier.contains(version_of(pinned[canonicalize_name(requirement.name)]))


def test_indirect_requirements_are_pinned(packaged: Dict[str, Any]) -> None:
    """On this Python, by the metadata of installed packages."""
    python = "{}.{}".format(*sys.version_info[:2])
    pinned = pins(python)
    seen = set()
    waiting: List[Requirement] = requirements(packaged, python)
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), *sorted(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert key[0] in pinned, f"{requirement} is not pinned"
        waiting += requirements_of(requirement)
    assert len(seen) > 30


def requirements_of(requirement: Requirement) -> Iterable[Requirement]:
    try:
        lines = metadata.requires(requirement.name) or []
    except metadata.PackageNotFoundError:  # an extra that is not installed
        return
    for line in lines:
        required = Requirement(line)
        if any(applies(required, extra) for extra in ("", *requirement.extras)):
            yield required


def applies(requirement: Requirement, extra: str) -> bool:
    environment: Dict[str, Any] = {**default_environment(), "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_package_metadata_match_the_environment_check(packaged: Dict[str, Any]) -> None:
    assert packaged["python_requires"] == ">=3.8,<3.12"
    assert environment.PYTHON_VERSIONS == ((3, 8), (3, 11))
    assert packaged["version"] == mnssd.__version__
    assert "mnssd.cli" in packaged["packages"]
    assert "tests" not in packaged["packages"]
    assert packaged["entry_points"]["console_scripts"] == ["mnssd = mnssd.cli.main:main"]
    for python in PYTHONS:  # the fixes proposed by `environment` install the pinned versions
        for proposed in map(Requirement, (environment.NUMPY_PIN, environment.OPENCV_PIN)):
            assert proposed.specifier == pins(python)[proposed.name].specifier


def pin_script() -> Any:
    spec = importlib.util.spec_from_file_location("pin", ROOT / "scripts" / "pin.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(st.dictionaries(st.sampled_from(PYTHONS), st.sampled_from(["1.0", "1.10", "2.0.post1"]), min_size=1))
def test_constraint_lines_pin_each_python(versions: Dict[str, str]) -> None:
    lines = pin_script().constraint_lines("name", versions)
    for python in PYTHONS:
        valid = [Requirement(line) for line in lines]
        valid = [pin for pin in valid if not pin.marker or pin.marker.evaluate({"python_version": python})]
        assert [version_of(pin) for pin in valid] == ([versions[python]] if python in versions else [])
    if len(versions) == len(PYTHONS) and len(set(versions.values())) == 1:
        assert lines == [f"name=={versions['3.8']}"]
