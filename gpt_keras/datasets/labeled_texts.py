"""Texts with the numbers of their classes, as arrays and as a `tf.data` pipeline."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.datasets.batches import gather, ordered_indices, shuffled_indices
from gpt_keras.tokenizers import Tokenizer


class LabeledTexts(NamedTuple):
    """Texts and the numbers of their classes: a tuple `(x, y)` as Keras takes it.

    `model.fit(*train, validation_data=validation)` and `model.evaluate(*test)` take the arrays.
    `batches` makes a `tf.data.Dataset` of them.

    Attributes:
        texts: Array of strings, `(rows,)`; or `(rows, 2)` for pairs of texts.
        labels: Number of the class of each row, int32 `(rows,)`.

    Example:
        >>> import numpy as np
        >>> import gpt_keras as gk
        >>> examples = gk.datasets.LabeledTexts(np.array(["good", "bad", "so-so"]), np.arange(3))
        >>> [labels.tolist() for _, labels in examples.batches(2).as_numpy_iterator()]
        [[0, 1], [2]]
    """

    texts: np.ndarray
    labels: np.ndarray

    def num_longer_than(self, sequence_length: int, tokenizer: Tokenizer) -> int:
        """Return the number of rows with more than `sequence_length` tokens of text.

        Args:
            sequence_length: Number of tokens. The tokens of the two texts of a pair are added.
            tokenizer: The tokenizer of the model.

        Example:
            >>> import numpy as np
            >>> import gpt_keras as gk
            >>> examples = gk.datasets.LabeledTexts(np.array(["ab", "b"]), np.arange(2))
            >>> examples.num_longer_than(1, gk.tokenizers.CharacterTokenizer("ab"))
            1
        """
        columns = self.texts.reshape(len(self.texts), -1).T.tolist()
        lengths = sum(np.array([len(ids) for ids in tokenizer.encode(texts)]) for texts in columns)
        return int((lengths > sequence_length).sum())

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        encode: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tf.data.Dataset:
        """Make a dataset of batches for `model.fit`.

        Args:
            batch_size: Number of rows in a batch; the last batch may be smaller.
            seed: Seed of the order, which differs in each epoch. None keeps the given order.
            encode: Function from texts to token ids, such as `encode` of a `GPTClassifier`. It
                runs on each batch, so a batch of short texts is short. Default: the batches hold
                strings.

        Returns:
            A dataset of `(texts, labels)`, or of `(token_ids, labels)` with `encode`. Texts are
            string tensors `(batch,)` or `(batch, 2)`. Token ids are int32, labels are int32
            `(batch,)`.

        Raises:
            ValueError: `batch_size` is not a positive integer, or `seed` is not a seed.

        Example:
            >>> import numpy as np
            >>> import gpt_keras as gk
            >>> examples = gk.datasets.LabeledTexts(np.array(["ab", "b"]), np.arange(2))
            >>> count = lambda texts: np.array([[len(text)] for text in texts])
            >>> ids, labels = next(iter(examples.batches(2, encode=count)))
            >>> ids.numpy().tolist(), labels.numpy().tolist()
            ([[2], [1]], [0, 1])
        """
        check_positive_int("batch_size", batch_size)
        if seed is None:
            indices = ordered_indices(len(self.labels), batch_size)
        else:
            check_seed(seed)
            num_batches = -(-len(self.labels) // batch_size)
            indices = shuffled_indices(len(self.labels), batch_size, num_batches, seed)
        if encode is None:
            shape, dtype = (None, *self.texts.shape[1:]), tf.string
        else:
            shape, dtype = (None,) * np.ndim(encode(self.texts[:1])), tf.int32

        def take(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            index = index[index >= 0]  # the last batch of an epoch is filled up with -1
            texts = self.texts[index]
            if encode is None:
                texts = np.vectorize(str.encode, otypes=[object])(texts)
            else:
                texts = np.asarray(encode(texts), np.int32)
            return texts, self.labels[index].astype(np.int32)

        return gather(
            indices, take, [tf.TensorSpec(shape, dtype), tf.TensorSpec((None,), tf.int32)]
        )
