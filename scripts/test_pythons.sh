#!/bin/sh
# Test each installed Python from 3.8 to 3.11 in a temporary virtual environment with the pinned versions: pip check
# and a smoke test. Prints one line per Python, and the log of those that fail.
cd "$(dirname "$0")/.." || exit 1
pythons=$(sh scripts/find_python.sh --all) || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

try() {
    sh scripts/setup_venv.sh "$1" "$scratch/venv" || return 1
    # opencv-python is missing on purpose, see setup_venv.sh; any other complaint is an error in the pins.
    "$scratch/venv/bin/python" -m pip check > "$scratch/check" || true
    if grep -v -e 'requires opencv-python, which is not installed' -e '^No broken requirements' "$scratch/check"; then
        return 1
    fi
    "$scratch/venv/bin/mnssd" --help || return 1
    "$scratch/venv/bin/python" scripts/smoke.py
}

status=0
for python in $pythons; do
    if try "$python" > "$scratch/log" 2>&1; then
        tail -n 1 "$scratch/log"
    else
        cat "$scratch/log"
        echo "FAILED: $python"
        status=1
    fi
    rm -rf "$scratch/venv"
done
exit $status
