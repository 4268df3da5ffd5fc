"""What models that read texts share: a backbone, a tokenizer, how they compile and are saved."""

import pathlib

import keras

from gpt_keras import tokenizers
from gpt_keras.generation.backbone import max_sequence_length
from gpt_keras.layers.quantized_sublayers import fast_and_quiet
from gpt_keras.training.losses import check_loss


class TextModel(keras.Model):
    """A backbone with a tokenizer.

    Subclasses say which tokenizers they take (`_check_tokenizer`) and what is done with the
    backbone.

    Args:
        backbone: a Keras model on token ids.
        name: name of the model.
    """

    def __init__(self, backbone: keras.Model, name: str):
        # With the backbone's policy Keras scales the loss when it is mixed_float16.
        super().__init__(name=name, dtype=backbone.dtype_policy)
        self.backbone = backbone
        self._tokenizer = None

    # Shape of the token ids that the model is called with.
    _input_shape: tuple[None, ...] = (None, None)

    def build(self, input_shape):
        """Do nothing: the parts are built."""

    @property
    def input_dtype(self):
        """Dtype of the inputs, the token ids; Keras's exporters read it."""
        return "int32"

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Export the network, from token ids to its outputs; `keras.Model.export`.

        Args:
            filepath: what to write.
            format: one of `keras.Model.export`'s: `"tf_saved_model"`, `"litert"`, `"onnx"`, ...
            verbose: whether to report what is written.
            **kwargs: further arguments of `keras.Model.export`. `input_signature` is int32
                `token_ids` of any batch and length unless given.
        """
        token_ids = keras.layers.InputSpec(shape=self._input_shape, dtype="int32", name="token_ids")
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
        kwargs.setdefault("jit_compile", not kwargs.get("run_eagerly", False))
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config):
        """Compile as a saved model was compiled; Keras calls this while loading."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def quantize(self, mode=None, config=None, **kwargs):
        """Round the weights in place to 8 bits, or fewer; the arguments are `gk.GPT.quantize`'s."""
        with fast_and_quiet():
            super().quantize(mode=mode, config=config, **kwargs)

    def save_assets(self, directory):
        """Write the tokenizer into a `.keras` file; Keras calls this while saving."""
        if self.tokenizer is not None:
            self.tokenizer.save(pathlib.Path(directory) / "tokenizer.json")

    def load_assets(self, directory):
        """Read the tokenizer from a `.keras` file; Keras calls this while loading."""
        path = pathlib.Path(directory) / "tokenizer.json"
        if path.exists():
            self.tokenizer = tokenizers.load(path)
