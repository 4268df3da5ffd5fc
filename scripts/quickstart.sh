#!/usr/bin/env bash
# Installs gpt_keras into .venv-quickstart, then trains, generates, saves, exports and serves.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv-quickstart ""
python scripts/quickstart.py
