# Sourced by the other scripts: makes a virtual environment with the package in it.
#
#   make_environment NAME EXTRAS    e.g. make_environment .venv-test "[test]"
#
# It finds a Python of 3.11 to 3.13, makes the environment if it is not there, and installs the
# package from this folder. PYTHON=/path/to/python chooses another interpreter.

make_environment() {
    local name=$1 extras=$2 candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            2>/dev/null; then
            PYTHON=$candidate
            break
        fi
        candidate=
    done
    if [ -z "$candidate" ]; then
        echo "Python 3.11, 3.12 or 3.13 is needed, and ${PYTHON:-none that was found} is not one:" \
            "set PYTHON to one." >&2
        exit 1
    fi
    # An environment whose making was interrupted has no pip: make it again.
    "$name/bin/python" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m venv --clear "$name"
    # shellcheck disable=SC1091
    source "$name/bin/activate"
    echo "Installing gpt_keras$extras into $name (TensorFlow is large: this takes a minute or two)"
    python -m pip install --quiet --disable-pip-version-check ".$extras"
    # Without a GPU, TensorFlow reports at level 2 that it found no driver, as if that were an error.
    export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
}
