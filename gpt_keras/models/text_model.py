"""Base class of models with a tokenizer: training, quantization and saving."""

import pathlib

import keras
import tensorflow as tf

from gpt_keras import tokenizers
from gpt_keras.backend import num_replicas
from gpt_keras.generation.backbone import max_sequence_length
from gpt_keras.layers.quantized_sublayers import fast_and_quiet
from gpt_keras.models.adapters import Adaptable
from gpt_keras.models.saved_state import load_seeds, make_from_config, save_seeds, saved_state
from gpt_keras.models.tokenizer_config import (
    serialized_tokenizer,
    tokenizer_beside_config,
    tokenizer_from_json,
)
from gpt_keras.tokenizers.tokenizer import FILE_NAME
from gpt_keras.training.losses import (
    check_loss,
    divisor_of_mean,
    ignored_class,
    token_weights,
)
from gpt_keras.training.metrics import MeanLoss
from gpt_keras.training.optimizers import MeasuredOptimizer, bare_optimizer


class TextModel(Adaptable, keras.Model):
    """Base class of a backbone with a tokenizer.

    Subclasses define `call`, and `_check_tokenizer`, which raises an error if a tokenizer does not
    fit the backbone.

    Args:
        backbone: A Keras model whose inputs are token ids.
        name: Name of the model.
    """

    # Shape of the token ids in a call of the model.
    _input_shape: tuple[None, ...] = (None, None)

    def __init__(self, backbone: keras.Model, name: str):
        # Keras scales the loss if the policy of the model is mixed_float16.
        super().__init__(name=name, dtype=backbone.dtype_policy)
        self.backbone = backbone
        self._tokenizer = None
        self.mean_loss = MeanLoss()

    def build(self, input_shape):
        """Do nothing: the constructor builds all parts."""

    @property
    def input_dtype(self):
        """Dtype of the token ids; Keras's exporters read it."""
        return "int32"

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Export the network from token ids to its outputs, as `keras.Model.export`.

        Args:
            filepath: File or directory to write.
            format: A format of `keras.Model.export`: `"tf_saved_model"`, `"litert"`, `"onnx"`, ...
            verbose: Whether Keras reports its progress.
            **kwargs: Further arguments of `keras.Model.export`. The default `input_signature` is
                int32 `token_ids` of any batch size and length; for ONNX the batch size is 1.
        """
        shape = self._input_shape
        if format == "onnx":  # tf2onnx: with two unknown axes a reshape of its graph fails
            shape = (1, *shape[1:])
        token_ids = keras.layers.InputSpec(shape=shape, dtype="int32", name="token_ids")
        kwargs.setdefault("input_signature", [token_ids])
        super().export(filepath, format=format, verbose=verbose, **kwargs)

    @property
    def max_sequence_length(self) -> int | None:
        """Longest sequence of the backbone, in tokens; None if it has no limit."""
        return max_sequence_length(self.backbone)

    @property
    def tokenizer(self):
        """Tokenizer of the model, or None."""
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
        """Configure training; `keras.Model.compile` with XLA by default.

        Args:
            optimizer: As in Keras.
            loss: As in Keras.
            **kwargs: The other arguments of `keras.Model.compile`. `jit_compile` defaults to True.
                The default is False with `run_eagerly`, and on several devices of a
                `tf.distribute` strategy.

        Raises:
            ValueError: `loss` is a cross-entropy of probabilities, but the model returns logits.
                Or `jit_compile` or `steps_per_execution` cannot be used on several devices.
        """
        check_loss(loss)
        # Keras's own default, "auto", does not use XLA on a CPU.
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
        """Metrics that Keras resets and shows, the loss first."""
        # `mean_loss` replaces Keras's own metric, which weights each batch by its number of rows.
        others = [metric for metric in super().metrics if metric.name != self.mean_loss.name]
        return [self.mean_loss, *others] if self.compiled else others

    def make_train_function(self, force=False):
        """Make the function of a training step; Keras calls this method."""
        # TensorFlow traces a step twice if it creates variables. Without XLA the first `fit` of a
        # tiny model then took 5.5 s of CPU time instead of 1.6, with XLA 5.4 instead of 4.3.
        if self.built:
            self._build_optimizer()
        return super().make_train_function(force)

    def _build_optimizer(self):
        if keras.backend.backend() == "tensorflow" and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def train_step(self, data, *args):
        """Train on one batch; Keras calls this method."""
        if keras.backend.backend() != "tensorflow" or self.jit_compile:
            return super().train_step(data, *args)
        # Weight decay and the step counter do not depend on the batch. Without XLA, TensorFlow may
        # run them before the batch is checked, and a refused batch would still change the weights.
        # The control dependency makes them wait for the batch.
        parts = [part for part in tf.nest.flatten(data) if part is not None]
        with tf.control_dependencies(parts):
            return super().train_step(data)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of a batch; Keras calls this method in every step.

        The weight of a row is broadcast to its targets, for every loss and every source of batches.
        The reported mean loss weights each batch by the sum of its targets' weights. Gradient
        accumulation in an optimizer of `gk.training` uses the same weights of batches.
        """
        weights = token_weights(y, y_pred, sample_weight) if sample_weight is not None else None
        divisor = divisor_of_mean(self.loss, y, y_pred, weights)
        if training and isinstance(optimizer := bare_optimizer(self.optimizer), MeasuredOptimizer):
            optimizer.weigh(divisor)
        loss = super().compute_loss(x, y, y_pred, weights, training=training)
        # On several devices, each loss is already divided by the number of devices.
        self.mean_loss.update_state(loss * num_replicas(), sample_weight=divisor)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Update the metrics with a batch; Keras calls this method in every step."""
        # Weighted metrics ignore the targets of `ignore_class`, as the loss does.
        weights = token_weights(y, y_pred, sample_weight, ignored_class(self.loss))
        return super().compute_metrics(x, y, y_pred, weights)

    def compile_from_config(self, config):
        """Restore the compile settings of a saved model; Keras calls this method."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def quantize(self, mode=None, config=None, **kwargs):
        """Quantize the weights in place.

        Args:
            mode: As in `gk.GPT.quantize`.
            config: As in `gk.GPT.quantize`.
            **kwargs: As in `gk.GPT.quantize`.
        """
        with fast_and_quiet():
            super().quantize(mode=mode, config=config, **kwargs)

    def save(self, filepath, overwrite=True, **kwargs):
        """Save to a `.keras` file, tokenizer included, as `keras.Model.save`."""
        with tokenizer_beside_config():
            super().save(filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Load a file of weights, as `keras.Model.load_weights`.

        A compiled model also loads the optimizer's state, if the file holds one.

        Args:
            filepath: As in Keras.
            skip_mismatch: As in Keras.
            **kwargs: As in Keras.
        """
        if self.compiled:
            self._build_optimizer()  # else Keras skips the state with a warning
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)

    def save_own_variables(self, store):
        """Write variables into a file of weights; Keras calls this method."""
        super().save_own_variables(store)
        save_seeds(self, store)

    def load_own_variables(self, store):
        """Read variables from a file of weights; Keras calls this method."""
        super().load_own_variables(load_seeds(self, store))

    def save_assets(self, directory):
        """Write the tokenizer into a `.keras` file; Keras calls this method."""
        if self.tokenizer is not None:
            self.tokenizer.save(pathlib.Path(directory) / FILE_NAME)

    def load_assets(self, directory):
        """Read the tokenizer from a `.keras` file; Keras calls this method."""
        path = pathlib.Path(directory) / FILE_NAME
        if path.exists():
            self.tokenizer = tokenizers.load(path)

    def get_config(self):
        config = serialized_tokenizer(self.tokenizer)
        return config | saved_state(self)

    @classmethod
    def _from_arguments(cls, config):
        """Build a model from constructor arguments and the entries of `get_config` above."""
        if isinstance(config.get("tokenizer"), str):
            config["tokenizer"] = tokenizer_from_json(config["tokenizer"])
        return make_from_config(cls, config)
