#!/bin/sh
# setup_venv.sh PYTHON FOLDER: make a virtual environment with exactly the versions of constraints.txt, and mnssd
# itself as it stands in this checkout. Where packages come from is pip's own configuration.
set -e
python=$1
folder=$2
cd "$(dirname "$0")/.."

"$python" -m venv --clear "$folder"
# Nothing is left to resolve (--no-deps), which also leaves out the one package that GluonCV requires and that
# needs libGL, opencv-python: opencv-python-headless is the same cv2 without windows.
grep -v '^opencv-python==' constraints.txt > "$folder/requirements.txt"
"$folder/bin/python" -m pip install --no-deps -r "$folder/requirements.txt"
"$folder/bin/python" -m pip install --no-deps --no-build-isolation --editable .
