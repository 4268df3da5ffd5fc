"""Callbacks for `model.fit`: samples as the model learns, and tokens per second."""

import time
from collections.abc import Callable

import keras
from keras import ops

from gpt_keras.checks import check_positive_int
from gpt_keras.training.metrics import Perplexity


class BatchCounter:
    """The number of batches since a training began; Keras counts within an epoch.

    Attributes:
        total: The number of batches that have ended.

    Example:
        >>> counter = BatchCounter()
        >>> for batch in (1, 3):    # as with steps_per_execution=2
        ...     counter.end(batch)
        >>> counter.total, counter.has_passed(3), counter.has_passed(5)
        (4, True, False)
    """

    def __init__(self):
        self.total = 0
        self._before = 0
        self._batch = -1

    def begin_epoch(self) -> None:
        """Begin an epoch, whose batches Keras numbers from 0."""
        self._batch = -1

    def end(self, batch: int) -> None:
        """Count the batches up to number `batch` of the epoch."""
        self._before = self.total
        self.total += batch - self._batch  # more than 1 with steps_per_execution
        self._batch = batch

    def has_passed(self, every: int) -> bool:
        """Return whether the last call of `end` reached or passed a multiple of `every`."""
        return self.total // every > self._before // every


class SampleText(keras.callbacks.Callback):
    """Shows what the model makes of a prompt while it learns.

    Args:
        prompt: Text to continue.
        every: Show a sample after this many batches; None: at the end of each epoch.
        print_fn: What each sample is handed to. Default: `print`.
        **settings: Arguments of `CausalLM.generate`, such as `max_new_tokens` and `seed`. The seed
            is 0 unless given, so that samples differ by what was learnt and by nothing else.

    Attributes:
        samples: List of `(batches seen, text)`.

    Example:
        >>> import gpt_keras as gk
        >>> callback = gk.callbacks.SampleText("Once", every=100, max_new_tokens=20)
    """

    def __init__(
        self,
        prompt: str,
        every: int | None = None,
        print_fn: Callable[[str], None] = print,
        **settings,
    ):
        super().__init__()
        if not isinstance(prompt, str) or not prompt:
            raise ValueError(f"`prompt` must be a text that is not empty, got {prompt!r}.")
        if every is not None:
            check_positive_int("every", every)
        self.prompt = prompt
        self.every = every
        self.print_fn = print_fn
        self.settings = {"max_new_tokens": 50, "seed": 0, **settings}
        self.samples: list[tuple[int, str]] = []
        self._counter = BatchCounter()

    def on_train_begin(self, logs=None):
        # What is wrong with the prompt or the settings is said before training, not after.
        self.model.stream(self.prompt, **self.settings)

    def on_epoch_begin(self, epoch, logs=None):
        self._counter.begin_epoch()

    def on_train_batch_end(self, batch, logs=None):
        self._counter.end(batch)
        if self.every is not None and self._counter.has_passed(self.every):
            self._sample()

    def on_epoch_end(self, epoch, logs=None):
        if self.every is None:
            self._sample()

    def _sample(self):
        text = self.model.generate(self.prompt, **self.settings)
        self.samples.append((self._counter.total, text))
        self.print_fn(f"\n--- after {self._counter.total} batches ---\n{text}\n")


class Throughput(keras.callbacks.Callback):
    """Adds `tokens_per_second` to the progress bar and to the history.

    Counts the tokens that the model's `Perplexity` metric has seen, so padding does not count, and
    the time inside training batches, so validation and samples do not count. The first batch of a
    training is left out: it compiles.

    Raises:
        ValueError: When training starts, if the model was compiled without `Perplexity`.

    Example:
        >>> import gpt_keras as gk
        >>> callback = gk.callbacks.Throughput()
    """

    def __init__(self):
        super().__init__()
        self._compiled = False

    def on_train_begin(self, logs=None):
        self._compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        self._seconds = 0.0
        self._uncounted = 0.0
        self._rate = None

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        seconds = time.perf_counter() - self._began
        tokens = number(perplexity_of(self.model).count)
        if not self._compiled:
            self._compiled = True
            self._uncounted = tokens
            return
        self._seconds += seconds
        self._rate = (tokens - self._uncounted) / self._seconds
        logs["tokens_per_second"] = self._rate

    def on_epoch_end(self, epoch, logs=None):
        # By now the metric has counted validation; what counts is the last training batch.
        if self._rate is not None:
            logs["tokens_per_second"] = self._rate


def perplexity_of(model: keras.Model) -> Perplexity:
    """Return the metric with which callbacks count tokens.

    Raises:
        ValueError: The model was compiled without it.
    """
    for metric in _flatten(model.metrics):
        if isinstance(metric, Perplexity):
            return metric
    raise ValueError(
        "The callback counts tokens with the Perplexity metric, and the model was compiled "
        "without it: pass weighted_metrics=[gk.training.Perplexity()]."
    )


def number(variable) -> float:
    """Return the value of a variable, which may lie on several devices."""
    return float(ops.convert_to_numpy(ops.convert_to_tensor(variable)))


def _flatten(metrics):
    for metric in metrics:
        yield metric
        yield from _flatten(getattr(metric, "metrics", []))
