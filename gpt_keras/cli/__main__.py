"""Entry point of `python -m gpt_keras.cli`."""

import sys

from gpt_keras.cli import main

sys.exit(main())
