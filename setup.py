"""What mnssd needs and provides. Only real limits stand here; constraints.txt pins every version."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The version, read from the package without importing it."""
    match = re.search(
        r'^__version__ = "(.+)"', (HERE / "mnssd/__init__.py").read_text(encoding="utf-8"), re.M
    )
    assert match
    return match.group(1)


def readme() -> str:
    """The text for package indices, if the README is there."""
    path = HERE / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="mnssd",
    version=version(),
    description="MobileNet-SSD detectors on Apache MXNet: train, measure, export",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.8,<3.12",  # MXNet 1.9.1 imports distutils, gone in Python 3.12
    packages=find_packages(include=["mnssd", "mnssd.*"]),
    package_data={"mnssd": ["recipes/*.yaml", "report/page.html", "pretrained/*/*"]},
    install_requires=[
        "mxnet==1.9.1",
        "gluoncv==0.10.5.post0",
        "numpy<1.24",  # MXNet 1.9.1 uses np.bool
        # From 4.12 on it requires NumPy 2. GluonCV requires this wheel by name, though it needs libGL; its
        # twin opencv-python-headless does not. If both were required, either might end up in the folder they
        # share, so `make setup` installs the twin alone; elsewhere environment.check_opencv tells the way.
        "opencv-python<4.12",
        "defusedxml",
        "Jinja2",
        "matplotlib",
        "Pillow",
        "pycocotools",
        "PyYAML",
        "safetensors",
        "scipy",
        "tqdm",
    ],
    extras_require={
        # MXNet's exporter was written for opset 13; ONNX Runtime's quantizer needs onnx 1.16 and ml-dtypes.
        "onnx": ["onnx>=1.16,<1.17", "onnxruntime", "ml-dtypes<0.5"],
        "tensorboard": ["tensorboardX"],
        "browser": ["axe-playwright-python", "playwright"],  # for `make test-browser`
        "test": [
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "trustme",
            "types-PyYAML",
            "types-defusedxml",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["mnssd = mnssd.cli.main:main"]},
)
