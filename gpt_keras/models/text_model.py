"""What models that read texts share: a backbone, a tokenizer, how they compile and are saved."""

import pathlib

import keras

from gpt_keras import tokenizers
from gpt_keras.layers import PositionalEmbedding
from gpt_keras.layers.quantized_sublayers import garbage_left_alone
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

    def build(self, input_shape):
        """Nothing to do: what is inside is built."""

    @property
    def max_sequence_length(self) -> int | None:
        """Longest sequence that the backbone takes; None if there is no limit.

        A backbone without such an attribute takes what its `PositionalEmbedding`s have room for.
        """
        if hasattr(self.backbone, "max_sequence_length"):
            return self.backbone.max_sequence_length
        layers = self.backbone._flatten_layers()
        limits = [x.max_sequence_length for x in layers if isinstance(x, PositionalEmbedding)]
        return min(limits, default=None)

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
        with garbage_left_alone():
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
