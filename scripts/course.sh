#!/usr/bin/env bash
# Installs gpt_keras with all extras into .venv-course, then builds the notebooks of the course.
#
#   scripts/course.sh                  all chapters and solutions, stored with their outputs
#   scripts/course.sh --fast           a quick check with few steps; stores nothing
#   scripts/course.sh 04_attention     one chapter and its solutions
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv-course "[all]"
python scripts/build_tutorials.py --all "$@"
echo "To read and run the chapters: .venv-course/bin/jupyter lab tutorials"
