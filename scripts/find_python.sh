#!/bin/sh
# Print the path of a Python that can run mnssd: version 3.8 to 3.11 with venv, newest first.
#   find_python.sh         the first
#   find_python.sh --all   the first of each version
# If the environment variable PYTHON is set, it is the only candidate. Candidates are run to test them, because
# pyenv has shims for versions that are not active, and Debian's Python has no venv by default.

check='
import sys
if not (3, 8) <= sys.version_info[:2] <= (3, 11): sys.exit(1)
import ctypes, ensurepip, ssl, venv
print("%d.%d %s" % (sys.version_info[0], sys.version_info[1], sys.executable))
'

candidates() {
    if [ -n "$PYTHON" ]; then
        command -v "$PYTHON"
        return
    fi
    for version in 3.11 3.10 3.9 3.8; do
        on_path "python$version"
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python 2>/dev/null
    done
    on_path python3
    on_path python
}

on_path() {
    echo "$PATH" | tr ':' '\n' | while read -r folder; do
        if [ -x "$folder/$1" ]; then echo "$folder/$1"; fi
    done
}

found=$(candidates | while read -r candidate; do "$candidate" -c "$check" 2>/dev/null </dev/null; done)
if [ -z "$found" ]; then
    if [ -n "$PYTHON" ]; then
        echo "error: PYTHON=$PYTHON is not a Python 3.8 to 3.11 with the venv module" >&2
    else
        echo "error: no Python 3.8 to 3.11 with the venv module found; install one (Debian, Ubuntu:" \
            "apt install python3.11-venv; elsewhere: pyenv install 3.11) or use make PYTHON=/path/to/python" >&2
    fi
    exit 1
fi
if [ "$1" = --all ]; then
    echo "$found" | sort -u -t ' ' -k 1,1 | cut -d ' ' -f 2-
else
    echo "$found" | head -n 1 | cut -d ' ' -f 2-
fi
