"""Package metadata. Requirements have only necessary limits; constraints.txt pins all versions."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Version of the package, read without importing it."""
    match = re.search(
        r'^__version__ = "(.+)"', (HERE / "mnssd/__init__.py").read_text(encoding="utf-8"), re.M
    )
    assert match
    return match.group(1)


def readme() -> str:
    """Long description; empty without README.md."""
    path = HERE / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="mnssd",
    version=version(),
    description="MobileNet-SSD detectors on Apache MXNet: train, evaluate, export",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.8,<3.12",  # MXNet 1.9.1 imports distutils, removed in Python 3.12
    packages=find_packages(include=["mnssd", "mnssd.*"]),
    package_data={"mnssd": ["recipes/*.yaml", "report/page.html", "pretrained/*/*", "export/web/*.*"]},
    install_requires=[
        "mxnet==1.9.1",
        "gluoncv==0.10.5.post0",
        "numpy<1.24",  # MXNet 1.9.1 uses np.bool
        # 4.12 and later require NumPy 2. GluonCV requires this wheel, which needs libGL;
        # opencv-python-headless does not. Both install into the same folder, so only one can be required.
        # `make setup` installs the headless one; elsewhere, environment.check_opencv prints the command.
        "opencv-python<4.12",
        "defusedxml",
        "fonttools",
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
        # Noto fonts in all scripts, 23 MB, under the SIL Open Font License 1.1, for class names on images and
        # plots. These two packages hold nothing else, and work with Python 3.8 to 3.11.
        "fonts": ["manimgx-fonts", "manimgx-fonts-cjk"],
        # MXNet exports opset 13; ONNX Runtime's quantizer needs onnx 1.16 and ml-dtypes.
        "onnx": ["onnx>=1.16,<1.17", "onnxruntime", "ml-dtypes<0.5"],
        # The formats of OpenVINO are made from those of ONNX. 2024.4 is the last OpenVINO for Python 3.8.
        "openvino": ["onnx>=1.16,<1.17", "onnxruntime", "ml-dtypes<0.5", "openvino>=2024.4"],
        # Models are written with the schema in tflite. LiteRT has no wheels for Python 3.8.
        "tflite": [
            "flatbuffers",
            "tflite",
            "ai-edge-litert; python_version >= '3.9'",
            "tflite-runtime; python_version < '3.9'",
        ],
        "ncnn": ["ncnn"],
        "import": ["protobuf", "tflite"],  # the formats of Caffe and of .tflite files, for `mnssd import`
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
