"""Checked batches of token ids from any source.

XLA silently clamps an id outside the vocabulary, and the model would learn from wrong ids. Arrays
are therefore checked as a whole, before training. A batch of a `tf.data.Dataset`, a generator or a
`keras.utils.PyDataset` is checked when it arrives. No batch is read in advance, because a source
may yield each batch only once.
"""

import contextlib
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_token_ids, token_id_error
from gpt_keras.models.text_containers import ids_in, plain_batch
from gpt_keras.training.losses import ignored_class

_PADDING_ERROR = (
    "Token ids must come first in each row; the padding -1 may only follow them, and a row must "
    "not be empty."
)
_WEIGHTS = "`sample_weight`, or the third part of `validation_data` or of a dataset's batches,"


class TokenBatches:
    """Checks of a `CausalLM`'s batches, `(token_ids, targets, weights)`.

    Token ids without targets are shifted by one: each id but the first is the target of the id
    before it. The weight of a row becomes the weight of each of its tokens. Dicts and ragged rows
    are converted by `plain_batch`.

    Args:
        model: A `CausalLM`.
        has_targets: False for token ids alone, the input of `predict`.
        class_weight: Mapping of target ids to weights; other targets have weight 1. None for no
            weights.

    Raises:
        ValueError: `class_weight` has an id outside the vocabulary.
    """

    ranks = (2,)
    form = "(batch, length)"

    def __init__(self, model, has_targets: bool = True, class_weight: Mapping | None = None):
        self.vocabulary_size = model.vocabulary_size
        self.max_sequence_length = model.max_sequence_length
        self.ignore_class = ignored_class(model.loss) if model.compiled else None
        self.has_targets = has_targets
        self._class_weights = None
        if class_weight is not None:
            check_token_ids(list(class_weight), self.vocabulary_size)
            self._class_weights = np.ones(self.vocabulary_size, "float32")
            self._class_weights[list(class_weight)] = list(class_weight.values())

    def arrays(self, x, y=None, sample_weight=None) -> tuple:
        """Check arrays and return `(token_ids, targets, weights)`.

        Returns:
            Token ids and targets `(batch, length)`, weights of the same shape. An absent part is
            None.

        Raises:
            ValueError: The shape or dtype of the ids is wrong, an id is outside the vocabulary, a
                sequence is too long, or the weights have the shape of neither rows nor tokens.
        """
        x, y, sample_weight = plain_batch(x, y, sample_weight)
        x, y = as_array("x", x), as_array("y", y)
        if self.has_targets and y is None:
            x, y, sample_weight = self._shifted(x, sample_weight)
        self._check_ids("x", x)
        if not self.has_targets:
            return x, None, None
        self._check_ids("y", y, self.ignore_class)
        weights = checked_weights(sample_weight, tuple(x.shape))
        if self._class_weights is not None:
            self._check_no_weights(weights)
            weights = self._class_weights[np.clip(y, 0, None)]
        return x, y, weights

    def in_graph(self, *batch):
        """Check a batch inside the graph of a `tf.data.Dataset`.

        Returns:
            The parts that `arrays` returns, without the absent ones.
        """
        x, y, sample_weight = plain_batch(*keras.utils.unpack_x_y_sample_weight(batch))
        if self.has_targets and y is None:
            x, y, sample_weight = self._shifted(x, sample_weight)
        x, checks = self._checked_ids("x", x)
        if not self.has_targets:
            with tf.control_dependencies(checks):
                return tf.identity(x)
        y, checks_of_y = self._checked_ids("y", y, self.ignore_class)
        checks += checks_of_y
        weights = []
        if sample_weight is not None:
            weights = [_weights_of_tokens(sample_weight, x)]
        if self._class_weights is not None:
            self._check_no_weights(sample_weight)
            weights = [tf.gather(self._class_weights, tf.maximum(tf.cast(y, tf.int64), 0))]
        with tf.control_dependencies(checks):
            return tf.nest.map_structure(tf.identity, (x, y, *weights))

    def _shifted(self, x, sample_weight):
        self._check_spec("x", x, extra=1)
        weights = sample_weight
        if weights is not None:
            weights = weights if hasattr(weights, "shape") else np.asarray(weights)
            if len(weights.shape) == 2 and weights.shape[1] != 1:
                weights = weights[:, 1:]
        return x[:, :-1], x[:, 1:], weights

    def _check_spec(self, name, ids, extra=0):
        """Check dtype and shape, which a dataset declares before its first batch."""
        dtype, shape = getattr(ids, "dtype", None), getattr(ids, "shape", None)
        if dtype is None or shape is None:
            raise ValueError(f"`{name}` must hold token ids, got {type(ids).__name__}.")
        with contextlib.suppress(ValueError):  # Keras lacks some dtypes of NumPy
            dtype = keras.backend.standardize_dtype(dtype)
        if not str(dtype).startswith(("int", "uint")):
            raise ValueError(f"Token ids must be integers, got {dtype}.")
        if getattr(shape, "rank", 0) is None:  # a dataset of unknown shape
            return
        if len(shape) not in self.ranks:
            raise ValueError(f"Token ids must have the shape {self.form}, got {tuple(shape)}.")
        limit = self.max_sequence_length
        if limit is not None and (shape[-1] or 0) > limit + extra:
            raise ValueError(_length_error(shape[-1] - extra, limit))

    def _check_ids(self, name, ids, ignore_class=None):
        self._check_spec(name, ids)
        ids = np.asarray(ids)
        if ignore_class is not None:
            ids = ids[ids != ignore_class]
        check_token_ids(ids, self.vocabulary_size)

    def _checked_ids(self, name, ids, ignore_class=None):
        """Return ids in a graph, and the assertions that check their values."""
        self._check_spec(name, ids)
        if ids.shape.rank is None:
            ids = tf.ensure_shape(ids, (None,) * self.ranks[0])
        checks = []
        length = tf.shape(ids)[-1]
        if self.max_sequence_length is not None:
            message = _length_error("{}", self.max_sequence_length)
            checks.append(_assertion(length <= self.max_sequence_length, message, length))
        # The vocabulary size may overflow a small dtype such as uint8.
        counted = tf.cast(ids, tf.int64)
        if ignore_class is not None:
            counted = tf.boolean_mask(counted, counted != ignore_class)
        is_known = tf.reduce_all((counted >= 0) & (counted < self.vocabulary_size))
        bounds = tf.reduce_min(counted), tf.reduce_max(counted)
        message = token_id_error("{}", "{}", self.vocabulary_size)
        return ids, [*checks, _assertion(is_known, message, *bounds)]

    def _check_no_weights(self, weights):
        if weights is not None:
            raise ValueError("`class_weight` must be None where there are sample weights.")


class LabelBatches(TokenBatches):
    """Checks of a task model's batches, `(token_ids, labels, weights)`.

    The ids may be in a dict, as for a `CausalLM`. Ragged rows are padded with the model's `pad_id`.
    If it is -1, no token may follow it, and no row may begin with it.

    Args:
        model: A `TaskModel`.
        num_labels: Function from the token ids to the number of classes or choices; None if the
            labels are not class numbers.
    """

    ranks = (2, 3)
    form = "(batch, length) or (batch, sequences, length)"

    def __init__(self, model, num_labels: Callable | None = None):
        super().__init__(model)
        self.num_labels = num_labels
        self.pad_id = model.pad_id
        self._no_token = self.pad_id if self.pad_id < 0 else None

    def _padded(self, x):
        x = ids_in(x)
        if not isinstance(x, tf.RaggedTensor):
            return x
        if self._no_token is not None:  # an unsigned dtype cannot hold it
            x = tf.cast(x, tf.int32)
        return x.to_tensor(self.pad_id)

    def arrays(self, x, y=None, sample_weight=None) -> tuple:
        x, y = as_array("x", self._padded(x)), as_array("y", y)
        self._check_ids("x", x, self._no_token)
        if self._no_token is not None and _is_misplaced(np.any, np.asarray(x), self._no_token):
            raise ValueError(_PADDING_ERROR)
        if self.num_labels is not None and hasattr(y, "dtype"):
            number, labels = self.num_labels(x), np.asarray(y)
            if not np.isin(labels, [*range(number), self.ignore_class]).all():
                raise ValueError(_label_error(number - 1, labels.reshape(-1)[:10].tolist()))
        return x, y, checked_weights(sample_weight, (len(x),))

    def in_graph(self, *batch):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        x, checks = self._checked_ids("x", self._padded(x), self._no_token)
        if self._no_token is not None:
            is_wrong = _is_misplaced(tf.reduce_any, tf.cast(x, tf.int64), self._no_token)
            checks.append(_assertion(~is_wrong, _PADDING_ERROR))
        if self.num_labels is not None and y is not None:
            number, labels = self.num_labels(x), tf.cast(y, tf.int64)
            if number is None:
                number = tf.shape(x)[1]
            is_label = (labels >= 0) & (labels < tf.cast(number, tf.int64))
            if self.ignore_class is not None:
                is_label |= labels == self.ignore_class
            message = _label_error("{}", "{}")
            checks.append(_assertion(tf.reduce_all(is_label), message, number - 1, labels))
        if weights is not None:
            column = x[:, :1] if x.shape.rank == 2 else x[:, 0, :1]  # one weight for each label
            weights = _weights_of_tokens(weights, column)[:, 0]
        parts = [part for part in (x, y, weights) if part is not None]
        with tf.control_dependencies(checks):
            parts = [tf.identity(part) for part in parts]
        return tuple(parts) if len(parts) > 1 else parts[0]


def checked_batches(source, batches: TokenBatches):
    """Return a source of batches that checks each batch.

    Args:
        source: A `tf.data.Dataset`, a `keras.utils.PyDataset`, or an iterator.
        batches: The checks.

    Returns:
        A source of the same type with the same batches, or None if `source` is of another type.

    Raises:
        ValueError: The shape or dtype of a dataset's elements is wrong.
    """
    if isinstance(source, tf.data.Dataset):
        # AutoGraph would wrap the `ValueError` of a check into an error of its own.
        checked = source.map(tf.autograph.experimental.do_not_convert(batches.in_graph))
    elif isinstance(source, keras.utils.PyDataset):
        checked = _CheckedPyDataset(source, batches)
    elif isinstance(source, Iterator):
        checked = (_checked_batch(batch, batches) for batch in source)
    else:
        return None
    _CHECKED.add(checked)
    return checked


def is_checked(source) -> bool:
    """Return whether `checked_batches` made a source.

    Keras's `fit` passes its validation data to `evaluate` after every epoch. A second check of a
    generator would consume one of its batches.
    """
    return isinstance(source, Iterator | tf.data.Dataset | keras.utils.PyDataset) and (
        source in _CHECKED
    )


_CHECKED: weakref.WeakSet = weakref.WeakSet()


@contextlib.contextmanager
def plain_errors():
    """Convert TensorFlow's error about a bad batch into the original `ValueError`.

    Raises:
        ValueError: A batch failed its check while the block ran.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = _BAD_BATCH.search(str(error).replace("\\'", "'"))  # the graph escapes quotes
        if found is None:
            raise
        raise ValueError(found.group(1)) from error


# A message of this module inside an error of `tf.data`. Either an assertion in the graph raised it,
# or Python code in `tf.data.Dataset.from_generator`, into which Keras wraps generators.
_BAD_BATCH = re.compile(
    r"(?:assertion failed: \[b?['\"]?|ValueError: )"
    rf"((?:Token ids must|Sequences of|`[xy]` must|{re.escape(_WEIGHTS)}).*?\.)['\"]?"
    r"(?:\]?\s*\n|\]|$)",
    re.DOTALL,
)


def as_array(name: str, value) -> Any:
    """Return a list as one array, and any other value unchanged.

    Keras would read a list as several inputs of the model.

    Raises:
        ValueError: The lists inside have different lengths.
    """
    if not isinstance(value, list | tuple):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be an array or lists of one length: {error}") from error


def checked_weights(sample_weight, shape: tuple[int, ...]):
    """Return sample weights, broadcast to the shape of the losses.

    Args:
        sample_weight: Numbers, one for each row or one for each entry of the losses; or None.
        shape: Shape of the losses, `(batch,)` or `(batch, length)`.

    Returns:
        float32 weights of this shape, or None.

    Raises:
        ValueError: The weights have another shape, or are not finite numbers.
    """
    if sample_weight is None:
        return None
    try:
        weights = np.asarray(sample_weight, "float32")
    except (TypeError, ValueError):
        weights = np.array(np.nan)  # no numbers: fails the check below
    if weights.shape in (shape[:1], (shape[0], 1)):
        weights = np.broadcast_to(weights.reshape(-1, *[1] * (len(shape) - 1)), shape)
    if weights.shape != shape or not np.isfinite(weights).all():
        raise ValueError(_weights_error(shape, weights.shape))
    return weights


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` that checks its batches."""

    def __init__(self, source, batches):
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        self._source = source
        self._batches = batches

    @property
    def num_batches(self):
        return self._source.num_batches

    def __getitem__(self, index):
        return _checked_batch(self._source[index], self._batches)

    def on_epoch_begin(self):
        self._source.on_epoch_begin()

    def on_epoch_end(self):
        self._source.on_epoch_end()


def _checked_batch(batch, batches):
    parts = batches.arrays(*keras.utils.unpack_x_y_sample_weight(batch))
    return tuple(part for part in parts if part is not None)


def _weights_of_tokens(weights, x):
    """Check the weights of a dataset's batch and broadcast them to the shape of `x`."""
    forms = x.shape[:1], [x.shape[0], 1], x.shape
    if not any(weights.shape.is_compatible_with(form) for form in forms):
        raise ValueError(_weights_error(tuple(x.shape), tuple(weights.shape)))
    shape, rows = tf.shape(weights), tf.shape(x)
    is_of_rows = tf.equal(tf.size(weights), rows[0]) & tf.equal(shape[0], rows[0])
    is_of_tokens = tf.equal(tf.rank(weights), 2) & tf.equal(tf.size(weights), tf.size(x))
    is_finite = tf.reduce_all(tf.math.is_finite(tf.cast(weights, tf.float32)))
    message = _weights_error(("{}", "{}"), "{}")
    is_right = (is_of_rows | is_of_tokens) & is_finite
    with tf.control_dependencies([_assertion(is_right, message, rows[0], rows[0], rows[1], shape)]):
        # A weight for each row, (batch,) or (batch, 1), is broadcast to its tokens.
        column_or_all = tf.reshape(weights, tf.concat([shape, [1]], axis=0)[:2])
    return tf.broadcast_to(column_or_all, rows)


def _is_misplaced(any_of, token_ids, pad_id):
    """Return whether a row begins with padding, or a token follows padding.

    Args:
        any_of: `np.any` or `tf.reduce_any`.
        token_ids: `(..., length)`.
        pad_id: The id of padding.
    """
    is_padding = token_ids == pad_id
    return any_of(is_padding[..., :1]) | any_of(is_padding[..., :-1] & ~is_padding[..., 1:])


def _assertion(is_right, message, *values):
    return tf.debugging.Assert(is_right, [tf.strings.format(message, values)])


def _length_error(length, limit):
    return f"Sequences of {length} tokens are longer than the model's max_sequence_length={limit}."


def _label_error(last, got):
    return f"`y` must hold the numbers of the classes or choices, 0 to {last}; got {got}."


def _weights_error(shape, got):
    row, *others = map(str, shape)
    shapes = " or ".join(dict.fromkeys([f"({row},)", f"({', '.join([row, *others])})"]))
    shapes = shapes if others else f"({row},)"
    return f"{_WEIGHTS} must be finite numbers of the shape {shapes}; got the shape {got}."
