"""Token sequences with a mask of the trained tokens, in batches by length."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.datasets.batches import gather
from gpt_keras.datasets.length_buckets import bucketed_indices, row_lengths
from gpt_keras.tokenizers import Tokenizer


class MaskedSequences(NamedTuple):
    """Token sequences of any lengths, with a mask of the tokens to train on.

    `fit` and `evaluate` of a `CausalLM` take them as `x`. `batches` makes a `tf.data.Dataset` of
    them.

    Attributes:
        token_ids: For each sequence, its ids, an int32 array `(length,)`.
        masks: For each sequence, a bool array `(length,)`: True for the tokens that are trained
            on. The first token has no tokens before it, so it is never a target.

    Example:
        >>> import numpy as np
        >>> import gpt_keras as gk
        >>> sequences = gk.datasets.MaskedSequences(
        ...     (np.array([4, 1, 2]), np.array([3, 1])),
        ...     (np.array([False, False, True]), np.array([False, True])),
        ... )
        >>> inputs, targets, sample_weight = next(iter(sequences.batches(2)))
        >>> targets.numpy().tolist(), sample_weight.numpy().tolist()
        ([[1, 2], [1, 0]], [[0.0, 1.0], [1.0, 0.0]])
    """

    token_ids: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]

    @property
    def num_trained(self) -> int:
        """Number of tokens that are trained on: the sum of all sample weights of an epoch."""
        return int(sum(mask[1:].sum() for mask in self.masks))

    def runs(self, index: int, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
        """Return a sequence as text, cut where the mask changes.

        Args:
            index: Number of the sequence.
            tokenizer: The tokenizer that made the ids.

        Returns:
            `(text, is_trained)` of each run of tokens with equal mask.

        Example:
            >>> import numpy as np
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
            >>> ids, mask = np.array([0, 1, 2]), np.array([False, True, True])
            >>> gk.datasets.MaskedSequences((ids,), (mask,)).runs(0, tokenizer)
            [('a', False), ('bc', True)]
        """
        token_ids, mask = self.token_ids[index], self.masks[index]
        borders = [0, *(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(mask)]
        return [
            (tokenizer.decode(token_ids[start:end].tolist()), bool(mask[start]))
            for start, end in itertools.pairwise(borders)
        ]

    def batches(
        self, batch_size: int, *, seed: int | None = None, num_lengths: int = 4
    ) -> tf.data.Dataset:
        """Make a dataset of padded batches for `model.fit`.

        Sequences of similar length are in one batch, so that there is little padding. The
        boundaries between lengths are quantiles of the lengths. Rows that do not fill a batch move
        on to the batches of the next length; at the longest length, the last batch is filled up
        with rows of sample weight 0.

        Args:
            batch_size: Number of rows in a batch.
            seed: Seed of the order, which differs in each epoch. The n-th epoch is the same for the
                same seed. None keeps the given order inside each length.
            num_lengths: Number of different lengths of batches. XLA compiles the training step once
                for each of them.

        Returns:
            A dataset of `(inputs, targets, sample_weight)`, each `(batch_size, row length)`: int32,
            int32 and float32. `targets` are the inputs shifted by one token. The sample weight is 1
            for the targets that are trained on, and 0 for all others and for padding.

        Raises:
            ValueError: There are no sequences, `batch_size` or `num_lengths` is not a positive
                integer, or `seed` is not a seed.
        """
        check_positive_int("batch_size", batch_size)
        check_positive_int("num_lengths", num_lengths)
        if seed is not None:
            check_seed(seed)
        if not self.token_ids:
            raise ValueError("There must be at least one sequence, got none.")
        sizes = np.array([len(ids) - 1 for ids in self.token_ids])
        lengths = row_lengths(sizes, num_lengths)
        groups = np.searchsorted(lengths, sizes)  # the shortest length that holds each row

        def take(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            length = int(lengths[groups[index[index >= 0]].max()])
            inputs = np.zeros((batch_size, length), np.int32)
            targets = np.zeros((batch_size, length), np.int32)
            weight = np.zeros((batch_size, length), np.float32)
            for i, row in enumerate(index):
                if row >= 0:
                    ids, mask = self.token_ids[row], self.masks[row]
                    inputs[i, : len(ids) - 1] = ids[:-1]
                    targets[i, : len(ids) - 1] = ids[1:]
                    weight[i, : len(ids) - 1] = mask[1:]
            return inputs, targets, weight

        shape = (batch_size, None)
        return gather(
            bucketed_indices(groups, batch_size, seed),
            take,
            [tf.TensorSpec(shape, dtype) for dtype in (tf.int32, tf.int32, tf.float32)],
        )
