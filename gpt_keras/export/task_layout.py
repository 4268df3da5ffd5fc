"""The layouts of `gk.models.task_inputs` in TensorFlow ops."""

from collections.abc import Sequence

import tensorflow as tf

from gpt_keras.models.task_inputs import Markers, fitted_lengths

# Names and ranks of the inputs of each layout; pairs have the names of Hugging Face's pipelines.
_INPUTS = {
    "classification": {"text": 1},
    "entailment": {"text": 1, "text_pair": 1},
    "similarity": {"text": 1, "text_pair": 1},
    "multiple_choice": {"context": 1, "answers": 2},
}


class TaskLayout(tf.Module):
    """Conversion of texts to the token ids that `encode` of a task model returns.

    Rows are as long as the longest sequence of the batch, while `encode` rounds the length up.

    Args:
        model: A task model with a tokenizer.

    Raises:
        ValueError: The tokenizer has no form in TensorFlow ops or no delimiter for two parts, or
            the model's context is too short for the layout.
    """

    def __init__(self, model):
        super().__init__()
        self._name = getattr(model, "layout", "multiple_choice")
        self._tokenizer = model.tokenizer.in_graph()
        self._markers: Markers = model.markers
        self._pad_id = model.pad_id
        self._max_length = model.max_sequence_length

    @property
    def ranks(self) -> dict[str, int]:
        """Names of the inputs, and their numbers of axes."""
        return _INPUTS[self._name]

    def __call__(self, *texts: tf.Tensor) -> tf.Tensor:
        """Return the ids of a batch, `(batch, length)` or `(batch, sequences, length)`.

        Args:
            *texts: Strings, `(batch,)`; the answers of a multiple choice are `(batch, choices)`.
        """
        return getattr(self, f"_{self._name}")(*texts)

    def _classification(self, text):
        return self._padded(self._joined(self._cut([self._tokenizer(text)])))

    def _entailment(self, text, text_pair):
        return self._padded(self._joined(self._cut(self._pair(text, text_pair))))

    def _similarity(self, text, text_pair):
        # The second order has the same tokens as the first one, also where they were cut.
        parts = self._cut(self._pair(text, text_pair))
        orders = self._joined(parts), self._joined(parts[::-1])
        return tf.stack([self._padded(order) for order in orders], axis=1)

    def _multiple_choice(self, context, answers):
        batch, choices = tf.unstack(tf.shape(answers))
        check = tf.debugging.assert_equal(
            tf.size(context), batch, "answers must have a row for each context"
        )
        with tf.control_dependencies([check]):
            contexts = self._tokenizer(tf.identity(context))
        rows = tf.repeat(tf.range(batch), choices)
        parts = [tf.gather(contexts, rows), self._tokenizer(tf.reshape(answers, [-1]))]
        token_ids = self._padded(self._joined(self._cut(parts)))
        return tf.reshape(token_ids, [batch, choices, tf.shape(token_ids)[1]])

    def _pair(self, text, text_pair):
        check = tf.debugging.assert_equal(
            tf.size(text), tf.size(text_pair), "text_pair must have a text for each text"
        )
        with tf.control_dependencies([check]):
            return [self._tokenizer(tf.identity(text)), self._tokenizer(text_pair)]

    def _cut(self, parts: Sequence[tf.RaggedTensor]) -> Sequence[tf.RaggedTensor]:
        """Cut tokens from the longest part of each row until all parts fit."""
        if self._max_length is None:
            return parts
        room = self._markers.room(len(parts), self._max_length)
        if len(parts) == 1:
            return [parts[0][:, :room]]
        lengths = [part.row_lengths() for part in parts]
        lengths = fitted_lengths(*lengths, room, tf.minimum, tf.maximum)
        return [_first_ids(part, length) for part, length in zip(parts, lengths, strict=True)]

    def _joined(self, parts):
        """Return the parts of each row as one sequence, with the markers around them."""
        first, *others = parts
        pieces = [self._repeated(self._markers.start, first), first]
        for part in others:
            pieces += [self._repeated(self._markers.delimiter, part), part]
        pieces.append(self._repeated(self._markers.end, first))
        return tf.concat([piece for piece in pieces if piece is not None], axis=1)

    def _repeated(self, ids, like):
        if not ids:
            return None
        return tf.tile(tf.constant([ids], tf.int32), [tf.cast(like.nrows(), tf.int32), 1])

    def _padded(self, sequences):
        checks = []
        if self._pad_id < 0:
            message = "a text must have at least one token"
            checks = [tf.debugging.assert_positive(sequences.row_lengths(), message)]
        with tf.control_dependencies(checks):
            token_ids = sequences.to_tensor(self._pad_id)  # (rows, longest)
        # A batch of texts without tokens gets one column of padding, as from `encode`.
        missing = tf.maximum(1 - tf.shape(token_ids)[1], 0)
        return tf.pad(token_ids, [[0, 0], [0, missing]], constant_values=self._pad_id)


def _first_ids(rows: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Return the first ids of each row; `lengths` are `(rows,)`."""
    places = tf.ragged.range(rows.row_lengths()).values
    is_kept = places < tf.gather(lengths, rows.value_rowids())
    return tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(rows.values, is_kept), lengths, validate=False
    )
