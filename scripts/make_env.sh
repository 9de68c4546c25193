#!/usr/bin/env bash
# Makes the project's environment .venv, or brings it up to date, with the exact versions of constraints.txt.
#
#     scripts/make_env.sh [EXTRAS]      EXTRAS as for pip, comma-separated: test,dev,notebooks,monailabel (default: none)
#
# Needs Python 3.10 to 3.13 and a package registry, on the first run and after pyproject.toml or constraints.txt changed.
# An environment that is up to date is left alone: no network, well under a second.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="${1:-}"
stamp=".venv/.installed-${extras:-core}"
fingerprint="$(cat pyproject.toml constraints.txt | cksum) $PWD"

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        # Asked by running it: a version manager's shim may exist without the interpreter behind it.
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "make_env: no usable Python found. Needed: Python 3.10, 3.11, 3.12 or 3.13 with its venv module" >&2
    echo "  (Debian, Ubuntu: apt install python3-venv; elsewhere: https://www.python.org/downloads)." >&2
    echo "  python3 here is: $(python3 --version 2>&1 || echo 'not there')" >&2
    return 1
}

if [[ -f "$stamp" && "$(cat "$stamp")" == "$fingerprint" ]]; then
    exit 0
fi
if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    python="$(find_python)"
    echo "make_env: creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
echo "make_env: installing monai_diffclf${extras:+[$extras]} (the first time this takes a few minutes)"
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    -c constraints.txt -e ".${extras:+[$extras]}"; then
    echo "make_env: the installation failed, see above. Is the package registry reachable, is there disk space (2 GB; with a CUDA build of torch 8 GB)?" >&2
    exit 1
fi
# MONAI Label's own requirements do not install beside pydicom 3; the extra `monailabel` lists those that the app needs.
if [[ ",$extras," == *,monailabel,* ]] && ! .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --no-deps -c constraints.txt monailabel; then
    echo "make_env: MONAI Label could not be installed, see above." >&2
    exit 1
fi
printf '%s\n' "$fingerprint" >"$stamp"
