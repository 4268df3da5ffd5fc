"""TensorBoard for language models: losses, gradients, samples and attention."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.callbacks.progress import BatchCounter, SampleText, number
from gpt_keras.checks import check_positive_int
from gpt_keras.training.optimizers import bare_optimizer


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback with samples, gradients and attention weights.

    Every `every` batches it writes scalars: the loss, the learning rate, the gradient norm (with
    the `gk.training` optimizers) and tokens per second (with the `Throughput` callback). After each
    epoch it writes new samples, and the attention weights of a text as images.

    It needs the package `tensorboard`: `pip install 'gpt_keras[tensorboard]'`. Run
    `tensorboard --logdir runs` to see the result.

    Args:
        log_dir: Directory to write to.
        every: Number of batches between two writes of scalars.
        samples: The `SampleText` callback whose samples are written. It must come before this
            callback in the list, and so must `Throughput`.
        attention_text: Text whose attention weights are written, one image for each layer, or None.
            At most its first 64 tokens are used. The model must consist of `TransformerBlock`s.
        **kwargs: Further arguments of `keras.callbacks.TensorBoard`.

    Raises:
        ImportError: The package `tensorboard` is not installed.
        ValueError: `every` is not a positive integer.

    Example:
        >>> import gpt_keras as gk
        >>> callback = gk.callbacks.TensorBoard("runs/1")  # doctest: +SKIP
    """

    def __init__(
        self,
        log_dir: str | os.PathLike = "logs",
        every: int = 10,
        samples: SampleText | None = None,
        attention_text: str | None = None,
        **kwargs,
    ):
        check_positive_int("every", every)
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs tensorboard: pip install 'gpt_keras[tensorboard]'"
            ) from error
        super().__init__(log_dir=str(log_dir), **kwargs)
        self.every = every
        self.samples = samples
        self.attention_text = attention_text
        self._counter = BatchCounter()
        self._num_samples = 0

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._own_writer = tf.summary.create_file_writer(str(pathlib.Path(self.log_dir) / "train"))

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._counter.begin_epoch()

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self._counter.end(batch)
        if not self._counter.has_passed(self.every):
            return
        optimizer = bare_optimizer(self.model.optimizer)
        values = {
            "loss": logs.get("loss"),
            "learning_rate": optimizer.learning_rate,
            "gradient_norm": getattr(optimizer, "gradient_norm", None),
            "tokens_per_second": logs.get("tokens_per_second"),
        }
        with self._own_writer.as_default():
            for name, value in values.items():
                if value is not None:
                    tf.summary.scalar(f"batch/{name}", number(value), step=self._counter.total)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        step = self._counter.total
        with self._own_writer.as_default():
            if self.samples is not None:
                for batches, text in self.samples.samples[self._num_samples :]:
                    # Indent by four spaces, so that Markdown shows the text unchanged.
                    code = "\n".join("    " + line for line in text.splitlines())
                    tf.summary.text("sample", code, step=batches)
                self._num_samples = len(self.samples.samples)
            if self.attention_text is not None:
                for layer, picture in enumerate(_pictures(self.model, self.attention_text)):
                    tf.summary.image(f"attention/layer_{layer}", picture[None], step=step)
        self._own_writer.flush()

    def get_state(self) -> dict:
        """Return what `Checkpoint` saves."""
        return {"counter": self._counter.get_state(), "num_samples": self._num_samples}

    def set_state(self, state: dict) -> None:
        """Continue with a saved state; called by `Checkpoint`."""
        self._counter.set_state(state["counter"])
        self._num_samples = state["num_samples"]

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._own_writer.close()


def _pictures(model, text):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from gpt_keras import interpretation, plots  # late: higher layers of the package

    ids = model.tokenizer.encode(text, add_start_of_text=True)[:64]
    pieces = [piece.decode("utf-8", errors="replace") for piece in model.tokenizer.pieces(ids)]
    weights = interpretation.attention_weights(model, np.array([ids]))[:, 0]
    for layer in weights:  # (heads, length, length)
        canvas = FigureCanvasAgg(plots.attention(layer, pieces))
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())
