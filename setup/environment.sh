#!/bin/sh
# Makes .venv with the pinned requirements. Usage: sh setup/environment.sh STAMP REQUIREMENTS
#
# STAMP is touched last, so an interrupted set-up never counts as ready. A set-up that was cut leaves .venv/.unfinished
# behind, and the next one starts from nothing: pip takes a half-copied package for an installed one.
set -eu

stamp=$1 requirements=$2

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

is_suitable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if is_suitable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python between 3.11 and 3.14 was found" \
        "install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python ..."
}

make_environment() {
    python=$(find_python) || exit 1
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || fail \
        "$python cannot make virtual environments: its venv or ensurepip module is missing" \
        "Debian and Ubuntu: apt-get install python3-venv, or python3.X-venv for that very Python"
    echo "Making .venv with $("$python" --version)"
    rm -rf .venv
    mkdir .venv
    touch .venv/.unfinished
    "$python" -m venv .venv
}

if [ -e .venv/.unfinished ] || ! is_suitable .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1
then
    make_environment
fi

echo "Installing $requirements"
rm -f "$stamp"
touch .venv/.unfinished
pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
pip install --require-hashes --only-binary :all: --requirement "$requirements"
pip install --no-deps --no-build-isolation --editable .
touch "$stamp"
rm -f .venv/.unfinished
