"""A callback that fills the silence while XLA compiles."""

import time
from collections.abc import Callable

import keras


class CompileNotice(keras.callbacks.Callback):
    """Notices that say that the first step is being compiled, and how long that took.

    XLA compiles the training step and the validation step when they first run, which takes from
    seconds to a minute. Keras shows nothing meanwhile. Without XLA (`jit_compile=False`) this
    callback shows nothing either.

    Args:
        print_fn: Function that receives each notice. Default: `print`.

    Example:
        >>> import gpt_keras as gk
        >>> callback = gk.callbacks.CompileNotice()
    """

    def __init__(self, print_fn: Callable[[str], None] = print):
        super().__init__()
        self.print_fn = print_fn
        self._began: float | None = None
        self._compiled: set[str] = set()

    def on_train_begin(self, logs=None):
        self._compiled.clear()

    def on_train_batch_begin(self, batch, logs=None):
        self._begin("training")

    def on_train_batch_end(self, batch, logs=None):
        self._end("training")

    def on_test_batch_begin(self, batch, logs=None):
        self._begin("validation")

    def on_test_batch_end(self, batch, logs=None):
        self._end("validation")

    def _begin(self, step):
        if self.model.jit_compile and step not in self._compiled:
            self.print_fn(f"Compiling the {step} step with XLA ...")
            self._began = time.perf_counter()

    def _end(self, step):
        if self._began is not None:
            self._compiled.add(step)
            seconds = time.perf_counter() - self._began
            self._began = None
            self.print_fn(f"Compiled the {step} step in {seconds:.0f} s.")
