#!/usr/bin/env bash
# Installs gpt_keras with its docs extra into .venv-docs, then builds the documentation into site/.
#
# A warning is an error: of MkDocs, of a docstring that cannot be read, of a link that leads nowhere.
# Nothing runs but the help of the command line: chapters are shown with their stored outputs.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv-docs "[docs]"
NO_MKDOCS_2_WARNING=1 mkdocs build --strict
linkchecker --no-status site/index.html
echo "The site is in site/: open site/index.html"
