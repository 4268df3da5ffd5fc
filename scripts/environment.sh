# Defines a function for the other scripts, which creates a virtual environment with the package.
#
#   make_environment NAME EXTRAS    e.g. make_environment .venv-test "[test]"
#
# The function finds Python 3.11, 3.12 or 3.13, creates the environment if it does not exist,
# activates it, and installs the package from this folder. PYTHON=/path/to/python chooses another
# interpreter.

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
        echo "gpt_keras needs Python 3.11, 3.12 or 3.13, and found no such version" \
            "(tried ${PYTHON:-python3, python3.13, python3.12, python3.11, python})." \
            "Set PYTHON to the path of a suitable interpreter." >&2
        exit 1
    fi
    # An environment whose creation was interrupted has no pip, so it is created again.
    "$name/bin/python" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m venv --clear "$name"
    # shellcheck disable=SC1091
    source "$name/bin/activate"
    echo "Installing gpt_keras$extras into $name (TensorFlow is large: this takes a minute or two)"
    python -m pip install --quiet --disable-pip-version-check ".$extras"
    # Without a GPU, TensorFlow logs at level 2 that it found no driver, although this is no error.
    export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
}
