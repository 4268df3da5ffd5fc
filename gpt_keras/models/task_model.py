"""Base class of task models: a backbone, a tokenizer and a linear head."""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from gpt_keras.checks import check_at_least_0, check_choice, check_positive_int, check_rate
from gpt_keras.generation.arguments import require_tokenizer
from gpt_keras.generation.backbone import require
from gpt_keras.layers.initializers import gpt2_normal
from gpt_keras.layers.projection import FloatDense
from gpt_keras.models import task_inputs
from gpt_keras.models.batches import LabelBatches, checked_batches, is_checked, plain_errors
from gpt_keras.models.causal_lm import CausalLM
from gpt_keras.models.preset_folder import write_preset
from gpt_keras.models.text_containers import find_examples, find_labeled_texts
from gpt_keras.models.text_model import TextModel
from gpt_keras.training import CrossEntropy, adamw
from gpt_keras.training.losses import cross_entropy, precise_dtype

# Texts are padded to a multiple of this length, so that XLA compiles for few lengths only.
_LENGTH_STEP = 32

POOLINGS = ("last", "extract")

# Padding of a model without an end-of-text token. No token has this id.
_NO_TOKEN = -1


class Classification(NamedTuple):
    """Result of `classify` for one example.

    Attributes:
        label: The most probable class or choice: its name if the model has `class_names`, else its
            number.
        probabilities: Probability of each class or choice, by name or number, in the order of the
            logits.

    Example:
        >>> import gpt_keras as gk
        >>> result = gk.models.Classification("ham", {"ham": 0.75, "spam": 0.25})
        >>> label, probabilities = result
        >>> probabilities[label]
        0.75
    """

    label: str | int
    probabilities: dict[str | int, float]


class TaskModel(TextModel):
    """Base class of a backbone with a tokenizer and one linear head.

    Subclasses define the layout of an example as token sequences (`_layout`), and the logits from
    the hidden states that the head reads (`_logits`).
    """

    # Number of texts in a sequence.
    _num_parts = 1

    # Names of the classes, if they have names.
    _labels: tuple[str, ...] | None = None

    def __init__(
        self,
        model,
        num_outputs,
        dropout,
        language_modeling_weight,
        tokenizer,
        special_ids,
        pooling,
        pad_id,
        max_sequence_length,
        name,
    ):
        if isinstance(model, CausalLM):
            tokenizer = model.tokenizer if tokenizer is None else tokenizer
            model = model.backbone
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`model` must be a CausalLM or a backbone, such as gk.GPT(config); got {model!r}."
            )
        require(
            model, "hidden_states", "unembed", "hidden_dim", "token_embedding", what="A task model"
        )
        if not getattr(getattr(model, "config", None), "causal", True):
            raise ValueError("`model` must be causal: rows are padded on the right.")
        check_rate("dropout", dropout)
        check_at_least_0("language_modeling_weight", language_modeling_weight)
        if pooling is None:
            pooling = "last" if special_ids is None else "extract"
        check_choice("pooling", pooling, POOLINGS)
        for name_of_ids, ids, other in (
            ("special_ids", special_ids, "last"),
            ("pad_id", pad_id, "extract"),
        ):
            if ids is not None and pooling == other:
                raise ValueError(f"`{name_of_ids}` must be None with pooling={pooling!r}.")
        super().__init__(model, name)
        self.language_modeling_weight = float(language_modeling_weight)
        limit = self.max_sequence_length
        if max_sequence_length is not None:
            check_positive_int("max_sequence_length", max_sequence_length)
            if limit is not None and max_sequence_length > limit:
                raise ValueError(
                    f"`max_sequence_length` must be at most {limit}, that of the backbone, got "
                    f"{max_sequence_length}."
                )
        self._max_sequence_length = max_sequence_length
        self.head_dropout = keras.layers.Dropout(
            dropout, dtype=model.dtype_policy, name="head_dropout"
        )
        self.head = FloatDense(
            num_outputs,
            kernel_initializer=gpt2_normal(),
            dtype="float32",
            name="head",
        )
        self.head.build((None, model.hidden_dim))
        self.vocabulary_size = model.token_embedding.input_dim
        self.pooling = pooling
        self._special_ids, self._pad_id = None, None
        if special_ids is not None:
            task_inputs.check_special_ids(special_ids, self.vocabulary_size)
            self._special_ids = tuple(int(token_id) for token_id in special_ids)
        if pooling == "last":
            self._pad_id = _checked_pad_id(pad_id, self.vocabulary_size, tokenizer)
        self.tokenizer = tokenizer
        if pooling == "extract" and special_ids is None:
            self._special_ids = self._spare_ids()
        self.build(self._input_shape)

    @classmethod
    def from_preset(cls, source, *args, dtype=None, **kwargs):
        """Load a saved model of this class, or a causal model that gets a new head.

        With `pooling="extract"` the vocabulary of a causal model grows by three special tokens if
        it has no room for them.

        Args:
            source: A folder of `save_to_preset` or a file of `save`, which hold a trained head. Or
                a causal model, as in `gk.CausalLM.from_preset`.
            *args: For a causal model: arguments of the constructor after `model`.
            dtype: Dtype policy of the backbone, as in `gk.CausalLM.from_preset`.
            **kwargs: For a causal model: keyword arguments of the constructor.

        Returns:
            The saved model, not compiled; or a new model, whose head is not trained.

        Raises:
            ValueError: `source` holds a model of another class; it holds a trained model of this
                class, and arguments of the constructor are given; or as in
                `gk.CausalLM.from_preset` and in the constructor.
        """
        from gpt_keras import convert  # not at the top: `convert` imports this module

        model = convert.load(source, dtype)
        if isinstance(model, cls):
            if args or kwargs:
                named = [f"{name}={value!r}" for name, value in kwargs.items()]
                given = ", ".join([*map(repr, args), *named])
                raise ValueError(
                    f"{str(source)!r} holds a trained {cls.__name__}: leave out {given}. For a new "
                    f"head on its backbone, call gk.{cls.__name__}(loaded.backbone, ..., "
                    "tokenizer=loaded.tokenizer)."
                )
            return model
        if not isinstance(model, CausalLM):
            raise ValueError(
                f"{str(source)!r} holds a {type(model).__name__}, not a {cls.__name__} or a "
                "CausalLM."
            )
        kwargs.setdefault("tokenizer", model.tokenizer)
        backbone, tokenizer = model.backbone, kwargs["tokenizer"]
        if kwargs.get("pooling") == "extract" and kwargs.get("special_ids") is None:
            # Without a tokenizer, any id of the model may stand for text.
            used = model.vocabulary_size if tokenizer is None else tokenizer.vocabulary_size
            needed = used + task_inputs.NUM_SPECIAL_IDS
            if model.vocabulary_size < needed:
                backbone = backbone.with_vocabulary_size(needed)
            size = max(model.vocabulary_size, needed)
            kwargs["special_ids"] = task_inputs.special_ids(size)
        return cls(backbone, *args, **kwargs)

    def save_to_preset(self, directory) -> None:
        """Save to a new folder as config.json, tokenizer.json and model.weights.h5.

        The folder holds the whole model: backbone, head, and LoRA adapters if there are some.
        `from_preset` of the class loads it.

        Args:
            directory: Folder to write; it is created if needed.

        Raises:
            ValueError: The folder exists and is not empty.
        """
        write_preset(self, directory)

    @property
    def max_sequence_length(self) -> int | None:
        """Longest sequence in tokens: longer examples are cut. None if there is no limit."""
        own = getattr(self, "_max_sequence_length", None)  # None while the constructor runs
        return super().max_sequence_length if own is None else own

    @property
    def special_ids(self) -> task_inputs.SpecialIds | None:
        """Ids of the start, delimiter and extract tokens; None with `pooling="last"`."""
        return None if self.pooling == "last" else task_inputs.SpecialIds(*self._special_ids)

    @property
    def pad_id(self) -> int:
        """Id with which rows are padded on the right; -1 is no token."""
        return self._pad_id if self.pooling == "last" else self.special_ids.extract

    def _check_tokenizer(self, tokenizer):
        size, needed = self.vocabulary_size, tokenizer.vocabulary_size
        if self.pooling == "last":
            if size < needed:
                raise ValueError(
                    f"`tokenizer` has {needed} ids, more than the {size} of the backbone."
                )
            _check_no_text("pad_id", {self._pad_id}, tokenizer)
            return
        if self._special_ids is None:
            needed += task_inputs.NUM_SPECIAL_IDS
        if size < needed:
            raise ValueError(
                f"The backbone must have {needed} token ids: the tokenizer's, and 3 special ids "
                f"unless `special_ids` names them. It has {size}: pass "
                f"backbone.with_vocabulary_size({needed})."
            )
        _check_no_text("special_ids", self._special_ids or (), tokenizer)

    def _spare_ids(self):
        if self.tokenizer is None:
            size = self.vocabulary_size
            raise ValueError(
                "`special_ids` must be given if there is no tokenizer: pass (start, delimiter, "
                f"extract), three of the backbone's {size} ids that stand for no text. "
                f"backbone.with_vocabulary_size({size + 3}) makes room for three more."
            )
        return tuple(task_inputs.special_ids(self.vocabulary_size))

    def call(self, token_ids, training=None):
        shape, length = ops.shape(token_ids), token_ids.shape[-1]
        if length is None:
            length = shape[-1]
        rows = ops.cast(ops.reshape(token_ids, (-1, length)), "int32")  # (rows, length)
        place = self._places(rows, length)  # (rows,)
        if self.pad_id < 0:  # the backbone needs ids of tokens
            rows = ops.maximum(rows, 0)
        hidden = self.backbone.hidden_states(rows, training=training)  # (rows, length, dim)
        if training and self.language_modeling_weight:
            loss = self.language_modeling_weight * self._next_tokens(rows, hidden, place)
            self.add_loss(ops.cast(loss, keras.config.floatx()))  # dtype of the main loss
        state = ops.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]  # (rows, dim)
        if len(token_ids.shape) == 3:
            state = ops.reshape(state, (-1, shape[1], self.backbone.hidden_dim))
        return self._logits(state, training)

    def _places(self, rows, length):
        """Return the position in each row of the token that the head reads, `(rows,)`."""
        is_end = ops.equal(rows, self.pad_id)
        if self.pooling == "last":  # the last token before the padding
            positions = ops.arange(length, dtype="int32")
            return ops.max(ops.where(is_end, 0, positions), axis=-1)
        # The first extract token, or else the last token.
        first = ops.argmax(ops.cast(is_end, "int32"), axis=-1)
        return ops.cast(ops.where(ops.any(is_end, axis=-1), first, length - 1), "int32")

    def _next_tokens(self, rows, hidden, place):
        """Return the mean next-token cross-entropy up to the token that the head reads."""
        logits = self.backbone.unembed(hidden[:, :-1])
        losses = cross_entropy(rows[:, 1:], logits)  # (rows, length - 1)
        is_text = ops.arange(ops.shape(rows)[1] - 1, dtype="int32")[None, :] < place[:, None]
        weights = ops.cast(is_text, losses.dtype)
        return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1)

    # Texts

    def encode(self, examples) -> np.ndarray:
        """Return examples of text as the model's token ids.

        Args:
            examples: Examples of text, in any container of `fit`.

        Returns:
            int32 ids, `(examples, length)`; or `(examples, sequences, length)` if the layout makes
            several sequences of an example.

        Raises:
            ValueError: There is no tokenizer, or an example has the wrong form for the layout.
        """
        tokenizer = require_tokenizer(self.tokenizer)
        if isinstance(examples, str):
            raise ValueError("`examples` must be several, got one text: put it into a list.")
        found, examples = find_examples("examples", examples)
        examples = examples if found is None else found
        markers = self.markers
        sequences = [
            self._layout(example, i, tokenizer.encode, markers, self.max_sequence_length)
            for i, example in enumerate(examples)
        ]
        if self.pad_id < 0:
            for i, example in enumerate(examples):
                if not all(sequences[i]):
                    raise ValueError(
                        f"An example must have at least one token; number {i} is {example!r}."
                    )
        # A text without tokens becomes a row of padding, whose first token the head reads.
        longest = max(1, *(len(sequence) for example in sequences for sequence in example))
        length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
        if self.max_sequence_length is not None:
            length = min(length, self.max_sequence_length)
        return task_inputs.pad(sequences, self.pad_id, length)

    @property
    def markers(self) -> task_inputs.Markers:
        """Token ids around and between the parts of a sequence of text.

        Raises:
            ValueError: There is no tokenizer, or it has no delimiter for two parts.
        """
        if self.pooling == "extract":
            return task_inputs.Markers.of_special_ids(self.special_ids)
        return task_inputs.Markers.of_text(require_tokenizer(self.tokenizer), self._num_parts)

    def _read(self, x, y=None, sample_weight=None, is_training=False):
        """Return arguments of `fit` as checked ids, labels and weights, or as a dataset."""
        if is_checked(x):
            return x, y, sample_weight
        is_sparse = isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy | CrossEntropy)
        batches = LabelBatches(self, self._num_outputs if is_sparse else None)
        if isinstance(x, str):
            raise ValueError("`x` must be a list of examples, got one text: put it into a list.")
        if isinstance(x, tf.data.Dataset):
            labeled = find_labeled_texts(x)
            x, labels, weights = (x, None, None) if labeled is None else labeled
            if labels is not None and (y is not None or sample_weight is not None):
                raise ValueError("`y` and `sample_weight` must be None: the dataset holds labels.")
            if labels is not None:
                y, sample_weight = labels, weights
        examples, x = find_examples("x", x)
        source = checked_batches(x, batches)
        if source is not None:
            return source, y, sample_weight
        y = self._class_numbers(y, is_training)
        if examples is not None:
            x = self.encode(examples)
        elif x is None or (hasattr(x, "__len__") and len(x) == 0):
            raise ValueError(
                "`x` must be texts (a list, NumPy array, pandas Series, string tensor, generator "
                "or tf.data.Dataset), an array of token ids or a dataset of (token_ids, labels), "
                f"got {x!r}."
            )
        return batches.arrays(x, y, sample_weight)

    # Keras's verbs

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configure training; `keras.Model.compile` with a default for every argument.

        Args:
            optimizer: `"auto"` is `gk.training.adamw(6.25e-5)`, with the paper's learning rate for
                fine-tuning (section 4.1).
            loss: `"auto"` is `gk.training.CrossEntropy("sum_over_batch_size")`.
            metrics: `"auto"` is accuracy.
            **kwargs: The other arguments of `keras.Model.compile`. `jit_compile` defaults to True.
                The default is False with `run_eagerly`, and on several devices of a
                `tf.distribute` strategy.

        Raises:
            ValueError: `loss` is a cross-entropy of probabilities, but the model returns logits.
        """
        if isinstance(optimizer, str) and optimizer == "auto":
            optimizer = adamw(6.25e-5)
        if isinstance(loss, str) and loss == "auto":
            loss = CrossEntropy("sum_over_batch_size")  # as Keras's own losses
        if isinstance(metrics, str) and metrics == "auto":
            metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy", precise_dtype())]
        super().compile(optimizer, loss, metrics=metrics, **kwargs)

    def fit(self, x=None, y=None, **kwargs):
        """Train on examples of text or on token ids; an extension of `keras.Model.fit`.

        Args:
            x: Examples of text in any container (a list, a NumPy array, a pandas Series, a string
                tensor, a generator). Or token ids: an array of `encode`, a ragged tensor, or a
                dict with the one key `"token_ids"`. Or a `tf.data.Dataset` of texts or token ids
                with labels. Or a `keras.utils.PyDataset` or generator of batches (token_ids,
                labels[, weights]).
            y: Labels of examples or arrays: the number of the right class or choice. A
                `GPTClassifier` accepts names of classes too.
            **kwargs: The other arguments of `keras.Model.fit`. `validation_data` has a form of
                `x`, or is a tuple `(x, y[, sample_weight])`. `sample_weight` is one number for
                each example.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: An example has the wrong form for the layout, an id is outside the
                vocabulary, a label is not a class, or the number of weights is wrong.
        """
        if isinstance(x, tf.data.Dataset | Iterator):
            kwargs["shuffle"] = False
        # First the training labels: they define the class names that validation data may use.
        weights = kwargs.get("sample_weight")
        x, y, kwargs["sample_weight"] = self._read(x, y, weights, is_training=True)
        validation = kwargs.get("validation_data")
        if validation is not None:
            is_tuple = isinstance(validation, list | tuple)
            parts = keras.utils.unpack_x_y_sample_weight(validation) if is_tuple else (validation,)
            parts = self._read(*parts)
            kwargs["validation_data"] = parts[0] if parts[1] is None else parts
        with plain_errors():
            return super().fit(x, y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """Return loss and metrics on examples of text or on token ids.

        Args:
            x: As in `fit`.
            y: As in `fit`.
            **kwargs: The other arguments of `keras.Model.evaluate`; `sample_weight` as in `fit`.

        Returns:
            As `keras.Model.evaluate`.

        Raises:
            ValueError: As in `fit`.
        """
        x, y, kwargs["sample_weight"] = self._read(x, y, kwargs.get("sample_weight"))
        with plain_errors():
            return super().evaluate(x, y, **kwargs)

    def _class_numbers(self, y, is_training):
        """Return labels as class numbers; a subclass may also accept names."""
        return y

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Train on one batch of texts or token ids, as `keras.Model.train_on_batch`."""
        x, y, sample_weight = self._read(x, y, sample_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Return loss and metrics of one batch of texts or token ids."""
        x, y, sample_weight = self._read(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict(self, x, **kwargs):
        """Return the logits of examples of text or of token ids.

        Args:
            x: As in `fit`, without labels.
            **kwargs: The other arguments of `keras.Model.predict`.

        Returns:
            A NumPy array of logits, `(batch, classes)`. Their softmax is the probability of each
            class or choice; `classify` returns it.

        Raises:
            ValueError: As in `fit`.
        """
        x, *_ = self._read(x)
        with plain_errors():
            return super().predict(x, **kwargs)

    def classify(self, examples, batch_size: int = 32) -> list[Classification]:
        """Return the label and the probabilities of each example.

        Args:
            examples: One example of text, or several as in `fit`.
            batch_size: Number of examples that the model runs at once.

        Returns:
            A list with a pair `(label, probabilities)` for each example; one example gives a list
            of one. The label is the most probable class or choice: its name if the model has
            `class_names`, else its number. The probabilities are a dict by name or number.

        Raises:
            ValueError: As in `fit`.
        """
        examples = [examples] if self._is_single(examples) else examples
        logits = np.asarray(self.predict(examples, batch_size=batch_size, verbose=0), np.float64)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        rows = (weights / weights.sum(axis=-1, keepdims=True)).tolist()
        labels = self._labels or range(logits.shape[-1])
        return [
            Classification(labels[int(np.argmax(row))], dict(zip(labels, row, strict=True)))
            for row in rows
        ]

    def _is_single(self, x) -> bool:
        """Return whether `x` is one example of text, not several."""
        return isinstance(x, list | tuple) and len(x) > 0 and isinstance(x[0], str)

    def get_config(self):
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.backbone),
            "dropout": self.head_dropout.rate,
            "language_modeling_weight": self.language_modeling_weight,
            "special_ids": self._special_ids,
            "pooling": self.pooling,
            "pad_id": self._pad_id,
            "max_sequence_length": self._max_sequence_length,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {"pooling": "extract", **config}  # the only pooling before there were two
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls._from_arguments(config)


def _checked_pad_id(pad_id, vocabulary_size, tokenizer):
    """Return `pad_id`, or the id of the tokenizer's end-of-text token, or -1."""
    if pad_id is None:
        end = getattr(tokenizer, "end_of_text_id", None)
        return _NO_TOKEN if end is None else end
    is_integer = hasattr(pad_id, "__index__") and not isinstance(pad_id, bool)
    if not is_integer or not _NO_TOKEN <= pad_id < vocabulary_size:
        raise ValueError(
            f"`pad_id` must be an id in [0, {vocabulary_size}), or -1 for no token, got {pad_id!r}."
        )
    return int(pad_id)


def _check_no_text(name, ids, tokenizer):
    """Raise `ValueError` if the tokenizer uses one of these ids for text."""
    taken = set(ids) & set(range(tokenizer.vocabulary_size))
    if not taken <= {*tokenizer.special_tokens.values(), tokenizer.end_of_text_id}:
        raise ValueError(
            f"`{name}` must stand for no text, but the tokenizer uses some of {tuple(ids)} for "
            f"text: pass ids of its special tokens, or ids from {tokenizer.vocabulary_size} on."
        )
