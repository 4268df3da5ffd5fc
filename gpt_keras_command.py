"""The `gpt-keras` command, which parses its arguments without TensorFlow.

Importing `gpt_keras.cli` would import `gpt_keras` first, and with it TensorFlow. This takes
seconds, even for `gpt-keras --help`. So this module loads the same package under another name,
`gpt_keras_cli`. That package imports `gpt_keras` only when a command runs, after the arguments
were parsed.
"""

import importlib.util
import os
import pathlib
import sys

_NAME = "gpt_keras_cli"


def main() -> int:
    """Run `gpt-keras` with the arguments in `sys.argv`; return the exit code."""
    # Hide TensorFlow's messages about CPU instructions: a user cannot act on them.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _load().main()
    except KeyboardInterrupt:  # even during an import
        print("gpt-keras: interrupted", file=sys.stderr)
        return 130


def _load():
    # `find_spec` does not import a top-level package.
    folder = pathlib.Path(importlib.util.find_spec("gpt_keras").origin).parent / "cli"
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module  # its own modules import each other by this name
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
