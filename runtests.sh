#!/usr/bin/env bash
# All checks in one command: style, types, tests. Makes the environment first where it is missing or out of date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'EOF'
Usage: ./runtests.sh [--fast | --slow] [-- PYTEST_ARGUMENTS]

  (no option)   style, types, and all tests that take seconds
  --fast        style and types only, no tests
  --slow        style, types, and all tests, slow ones too
  -h, --help    this text

Everything after -- goes to pytest, e.g. ./runtests.sh -- tests/transforms -x --data-root DIR
EOF
}

run_tests=true
pytest_args=()
while (($#)); do
    case "$1" in
        --fast) run_tests=false ;;
        --slow) pytest_args+=(-m "slow or not slow") ;;
        -h | --help) usage && exit 0 ;;
        --) shift && pytest_args+=("$@") && break ;;
        *) echo "runtests: unknown argument '$1'" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
done

# One thread a process: several threads fighting for few cores make the small networks of the tests ten times slower.
export OMP_NUM_THREADS=1

summary=()
failed=0
stage() {
    local name="$1" start=$SECONDS outcome=passed
    shift
    printf '\n== %s\n' "$name"
    "$@" || { outcome=FAILED && failed=1; }
    summary+=("$(printf '%-7s %-24s %4d s' "$outcome" "$name" $((SECONDS - start)))")
}

scripts/make_env.sh test,dev,notebooks,monailabel,ray,encoders,transformers,onnx,diffusers,generative,highdicom
stage "style (ruff check)" .venv/bin/ruff check .
stage "format (ruff format)" .venv/bin/ruff format --check .
stage "types (mypy)" .venv/bin/mypy
if $run_tests; then
    stage "tests (pytest)" .venv/bin/python -m pytest -n 2 -q ${pytest_args[@]+"${pytest_args[@]}"}
fi

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
if ((failed)); then
    echo "FAILED"
    exit 1
fi
echo "all passed"
