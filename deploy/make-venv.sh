#!/bin/sh
# Make a virtual environment with Python 3.11 or newer: deploy/make-venv.sh DIRECTORY
# PYTHON=/path/to/python chooses the interpreter.
set -eu

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

has_venv() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null
}

directory=$1
python=$(find_python)
if [ -z "$python" ]; then
    echo "dicom-node needs Python 3.11 or newer: none of '${PYTHON:-python3}' is." >&2
    echo "Install one (Debian 12: apt install python3 python3-venv) or say PYTHON=/path/to/it." >&2
    exit 1
fi
# Debian keeps ensurepip in a package of its own.
if ! has_venv && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "Installing python$version-venv"
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "python$version-venv" >/dev/null || true
fi
if ! has_venv; then
    echo "$python cannot make virtual environments: install python3-venv (Debian, Ubuntu)." >&2
    exit 1
fi
exec "$python" -m venv "$directory"
