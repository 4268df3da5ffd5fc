#!/usr/bin/env bash
# Installs gpt_keras with its test extra into .venv-test, then lints and tests it.
#
#   scripts/test.sh          lint, the fast tests, and once they pass the slow ones
#   scripts/test.sh --all    the same, then the tests that take minutes
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    "" | --all) ;;
    *) echo "usage: scripts/test.sh [--all]" >&2; exit 2 ;;
esac
MINUTES=()
# minutes_of NAME COMMAND...: runs the command and keeps how long it took.
minutes_of() {
    local name=$1 began=$SECONDS
    shift
    "$@"
    MINUTES+=("$(awk "BEGIN { printf \"%s %.1f\", \"$name\", ($SECONDS - $began) / 60 }")")
}

source scripts/environment.sh
minutes_of install make_environment .venv-test "[test]"
python scripts/machine_speed.py

ruff check .
ruff format --check .

# The tests run against the sources here, and the doctests of the package with them.
PACKAGE_AND_TESTS=(--doctest-modules gpt_keras tests)
# Two files at a time: tracing and compiling keep one core busy each, and take a few GB of memory.
TWO_AT_A_TIME=(-n 2 --dist loadfile)
minutes_of fast python -m pytest "${PACKAGE_AND_TESTS[@]}" "${TWO_AT_A_TIME[@]}" \
    -m "not slow and not soak"
minutes_of slow python -m pytest "${PACKAGE_AND_TESTS[@]}" "${TWO_AT_A_TIME[@]}" \
    -m "slow and not soak"
if [ "${1:-}" = --all ]; then
    minutes_of soak python -m pytest "${PACKAGE_AND_TESTS[@]}" -m soak
fi
echo "Minutes: $(IFS=,; echo "${MINUTES[*]}" | sed 's/,/, /g')."
