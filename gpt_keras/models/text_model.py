"""Base of the models that read texts: a backbone, a tokenizer, training and saving."""

import pathlib

import keras
import tensorflow as tf

from gpt_keras import tokenizers
from gpt_keras.backend import num_replicas
from gpt_keras.generation.backbone import max_sequence_length
from gpt_keras.layers.quantized_sublayers import fast_and_quiet
from gpt_keras.models.frozen import frozen_layers, make_from_config
from gpt_keras.models.tokenizer_config import (
    serialized_tokenizer,
    tokenizer_beside_config,
    tokenizer_from_json,
)
from gpt_keras.training.losses import (
    check_loss,
    divisor_of_mean,
    ignored_class,
    token_weights,
)
from gpt_keras.training.metrics import MeanLoss
from gpt_keras.training.optimizers import MeasuredOptimizer, bare_optimizer


class TextModel(keras.Model):
    """A backbone with a tokenizer.

    Subclasses say which tokenizers they take (`_check_tokenizer`) and what is done with the
    backbone.

    Args:
        backbone: A Keras model on token ids.
        name: Name of the model.
    """

    # Shape of the token ids that the model is called with.
    _input_shape: tuple[None, ...] = (None, None)

    def __init__(self, backbone: keras.Model, name: str):
        # With the backbone's policy Keras scales the loss when it is mixed_float16.
        super().__init__(name=name, dtype=backbone.dtype_policy)
        self.backbone = backbone
        self._tokenizer = None
        self.mean_loss = MeanLoss()

    def build(self, input_shape):
        """Do nothing: the parts are built."""

    @property
    def input_dtype(self):
        """Dtype of the inputs, the token ids; Keras's exporters read it."""
        return "int32"

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Export the network, from token ids to its outputs; `keras.Model.export`.

        Args:
            filepath: What to write.
            format: One of `keras.Model.export`'s: `"tf_saved_model"`, `"litert"`, `"onnx"`, ...
            verbose: Whether to report what is written.
            **kwargs: Further arguments of `keras.Model.export`. `input_signature` is int32
                `token_ids` of any batch and length unless given; in ONNX of a batch of 1.
        """
        shape = self._input_shape
        if format == "onnx":  # with both axes open tf2onnx's graph fails in a reshape
            shape = (1, *shape[1:])
        token_ids = keras.layers.InputSpec(shape=shape, dtype="int32", name="token_ids")
        kwargs.setdefault("input_signature", [token_ids])
        super().export(filepath, format=format, verbose=verbose, **kwargs)

    @property
    def max_sequence_length(self) -> int | None:
        """Longest sequence that the backbone takes; None if nothing in it has a limit."""
        return max_sequence_length(self.backbone)

    @property
    def tokenizer(self):
        """The tokenizer, or None."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer):
        if tokenizer is not None:
            if not isinstance(tokenizer, tokenizers.Tokenizer):
                raise ValueError(
                    f"`tokenizer` must be a gk.tokenizers.Tokenizer or None, got {tokenizer!r}."
                )
            self._check_tokenizer(tokenizer)
        self._tokenizer = tokenizer

    def _check_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> None:
        raise NotImplementedError

    def compile(self, optimizer, loss, **kwargs):
        """Set how the model trains; `keras.Model.compile`, with XLA unless `run_eagerly` is given.

        Raises:
            ValueError: `loss` is a cross-entropy on probabilities; the model gives logits.
        """
        check_loss(loss)
        # Keras's own choice would not use XLA on a CPU.
        compiles = not kwargs.get("run_eagerly", False)
        if keras.backend.backend() != "tensorflow":
            compiles = "auto"
        elif self.distribute_strategy.num_replicas_in_sync > 1:
            compiles = False
            for name, allowed in (("jit_compile", (False, "auto")), ("steps_per_execution", (1,))):
                if kwargs.get(name, allowed[0]) not in allowed:
                    raise ValueError(
                        f"`{name}` must be {allowed[0]} on several devices of a tf.distribute "
                        f"strategy, got {kwargs[name]!r}: TensorFlow cannot run such a step."
                    )
        kwargs.setdefault("jit_compile", compiles)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        self.mean_loss.reset_state()

    @property
    def metrics(self):
        """The metrics that Keras resets and shows, the loss first."""
        # Keras's own mean of the losses weights batches by their rows.
        others = [metric for metric in super().metrics if metric.name != self.mean_loss.name]
        return [self.mean_loss, *others] if self.compiled else others

    def train_step(self, data, *args):
        """Train on a batch; Keras calls this."""
        if keras.backend.backend() != "tensorflow" or self.jit_compile:
            return super().train_step(data, *args)
        # Weight decay and the count of steps need nothing of the batch. Without XLA, which runs a
        # step whole, they have to wait for it, or they would run for a batch that is refused.
        parts = [part for part in tf.nest.flatten(data) if part is not None]
        with tf.control_dependencies(parts):
            return super().train_step(data)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch; Keras calls this in every step.

        The weight of a row is that of each of its targets, whatever the loss and wherever the
        batch comes from. The mean over batches, and an optimizer of `gk.training` that accumulates
        gradients, weight each batch by the weights of its targets.
        """
        weights = token_weights(y, y_pred, sample_weight) if sample_weight is not None else None
        divisor = divisor_of_mean(self.loss, y, y_pred, weights)
        if training and isinstance(optimizer := bare_optimizer(self.optimizer), MeasuredOptimizer):
            optimizer.weigh(divisor)
        loss = super().compute_loss(x, y, y_pred, weights, training=training)
        # The loss of one device is divided by their number.
        self.mean_loss.update_state(loss * num_replicas(), sample_weight=divisor)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Update the metrics with a batch; Keras calls this in every step."""
        # The weighted metrics leave out the targets that the loss leaves out.
        weights = token_weights(y, y_pred, sample_weight, ignored_class(self.loss))
        return super().compute_metrics(x, y, y_pred, weights)

    def compile_from_config(self, config):
        """Compile as a saved model was compiled; Keras calls this while loading."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def quantize(self, mode=None, config=None, **kwargs):
        """Round the weights in place to 8 bits, or fewer; the arguments are `gk.GPT.quantize`'s."""
        with fast_and_quiet():
            super().quantize(mode=mode, config=config, **kwargs)

    def save(self, filepath, overwrite=True, **kwargs):
        """Save to a `.keras` file, tokenizer included."""
        with tokenizer_beside_config():
            super().save(filepath, overwrite=overwrite, **kwargs)

    def save_assets(self, directory):
        """Write the tokenizer into a `.keras` file; Keras calls this while saving."""
        if self.tokenizer is not None:
            self.tokenizer.save(pathlib.Path(directory) / "tokenizer.json")

    def load_assets(self, directory):
        """Read the tokenizer from a `.keras` file; Keras calls this while loading."""
        path = pathlib.Path(directory) / "tokenizer.json"
        if path.exists():
            self.tokenizer = tokenizers.load(path)

    def get_config(self):
        config = serialized_tokenizer(self.tokenizer)
        if frozen := frozen_layers(self):
            config["frozen"] = frozen
        return config

    @classmethod
    def _from_arguments(cls, config):
        """Make a model of the constructor's arguments and what `get_config` above adds to them."""
        if isinstance(config.get("tokenizer"), str):
            config["tokenizer"] = tokenizer_from_json(config["tokenizer"])
        return make_from_config(cls, config)
