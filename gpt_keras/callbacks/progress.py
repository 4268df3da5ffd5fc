"""Callbacks that show progress: text samples and tokens per second."""

import time
from collections.abc import Callable

import keras
from keras import ops

from gpt_keras.checks import check_positive_int
from gpt_keras.training.metrics import Perplexity


class BatchCounter:
    """A counter of batches over all epochs; Keras counts within an epoch.

    Attributes:
        total: Number of batches that have ended.

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
        """Begin an epoch, in which Keras numbers the batches from 0."""
        self._batch = -1

    def end(self, batch: int) -> None:
        """Count the batches up to a batch that has ended.

        Args:
            batch: Number of the batch within the epoch, from 0.
        """
        self._before = self.total
        self.total += batch - self._batch  # more than 1 with steps_per_execution
        self._batch = batch

    def get_state(self) -> list[int]:
        """Return the number of batches so far, and the number of the newest in its epoch."""
        return [self.total, self._batch]

    def set_state(self, state: list[int]) -> None:
        """Continue with a saved state.

        Args:
            state: The result of `get_state`.
        """
        self.total, self._batch = state
        self._before = self.total

    def has_passed(self, every: int) -> bool:
        """Return whether the last `end` reached or passed a multiple of `every`.

        Args:
            every: A positive number of batches.
        """
        return self.total // every > self._before // every


class SampleText(keras.callbacks.Callback):
    """A callback that shows the model's continuation of a prompt during training.

    Attributes:
        samples: List of `(number of batches, text)`.

    Args:
        prompt: Text to continue.
        every: Number of batches between two samples; None for one sample after each epoch.
        print_fn: Function that receives each sample. Default: `print`.
        **settings: Arguments of `CausalLM.generate`, such as `max_new_tokens` (default 50) and
            `seed`. The default seed is 0 for every sample, so that samples differ only because the
            model has learned.

    Raises:
        ValueError: `prompt` is not a non-empty string, or `every` is not a positive integer; or,
            when training starts, a setting is invalid.

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
            raise ValueError(f"`prompt` must be a non-empty string, got {prompt!r}.")
        if every is not None:
            check_positive_int("every", every)
        self.prompt = prompt
        self.every = every
        self.print_fn = print_fn
        self.settings = {"max_new_tokens": 50, "seed": 0, **settings}
        self.samples: list[tuple[int, str]] = []
        self._counter = BatchCounter()

    def on_train_begin(self, logs=None):
        # Raise errors of the prompt or the settings before training, not at the first sample.
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

    def get_state(self) -> dict:
        """Return what `Checkpoint` saves."""
        return {"samples": self.samples, "counter": self._counter.get_state()}

    def set_state(self, state: dict) -> None:
        """Continue with a saved state; called by `Checkpoint`."""
        self.samples = [(batches, text) for batches, text in state["samples"]]
        self._counter.set_state(state["counter"])

    def _sample(self):
        text = self.model.generate(self.prompt, **self.settings)
        self.samples.append((self._counter.total, text))
        self.print_fn(f"\n--- after {self._counter.total} batches ---\n{text}\n")


class Throughput(keras.callbacks.Callback):
    """A callback that adds `tokens_per_second` to the progress bar and the history.

    It counts the tokens of the model's `Perplexity` metric, so padding does not count. It measures
    the time inside training batches, so validation and samples do not count. It ignores the first
    batch of a training, in which the model is compiled.

    Raises:
        ValueError: After the first batch, if the model was compiled without `Perplexity`.

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
        # Use the rate of the last training batch: by now the metric has counted validation.
        if self._rate is not None:
            logs["tokens_per_second"] = self._rate


def perplexity_of(model: keras.Model) -> Perplexity:
    """Return the `Perplexity` metric of a model, which callbacks use to count tokens.

    Args:
        model: A compiled model.

    Raises:
        ValueError: The model was compiled without `Perplexity`.
    """
    for metric in _flatten(model.metrics):
        if isinstance(metric, Perplexity):
            return metric
    raise ValueError(
        "The callback counts tokens with the Perplexity metric, but the model was compiled "
        "without it: pass weighted_metrics=[gk.training.Perplexity()] to `compile`."
    )


def number(variable) -> float:
    """Return the value of a scalar variable or tensor as a float.

    Args:
        variable: The scalar; a variable may be spread over several devices.
    """
    return float(ops.convert_to_numpy(ops.convert_to_tensor(variable)))


def _flatten(metrics):
    for metric in metrics:
        yield metric
        yield from _flatten(getattr(metric, "metrics", []))
