#!/bin/sh
# setup_venv.sh PYTHON FOLDER: create a virtual environment with the versions in constraints.txt and an editable
# installation of this checkout. pip's own configuration determines where packages come from.
set -e
python=$1
folder=$2
cd "$(dirname "$0")/.."

"$python" -m venv --clear "$folder"
# opencv-python, which GluonCV requires, needs libGL. opencv-python-headless replaces it; --no-deps keeps pip from
# installing both.
grep -v '^opencv-python==' constraints.txt > "$folder/requirements.txt"
"$folder/bin/python" -m pip install --no-compile --no-deps -r "$folder/requirements.txt"
"$folder/bin/python" -m pip install --no-deps --no-build-isolation --editable .
