"""Causal language models: a backbone and a tokenizer behind Keras's methods."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.atomic import atomic_file
from gpt_keras.checks import check_token_ids
from gpt_keras.generation.backbone import num_logits
from gpt_keras.generation.mixin import GenerationMixin
from gpt_keras.models.adapters import adapted_layers
from gpt_keras.models.batches import plain_errors
from gpt_keras.models.preset_folder import write_preset
from gpt_keras.models.text_containers import find_texts, find_training_texts, hold_out
from gpt_keras.models.text_model import TextModel
from gpt_keras.models.tokenizer_config import tokenizer_beside_config
from gpt_keras.models.training_data import read, read_ids, read_validation
from gpt_keras.training import CrossEntropy, Perplexity, adamw
from gpt_keras.training.losses import precise_dtype


@keras.saving.register_keras_serializable("gpt_keras")
class CausalLM(GenerationMixin, TextModel):
    """Causal language model: a backbone that predicts the next token, and a tokenizer.

    It trains with `fit`, continues prompts with `generate`, and has `save` and `export`. The
    attributes `tokenizer`, `chat_template` and `end_token_ids` may be set later. All arguments are
    saved with the model.

    Args:
        backbone: A causal Keras model from token ids `(batch, length)` to logits `(batch, length,
            vocabulary_size)`. With the methods of `gk.Backbone` it generates with a KV cache;
            without them, each new token runs the whole sequence. An attribute
            `max_sequence_length`, or a `PositionalEmbedding` inside, limits the length: longer
            sequences raise an error, and generation stops at the limit.
        tokenizer: A `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        chat_template: Jinja template that turns a conversation into a prompt, as in GGUF files
            and Hugging Face folders; or None. See `gk.chat`.
        end_token_ids: Ids that end a generated text. Default: the tokenizer's `end_of_text_id`,
            if it has one.
        name: Name of the model.

    Call arguments:
        token_ids: Integers, `(batch, length)`.

    Returns:
        Logits of the next token at each position, `(batch, length, vocabulary_size)`.

    Raises:
        ValueError: `backbone` is not a Keras model that returns logits, the tokenizer has more
            ids than the backbone, or an end token is outside the vocabulary.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
        >>> model = gk.CausalLM(gk.GPT(config), tokenizer=tokenizer)
        >>> len(model.generate("abc", max_new_tokens=5, seed=0))
        8
    """

    def __init__(
        self,
        backbone: keras.Model,
        tokenizer=None,
        chat_template: str | None = None,
        end_token_ids: Sequence[int] | None = None,
        name: str = "causal_lm",
    ):
        if not isinstance(backbone, keras.Model):
            raise ValueError(
                f"`backbone` must be a keras.Model, such as gk.GPT(config); got {backbone!r}."
            )
        super().__init__(backbone, name)
        self.vocabulary_size = num_logits(backbone)
        self._generators = None
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self.end_token_ids = end_token_ids
        self.build(self._input_shape)

    def call(self, token_ids, training=None):
        return self.backbone(token_ids, training=training)

    @TextModel.tokenizer.setter
    def tokenizer(self, tokenizer):
        TextModel.tokenizer.fset(self, tokenizer)
        self._generators = None  # compiled generators depend on the tokenizer

    def _check_tokenizer(self, tokenizer):
        if tokenizer.vocabulary_size > self.vocabulary_size:
            raise ValueError(
                f"`tokenizer` has {tokenizer.vocabulary_size} ids, more than the model's "
                f"vocabulary_size={self.vocabulary_size}."
            )

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Ids that end a generated text."""
        if self._end_token_ids is not None:
            return self._end_token_ids
        end_of_text_id = None if self.tokenizer is None else self.tokenizer.end_of_text_id
        return () if end_of_text_id is None else (end_of_text_id,)

    @end_token_ids.setter
    def end_token_ids(self, token_ids):
        if token_ids is not None:
            ids = np.asarray(token_ids)
            if ids.ndim != 1:
                raise ValueError(f"`end_token_ids` must be a list of ids, got {token_ids!r}.")
            check_token_ids(ids if ids.size else ids.astype(int), self.vocabulary_size)
            token_ids = tuple(ids.tolist())
        self._end_token_ids = token_ids
        self._generators = None

    def with_vocabulary_size(self, vocabulary_size: int) -> "CausalLM":
        """Return a copy with more token ids, for example for a chat template.

        Args:
            vocabulary_size: Number of ids of the copy.

        Returns:
            A new model of this class, not compiled, with the same tokenizer, chat template and end
            tokens. The weights of the new ids are initialized at random, as in a new model.

        Raises:
            ValueError: `vocabulary_size` is below the model's own, the model is quantized or has
                adapters, or the backbone has no method `with_vocabulary_size`.

        Example:
            >>> import gpt_keras as gk
            >>> model = gk.GPTCausalLM(gk.presets.get("tiny"))
            >>> larger = model.with_vocabulary_size(model.vocabulary_size + 2)
            >>> larger.vocabulary_size - model.vocabulary_size
            2
        """
        if not hasattr(self.backbone, "with_vocabulary_size"):
            raise ValueError(
                "The model's backbone must have the method `with_vocabulary_size`, as gk.GPT; a "
                f"{type(self.backbone).__name__} has none."
            )
        if adapted_layers(self):
            raise ValueError(
                "The model has LoRA adapters: call `merge_adapter` or `remove_adapter` first."
            )
        backbone = self.backbone.with_vocabulary_size(vocabulary_size)
        with tokenizer_beside_config():
            config = self.get_config() | self._backbone_config(backbone)
        copy = type(self).from_config(config)
        for new, value in zip(copy.backbone.variables, backbone.variables, strict=True):
            new.assign(value)
        copy.tokenizer = self.tokenizer
        return copy

    @staticmethod
    def _backbone_config(backbone: keras.Model) -> dict[str, Any]:
        """Return the entries of `get_config` that describe a backbone."""
        return {"backbone": keras.saving.serialize_keras_object(backbone)}

    # Training

    def compile(
        self, optimizer="auto", loss="auto", *, metrics=None, weighted_metrics="auto", **kwargs
    ):
        """Configure training; `keras.Model.compile` with a default for every argument.

        Args:
            optimizer: `"auto"` is `gk.training.adamw()`: AdamW with warm-up, gradient clipping,
                and no weight decay on biases, norms and embeddings.
            loss: `"auto"` is `gk.training.CrossEntropy()`: cross-entropy from logits, averaged
                over tokens by their sample weights.
            metrics: Metrics that ignore sample weights, as in Keras. `"accuracy"` in a list is
                dropped if `weighted_metrics` is `"auto"`, which contains it.
            weighted_metrics: `"auto"` is perplexity and accuracy.
            **kwargs: The other arguments of `keras.Model.compile`. `jit_compile` defaults to True,
                also on a CPU, where Keras would not use XLA. The default is False with
                `run_eagerly`, and on several devices of a `tf.distribute` strategy.

        Raises:
            ValueError: `loss` is a cross-entropy of probabilities, but the model returns logits.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = adamw()
        if isinstance(loss, str) and loss == "auto":
            loss = CrossEntropy()
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy", precise_dtype())
            if isinstance(metrics, list | tuple):
                metrics = [metric for metric in metrics if metric not in ("accuracy", "acc")]
            names = [getattr(metric, "name", None) for metric in keras.tree.flatten(metrics)]
            weighted_metrics = [Perplexity(), *([] if "accuracy" in names else [accuracy])]
        super().compile(
            optimizer, loss, metrics=metrics, weighted_metrics=weighted_metrics, **kwargs
        )

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", **kwargs):
        """Train on token ids or texts; an extension of `keras.Model.fit`.

        Texts may be in any container: a list, a NumPy array, a pandas Series, a string tensor, a
        generator, or a dataset of strings. Each text is one document and ends with the end-of-text
        token. A text that is longer than `max_sequence_length` continues in another row. Rows are
        padded on the right, and the loss ignores padding.

        Args:
            x: Texts, an array of token ids `(batch, length)`, the `MaskedSequences` of
                `gk.datasets.conversations`, a `tf.data.Dataset` (for example of
                `gk.datasets.language_modeling`), a `keras.utils.PyDataset`, or a generator of
                batches. Ids may also be a ragged tensor, whose rows are padded, or a dict with the
                one key `"token_ids"`.
            y: Targets of an array `x`, `(batch, length)`: at each position the next id. Without
                targets, here or in a batch of another source, the ids are shifted by one:
                `x[:, 1:]` are the targets of `x[:, :-1]`.
            batch_size: Rows in a batch, for arrays, texts and `MaskedSequences`; 32 unless given.
            epochs: Number of passes over the data.
            verbose: As in Keras: `"auto"`, 0, 1 (progress bar) or 2 (a line for each epoch).
            **kwargs: The other arguments of `keras.Model.fit`. `validation_data` may be texts.
                `validation_split` holds out the last texts, or the last rows of an array.
                `sample_weight` holds a number for each row or for each token. `class_weight` maps
                target ids to weights. The default loss is the mean over the tokens of a batch,
                weighted by these weights.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: Token ids are outside the vocabulary, sequences are too long, or texts are
                given without a tokenizer. Arrays are checked before training starts, a batch of
                any other source when it arrives.
        """
        texts, x = find_training_texts("x", x)
        if texts is not None and (fraction := kwargs.pop("validation_split", 0)):
            x, held_out = hold_out(texts, fraction)
            if kwargs.get("validation_data") is None:
                kwargs["validation_data"] = held_out
        kwargs["validation_data"] = read_validation(
            self, kwargs.get("validation_data"), kwargs.get("validation_batch_size") or batch_size
        )
        x, y, kwargs["sample_weight"], batch_size = read(
            self,
            x,
            y,
            kwargs.get("sample_weight"),
            batch_size,
            kwargs.get("shuffle", True),
            kwargs.pop("class_weight", None),
        )
        if isinstance(x, tf.data.Dataset | Iterator):
            kwargs["shuffle"] = False  # else Keras warns that a dataset must shuffle itself
        with plain_errors():
            return super().fit(
                x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, **kwargs
            )

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **kwargs):
        """Return loss and metrics on token ids or texts, as `keras.Model.evaluate`.

        With `CrossEntropy` the loss is the weighted mean over the tokens of all batches. Losses
        that layers add, such as a router's load-balancing loss, are added to it.

        Args:
            x: As in `fit`.
            y: As in `fit`.
            batch_size: As in `fit`.
            verbose: As in `fit`.
            **kwargs: The other arguments of `keras.Model.evaluate`; `sample_weight` as in `fit`.

        Returns:
            As `keras.Model.evaluate`.

        Raises:
            ValueError: As in `fit`.
        """
        x, y, kwargs["sample_weight"], batch_size = read(
            self, x, y, kwargs.get("sample_weight"), batch_size
        )
        with plain_errors():
            return super().evaluate(x, y, batch_size=batch_size, verbose=verbose, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Train on one batch; `keras.Model.train_on_batch` with the checks of `fit`."""
        x, y, sample_weight, _ = read(self, x, y, sample_weight, class_weight=class_weight)
        return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Return loss and metrics of one batch, with the checks of `fit`."""
        x, y, sample_weight, _ = read(self, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """Return the logits of checked token ids, as `keras.Model.predict`.

        Args:
            x: Token ids, as in `fit`; no texts.
            batch_size: Rows in a batch, for arrays; 32 unless given.
            verbose: As in `fit`.
            **kwargs: The other arguments of `keras.Model.predict`.

        Returns:
            A NumPy array of logits, `(batch, length, vocabulary_size)`.

        Raises:
            ValueError: `x` holds texts, or as in `fit`.
        """
        texts, x = find_texts("x", x)
        if texts is not None:
            raise ValueError(
                "`predict` takes token ids and gives logits; for texts use `generate`."
            )
        x = read_ids(self, x)
        with plain_errors():
            return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)

    def predict_on_batch(self, x):
        """Return the logits of one batch of checked token ids."""
        return super().predict_on_batch(read_ids(self, x))

    # Saving

    def save(self, filepath, overwrite=True, **kwargs):
        """Save to a `.keras` file, tokenizer included, completely or not at all.

        Args:
            filepath: File to write; its name must end in `.keras`.
            overwrite: Whether an existing file is replaced.
            **kwargs: The other arguments of `keras.Model.save`.

        Raises:
            ValueError: The file exists and `overwrite` is False, or its name has another suffix.
        """
        filepath = pathlib.Path(filepath)
        if filepath.exists() and not overwrite:
            raise ValueError(f"`filepath` exists already and `overwrite` is False: {filepath}.")
        if filepath.suffix != ".keras":
            raise ValueError(f"`filepath` must end in .keras, got {str(filepath)!r}.")
        with atomic_file(filepath) as temporary:
            super().save(temporary, overwrite=True, **kwargs)

    def save_to_preset(self, directory) -> None:
        """Save to a new folder as config.json, tokenizer.json and model.weights.h5.

        Args:
            directory: Folder to write; it is created if needed.

        Raises:
            ValueError: The folder exists and is not empty.

        Example:
            >>> import tempfile
            >>> import gpt_keras as gk
            >>> model = gk.GPTCausalLM(gk.presets.get("tiny"))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save_to_preset(folder)
            ...     gk.CausalLM.from_preset(folder).config == model.config
            True
        """
        write_preset(self, directory)

    @classmethod
    def from_preset(cls, source, dtype=None):
        """Load a saved model, not compiled, to generate with it or to train it further.

        Args:
            source: A folder of `save_to_preset`, a file of `save`, or any other source of
                `gk.convert.load`, such as a Hugging Face folder or `hf://owner/name`.
            dtype: Dtype policy of the model. `"bfloat16"` needs half the memory of `"float32"`,
                with about 3 significant digits. Default: the policy that the model was saved with;
                for other formats, Keras's global policy.

        Returns:
            A model of the saved class.

        Raises:
            ValueError: The model does not exist, is damaged or is of another class. Or `dtype` is
                not a floating-point policy, or the model is quantized and `dtype` is not None.
        """
        from gpt_keras import convert  # not at the top: `convert` imports this module

        model = convert.load(source, dtype)
        if not isinstance(model, cls):
            raise ValueError(
                f"{str(source)!r} holds a {type(model).__name__}, not a {cls.__name__}."
            )
        return model

    def export(self, filepath, format="tf_saved_model", verbose=None, **kwargs):
        """Export for serving; a SavedModel generates texts from texts.

        Args:
            filepath: Directory to write.
            format: `"tf_saved_model"` calls `gk.export.saved_model(model, filepath, **kwargs)`. The
                other formats of `keras.Model.export` return logits for token ids.
            verbose: Whether Keras reports its progress, in the other formats.
            **kwargs: Further arguments of `gk.export.saved_model` or `keras.Model.export`.
        """
        if format == "tf_saved_model":
            from gpt_keras.export import saved_model  # `export` imports this module

            saved_model(self, filepath, **kwargs)
        else:
            super().export(filepath, format=format, verbose=verbose, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "chat_template": self.chat_template,
            "end_token_ids": self._end_token_ids,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        return cls._from_arguments(config)
