"""TensorBoard for language models: losses, gradients, samples, attention weights."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.callbacks.progress import BatchCounter, SampleText, number
from gpt_keras.checks import check_positive_int
from gpt_keras.training.optimizers import bare_optimizer


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's callback, extended by the samples, gradients and attention of a language model.

    Of every few batches the loss, the learning rate, the norm of the gradients (with the
    optimizers of `gk.training`) and tokens per second (with `Throughput`, which must come first);
    of every epoch new samples, and attention weights of a text as pictures.

    Needs the package `tensorboard`: `pip install 'gpt_keras[tensorboard]'`. To look:
    `tensorboard --logdir runs`.

    Args:
        log_dir: Directory to write.
        every: Of every so many batches scalars are written.
        samples: The `SampleText` callback whose samples are shown; it must come first.
        attention_text: Text whose attention weights are shown, a picture a layer, for models of
            `TransformerBlock`s; at most 64 tokens of it.
        **kwargs: Further arguments of `keras.callbacks.TensorBoard`.

    Raises:
        ImportError: The package `tensorboard` is not installed.

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
                    # Indented by four, Markdown leaves it as it is.
                    code = "\n".join("    " + line for line in text.splitlines())
                    tf.summary.text("sample", code, step=batches)
                self._num_samples = len(self.samples.samples)
            if self.attention_text is not None:
                for layer, picture in enumerate(_pictures(self.model, self.attention_text)):
                    tf.summary.image(f"attention/layer_{layer}", picture[None], step=step)
        self._own_writer.flush()

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._own_writer.close()


def _pictures(model, text):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from gpt_keras import interpretation, plots  # stand above training

    ids = model.tokenizer.encode(text, add_start_of_text=True)[:64]
    pieces = [piece.decode("utf-8", errors="replace") for piece in model.tokenizer.pieces(ids)]
    weights = interpretation.attention_weights(model, np.array([ids]))[:, 0]
    for layer in weights:  # (heads, length, length)
        canvas = FigureCanvasAgg(plots.attention(layer, pieces))
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())
