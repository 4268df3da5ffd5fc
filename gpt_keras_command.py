"""The `gpt-keras` command: loads the command line without loading TensorFlow.

Importing `gpt_keras.cli` imports `gpt_keras` first, and with it TensorFlow: seconds, even for
`gpt-keras --help`. So the same package is loaded here under a name of its own. It imports
`gpt_keras` when a command starts to work, after the arguments were read.
"""

import importlib.util
import os
import pathlib
import sys

_NAME = "gpt_keras_cli"


def main() -> int:
    """Run `gpt-keras` with the arguments in `sys.argv`, and return the exit code."""
    # TensorFlow's messages on the machine's instructions say nothing that a user can act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _load().main()
    except KeyboardInterrupt:  # as early as in an import
        print("gpt-keras: interrupted", file=sys.stderr)
        return 130


def _load():
    # The name of a package at the top is found without importing the package.
    folder = pathlib.Path(importlib.util.find_spec("gpt_keras").origin).parent / "cli"
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module  # for the imports inside it
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
