"""What models with a head for a task share: rows of texts, hidden states at their end."""

import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from gpt_keras import tokenizers
from gpt_keras.config import check_at_least_0, check_rate
from gpt_keras.layers.projection import FloatDense
from gpt_keras.models import task_inputs
from gpt_keras.models.causal_lm import CausalLM
from gpt_keras.models.requests import require_tokenizer
from gpt_keras.models.vocabulary import check_token_ids
from gpt_keras.training import adamw
from gpt_keras.training.losses import check_loss

# Rows of texts are padded to a multiple of this, so that few lengths are compiled.
_LENGTH_STEP = 32


class TaskModel(keras.Model):
    """A backbone, a tokenizer, texts made into rows, and one linear head.

    Subclasses say how an example is laid out (`_layout`) and what the head makes of the hidden
    states at the extract tokens (`_logits`).
    """

    def __init__(self, model, num_outputs, dropout, language_modeling_weight, tokenizer, name):
        if isinstance(model, CausalLM):
            tokenizer = model.tokenizer if tokenizer is None else tokenizer
            model = model.backbone
        missing = [
            attribute
            for attribute in ("hidden_states", "unembed", "hidden_dim")
            if not hasattr(model, attribute)
        ]
        if not isinstance(model, keras.Model) or missing:
            raise ValueError(
                f"`model` must be a CausalLM or a backbone with hidden_states, unembed and "
                f"hidden_dim, such as gk.GPT(config); got {model!r}."
            )
        if not getattr(getattr(model, "config", None), "causal", True):
            raise ValueError("`model` must be causal: what follows the extract token is padding.")
        check_rate("dropout", dropout)
        check_at_least_0("language_modeling_weight", language_modeling_weight)
        super().__init__(name=name, dtype=model.dtype_policy)
        self.backbone = model
        self.language_modeling_weight = float(language_modeling_weight)
        self.head_dropout = keras.layers.Dropout(
            dropout, dtype=model.dtype_policy, name="head_dropout"
        )
        self.head = FloatDense(
            num_outputs,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype="float32",
            name="head",
        )
        self.head.build((None, model.hidden_dim))
        self.vocabulary_size = model.token_embedding.input_dim
        self.tokenizer = tokenizer
        self.build((None, None))

    def build(self, input_shape):
        """Nothing to do: the backbone and the head are built."""

    @classmethod
    def from_preset(cls, source, *args, **kwargs):
        """Put a new head on a causal model that was saved, with room for the special tokens.

        Args:
            source: what `gk.CausalLM.from_preset` takes.
            *args: arguments of the constructor after `model`.
            **kwargs: further ones.

        Raises:
            ValueError: as `gk.CausalLM.from_preset`, and as the constructor.
        """
        model = CausalLM.from_preset(source)
        used = 0 if model.tokenizer is None else model.tokenizer.vocabulary_size
        needed = used + task_inputs.NUM_SPECIAL_IDS
        backbone = model.backbone
        if model.vocabulary_size < needed:
            backbone = backbone.with_vocabulary_size(needed)
        kwargs.setdefault("tokenizer", model.tokenizer)
        return cls(backbone, *args, **kwargs)

    @property
    def special_ids(self) -> task_inputs.SpecialIds:
        """Ids of the start, delimiter and extract tokens: the last three of the vocabulary."""
        return task_inputs.special_ids(self.vocabulary_size)

    @property
    def max_sequence_length(self) -> int | None:
        """Longest sequence that the backbone takes; None if it names no limit."""
        return getattr(self.backbone, "max_sequence_length", None)

    @property
    def tokenizer(self):
        """The tokenizer, or None."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer):
        if tokenizer is not None and not isinstance(tokenizer, tokenizers.Tokenizer):
            raise ValueError(
                f"`tokenizer` must be a gk.tokenizers.Tokenizer or None, got {tokenizer!r}."
            )
        if tokenizer is not None:
            needed = tokenizer.vocabulary_size + task_inputs.NUM_SPECIAL_IDS
            if self.vocabulary_size < needed:
                raise ValueError(
                    f"The backbone must have {needed} token ids, those of the tokenizer and 3 "
                    f"special ones, and has {self.vocabulary_size}: give "
                    f"backbone.with_vocabulary_size({needed})."
                )
        self._tokenizer = tokenizer

    def call(self, token_ids, training=None):
        shape, length = ops.shape(token_ids), token_ids.shape[-1]
        if length is None:
            length = shape[-1]
        rows = ops.reshape(token_ids, (-1, length))  # (rows, length)
        hidden = self.backbone.hidden_states(rows, training=training)  # (rows, length, dim)
        is_extract = ops.equal(rows, self.special_ids.extract)
        # The first extract token; in a row that has none, the last token.
        place = ops.where(
            ops.any(is_extract, axis=-1), ops.argmax(ops.cast(is_extract, "int32"), -1), length - 1
        )
        place = ops.cast(place, "int32")  # (rows,)
        if training and self.language_modeling_weight:
            self.add_loss(self.language_modeling_weight * self._next_tokens(rows, hidden, place))
        state = ops.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]  # (rows, dim)
        if len(token_ids.shape) == 3:
            state = ops.reshape(state, (-1, shape[1], self.backbone.hidden_dim))
        return self._logits(state, training)

    def _next_tokens(self, rows, hidden, place):
        """Mean cross-entropy of the tokens up to the extract token, each from those before it."""
        logits = self.backbone.unembed(hidden[:, :-1])
        losses = keras.losses.sparse_categorical_crossentropy(
            rows[:, 1:], logits, from_logits=True
        )  # (rows, length - 1)
        is_text = ops.arange(ops.shape(rows)[1] - 1)[None, :] < place[:, None]
        weights = ops.cast(is_text, losses.dtype)
        return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1)

    # Texts

    def encode(self, examples) -> np.ndarray:
        """Turn examples of text into the token ids that the model takes.

        Args:
            examples: a list of examples, as `fit` takes them.

        Returns:
            int32 ids, `(examples, length)`, or `(examples, sequences, length)` where an example is
            more than one sequence.

        Raises:
            ValueError: there is no tokenizer, or an example is not of the layout's form.
        """
        tokenizer = require_tokenizer(self.tokenizer)
        sequences = [
            self._layout(example, i, tokenizer.encode, self.max_sequence_length)
            for i, example in enumerate(examples)
        ]
        longest = max(len(sequence) for example in sequences for sequence in example)
        length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
        if self.max_sequence_length is not None:
            length = min(length, self.max_sequence_length)
        return task_inputs.pad(sequences, self.special_ids.extract, length)

    def _read(self, x):
        """Return token ids or a dataset of them for what a verb was given."""
        if isinstance(x, tf.data.Dataset):
            return x
        if isinstance(x, str):
            raise ValueError("`x` must be a list of examples, got one text: put it into a list.")
        if isinstance(x, list | tuple) and len(x) > 0 and _holds_text(x[0]):
            return self.encode(x)
        if x is None or not hasattr(x, "shape") or len(x) == 0:
            raise ValueError(
                f"`x` must be a list of texts, an array of token ids or a dataset, got {x!r}."
            )
        check_token_ids(x, self.vocabulary_size)
        limit = self.max_sequence_length
        if limit is not None and x.shape[-1] > limit:
            raise ValueError(
                f"Sequences of {x.shape[-1]} tokens are longer than the model's "
                f"max_sequence_length={limit}."
            )
        return x

    # Keras's verbs

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Set how the model trains; every argument has a default and can be overridden.

        Args:
            optimizer: `"auto"` is `gk.training.adamw(6.25e-5)`, the learning rate of the paper
                (section 4.1), for a pretrained model.
            loss: `"auto"` is the cross-entropy from logits.
            metrics: `"auto"` is accuracy.
            **kwargs: the other arguments of `keras.Model.compile`. `jit_compile` is True unless
                given, or unless `run_eagerly` is.

        Raises:
            ValueError: `loss` is a cross-entropy on probabilities; the model gives logits.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = adamw(6.25e-5)
        if isinstance(loss, str) and loss == "auto":
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        check_loss(loss)
        kwargs.setdefault("jit_compile", not kwargs.get("run_eagerly", False))
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        """Compile as a saved model was compiled; Keras calls this while loading."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, **kwargs):
        """Train; `keras.Model.fit` that also takes texts.

        Args:
            x: a list of examples, an array of token ids as `encode` gives it, or a `tf.data`
                dataset of such arrays and labels.
            y: for examples and arrays, the number of the right class or choice of each.
            **kwargs: the other arguments of `keras.Model.fit`; `validation_data` may hold texts.

        Raises:
            ValueError: an example is not of the layout's form, an id is outside the vocabulary, or
                a label is no class.
        """
        if isinstance(x, tf.data.Dataset):
            kwargs["shuffle"] = False
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple):
            examples, labels, *weights = validation
            examples = self._read(examples)
            labels = self._labels(labels, examples)
            kwargs["validation_data"] = (examples, labels, *weights)
        x = self._read(x)
        return super().fit(x, self._labels(y, x), **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """Return loss and metrics; `keras.Model.evaluate` that also takes texts."""
        x = self._read(x)
        return super().evaluate(x, self._labels(y, x), **kwargs)

    def _labels(self, y, x):
        """The labels as an array; those that are no class would make the whole model NaN."""
        y = np.asarray(y) if isinstance(y, list | tuple) else y
        is_sparse = isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy)
        if is_sparse and hasattr(y, "dtype"):
            number = self._num_outputs(x)
            if not np.isin(np.asarray(y), np.arange(number)).all():
                raise ValueError(
                    f"`y` must hold the numbers of the classes or choices, 0 to {number - 1}; got "
                    f"{np.asarray(y).reshape(-1)[:10].tolist()}."
                )
        return y

    def predict(self, x, **kwargs):
        """Return logits, whose softmax is the probabilities; `keras.Model.predict` for texts."""
        return super().predict(self._read(x), **kwargs)

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
        return {
            "model": keras.saving.serialize_keras_object(self.backbone),
            "dropout": self.head_dropout.rate,
            "language_modeling_weight": self.language_modeling_weight,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**config)


def _holds_text(example: Any) -> bool:
    return isinstance(example, str) or (
        isinstance(example, list | tuple) and len(example) > 0 and isinstance(example[0], str)
    )
