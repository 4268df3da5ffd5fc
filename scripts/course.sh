#!/usr/bin/env bash
# Installs gpt_keras with all its extras into .venv-course, then runs the whole course.
#
#   scripts/course.sh                  every chapter and its solutions, stored with their outputs
#   scripts/course.sh --fast           the same with few steps, nothing stored: does all of it run?
#   scripts/course.sh 04_attention     one chapter and its solutions
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv-course "[all]"
python scripts/build_tutorials.py --all "$@"
echo "To read and run the chapters: .venv-course/bin/jupyter lab tutorials"
