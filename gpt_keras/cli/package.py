"""`gk`: the package `gpt_keras`, imported when it is first used.

Reading arguments and showing help need no TensorFlow, whose import takes seconds.
"""

import importlib


class _Package:
    def __getattr__(self, name):
        return getattr(importlib.import_module("gpt_keras"), name)


gk = _Package()
