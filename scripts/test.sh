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
source scripts/environment.sh
make_environment .venv-test "[test]"

ruff check .
ruff format --check .

# The tests run against the sources here, and the doctests of the package with them.
PACKAGE_AND_TESTS=(--doctest-modules gpt_keras tests)
# Two files at a time: tracing and compiling keep one core busy each, and take a few GB of memory.
TWO_AT_A_TIME=(-n 2 --dist loadfile)
python -m pytest "${PACKAGE_AND_TESTS[@]}" "${TWO_AT_A_TIME[@]}" -m "not slow and not soak"
python -m pytest "${PACKAGE_AND_TESTS[@]}" "${TWO_AT_A_TIME[@]}" -m "slow and not soak"
if [ "${1:-}" = --all ]; then
    python -m pytest "${PACKAGE_AND_TESTS[@]}" -m soak
fi
