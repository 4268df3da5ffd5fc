"""A callback that monitors the loss of each batch."""

import math
from collections.abc import Callable

import keras
from keras import ops

from gpt_keras.callbacks.progress import BatchCounter, number, perplexity_of
from gpt_keras.training.optimizers import bare_optimizer


class LossWatch(keras.callbacks.Callback):
    """A callback that stops training at a loss that is not finite or jumps up.

    It prints a message with the step and adds a dict to `incidents`. Batches that the optimizer
    skipped (`skip_above` of the `gk.training` optimizers) do not stop training. They are reported,
    and removed from the metrics if their loss is not finite.

    Attributes:
        incidents: List of dicts, one for each skipped batch or stop. `step` is the number of
            batches since training began, from 1; `epoch` and `batch` count from 0, as in Keras;
            `loss` is in nats per token; `gradient_norm` is None if the optimizer does not measure
            it; `action` is `"stopped"` or `"skipped"`.

    Args:
        stop_above: Largest ratio, above 1, of a batch's loss to the running mean of about the last
            hundred losses. A higher loss stops training. None: only a loss that is not finite does.
        print_fn: Function that receives each message. Default: `print`.

    Raises:
        ValueError: `stop_above` is not above 1; or, after the first batch, the model was compiled
            without `Perplexity`.

    Example:
        >>> import gpt_keras as gk
        >>> watch = gk.callbacks.LossWatch(stop_above=2.0)
    """

    def __init__(self, stop_above: float | None = None, print_fn: Callable[[str], None] = print):
        super().__init__()
        if stop_above is not None and not stop_above > 1:
            raise ValueError(f"`stop_above` must be above 1 or None, got {stop_above!r}.")
        self.stop_above = stop_above
        self.print_fn = print_fn
        self.incidents: list[dict] = []

    def on_train_begin(self, logs=None):
        self._counter = BatchCounter()
        self._mean = None
        self._num_skipped = self._optimizer_value("num_skipped") or 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._counter.begin_epoch()
        self._before = 0.0, 0.0  # Keras has reset all metrics
        self._values = None

    def on_train_batch_end(self, batch, logs=None):
        self._counter.end(batch)
        self._batch = batch
        metric = perplexity_of(self.model)
        tokens = number(metric.count) - self._before[1]
        loss = (number(metric.total) - self._before[0]) / tokens if tokens else math.nan
        num_skipped = self._optimizer_value("num_skipped") or 0
        if num_skipped > self._num_skipped:
            self._num_skipped = num_skipped
            self._report(loss, "skipped")
            if not math.isfinite(loss):
                self._take_back()
        elif not math.isfinite(loss) or self._leaps(loss):
            self._report(loss, "stopped")
            self.model.stop_training = True
        else:
            self._mean = loss if self._mean is None else self._mean + 0.01 * (loss - self._mean)
        self._remember_metrics()

    def _remember_metrics(self):
        metric = perplexity_of(self.model)
        self._before = number(metric.total), number(metric.count)
        self._values = [
            ops.convert_to_numpy(ops.convert_to_tensor(v)) for v in self._metric_variables()
        ]

    def get_state(self) -> dict:
        """Return what `Checkpoint` saves."""
        return {
            "counter": self._counter.get_state(),
            "incidents": self.incidents,
            "mean": self._mean,
            "num_skipped": self._num_skipped,
        }

    def set_state(self, state: dict) -> None:
        """Continue with a saved state; called after the metrics are restored."""
        self._counter.set_state(state["counter"])
        self.incidents[:] = state["incidents"]
        self._mean, self._num_skipped = state["mean"], state["num_skipped"]
        self._remember_metrics()

    def _metric_variables(self):
        return [variable for metric in self.model.metrics for variable in metric.variables]

    def _take_back(self):
        """Restore the metrics to their values before the batch."""
        if self._values is None:
            self.model.reset_metrics()
            return
        for variable, value in zip(self._metric_variables(), self._values, strict=True):
            variable.assign(value)

    def _leaps(self, loss):
        return None not in (self.stop_above, self._mean) and loss > self.stop_above * self._mean

    def _report(self, loss, action):
        norm = self._optimizer_value("gradient_norm")
        place = {"step": self._counter.total, "epoch": self._epoch, "batch": self._batch}
        self.incidents.append({**place, "loss": loss, "gradient_norm": norm, "action": action})
        usual = "" if self._mean is None else f" (running mean {self._mean:.4g})"
        gradients = "" if norm is None else f", gradients of norm {norm:.4g}"
        what = {"skipped": "the batch was skipped", "stopped": "training stops"}[action]
        self.print_fn(
            f"step {self._counter.total} (epoch {self._epoch}, batch {self._batch}): "
            f"loss {loss:.4g}{usual}{gradients}; {what}"
        )

    def _optimizer_value(self, name):
        variable = getattr(bare_optimizer(self.model.optimizer), name, None)
        return None if variable is None else number(variable)
