"""Pairs of answers to a prompt, as arrays and as a `tf.data` pipeline."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.datasets.length_buckets import bucketed_indices, bucketed_order, row_lengths
from gpt_keras.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class PreferencePairs:
    """Prompts, each with a chosen and a rejected answer, as token ids.

    `gk.finetuning.DPO.fit` takes them. `batches` makes a `tf.data.Dataset` of them.

    Attributes:
        prompts: For each pair, the ids of the prompt, int32 `(length,)`.
        chosen: For each pair, the ids of the chosen answer, its end token included.
        rejected: For each pair, the ids of the rejected answer, its end token included.
        reference: Log-probabilities of the answers under the reference model, float32
            `(pairs, 2)`: the chosen answer first. None before `DPO.with_reference`.

    Example:
        >>> import numpy as np
        >>> import gpt_keras as gk
        >>> pairs = gk.datasets.PreferencePairs(
        ...     (np.array([5, 6]),), (np.array([7, 1]),), (np.array([8, 9, 1]),)
        ... )
        >>> batch = next(iter(pairs.batches(1)))
        >>> batch["token_ids"].numpy()[0].tolist()
        [[5, 6, 7, 1, 0], [5, 6, 8, 9, 1]]
        >>> batch["answer_mask"].numpy()[0].astype(int).tolist()
        [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    """

    prompts: tuple[np.ndarray, ...]
    chosen: tuple[np.ndarray, ...]
    rejected: tuple[np.ndarray, ...]
    reference: np.ndarray | None = None

    def __post_init__(self):
        if not len(self.prompts) == len(self.chosen) == len(self.rejected):
            raise ValueError(
                "There must be a chosen and a rejected answer for each prompt, got "
                f"{len(self.prompts)} prompts, {len(self.chosen)} chosen and {len(self.rejected)} "
                "rejected answers."
            )
        if self.reference is not None and np.shape(self.reference) != (len(self), 2):
            raise ValueError(
                f"`reference` must have the shape {(len(self), 2)}, got {np.shape(self.reference)}."
            )

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def sizes(self) -> np.ndarray:
        """Number of tokens of each pair: of the prompt and the longer answer, `(pairs,)`."""
        answers = np.maximum([*map(len, self.chosen)], [*map(len, self.rejected)])
        return np.array([*map(len, self.prompts)], np.int64) + answers

    def texts(self, index: int, tokenizer: Tokenizer) -> tuple[str, str, str]:
        """Return a pair as texts: the prompt, the chosen and the rejected answer.

        Args:
            index: Number of the pair.
            tokenizer: The tokenizer that made the ids.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
            >>> gk.datasets.PreferencePairs(([0, 1],), ([2],), ([0],)).texts(0, tokenizer)
            ('ab', 'c', 'a')
        """
        parts = (self.prompts, self.chosen, self.rejected)
        return tuple(tokenizer.decode(np.asarray(part[index]).tolist()) for part in parts)

    def batches(
        self, batch_size: int, *, seed: int | None = None, num_lengths: int = 4
    ) -> tf.data.Dataset:
        """Make a dataset of padded batches for `DPO.fit`.

        Pairs of similar length are in one batch, so that there is little padding. Each batch has
        one of `num_lengths` lengths. The last batch of an epoch is filled up with pairs that have
        an empty `answer_mask`; loss and metrics ignore them.

        Args:
            batch_size: Number of pairs in a batch; the model runs two rows for each pair.
            seed: Seed of the order, which differs in each epoch. The n-th epoch is the same for the
                same seed. None keeps the given order inside each length.
            num_lengths: Number of different lengths of batches. XLA compiles the training step once
                for each of them.

        Returns:
            A dataset of dicts: `token_ids`, int32, and `answer_mask`, bool, both `(batch_size, 2,
            length)`, with the chosen answer first. The mask is True for the answer's tokens. With
            a reference, also `reference`, float32 `(batch_size, 2)`.

        Raises:
            ValueError: There are no pairs, `batch_size` or `num_lengths` is not a positive integer,
                or `seed` is not a seed.
        """
        if seed is not None:
            check_seed(seed)
        groups, lengths = self._groups(batch_size, num_lengths)
        names = ["token_ids", "answer_mask", *([] if self.reference is None else ["reference"])]
        dtypes = {"token_ids": tf.int32, "answer_mask": tf.bool, "reference": tf.float32}

        def take(index: np.ndarray) -> list[np.ndarray]:
            batch = self._take(index, groups, lengths)
            return [batch[name] for name in names]

        def batch(index: tf.Tensor) -> dict[str, tf.Tensor]:
            arrays = tf.numpy_function(take, [index], [dtypes[name] for name in names])
            shapes = [(batch_size, 2, *([] if name == "reference" else [None])) for name in names]
            return {
                name: tf.ensure_shape(array, shape)
                for name, array, shape in zip(names, arrays, shapes)
            }

        indices = bucketed_indices(groups, batch_size, seed)
        return indices.map(batch).prefetch(tf.data.AUTOTUNE)

    def numbered_batches(
        self, batch_size: int, num_lengths: int = 4
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yield the numbers of the pairs of each batch, and the batch.

        Args:
            batch_size: As in `batches`.
            num_lengths: As in `batches`.

        Yields:
            The numbers `(batch_size,)`, -1 for a filled-up pair; and the dict of arrays.
        """
        groups, lengths = self._groups(batch_size, num_lengths)
        for index in bucketed_order(groups, batch_size):
            yield index, self._take(index, groups, lengths)

    def _groups(self, batch_size, num_lengths):
        check_positive_int("batch_size", batch_size)
        check_positive_int("num_lengths", num_lengths)
        if not len(self):
            raise ValueError("There must be at least one pair, got none.")
        # The model reads all tokens but the last one.
        lengths = row_lengths(self.sizes - 1, num_lengths)
        return np.searchsorted(lengths, self.sizes - 1), lengths + 1

    def _take(self, index, groups, lengths):
        length = int(lengths[groups[index[index >= 0]].max()])
        shape = (len(index), 2, length)
        token_ids, answer_mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for i, row in enumerate(index):
            if row < 0:
                continue
            prompt = self.prompts[row]
            for j, answer in enumerate((self.chosen[row], self.rejected[row])):
                end = len(prompt) + len(answer)
                token_ids[i, j, :end] = [*itertools.chain(prompt, answer)]
                answer_mask[i, j, len(prompt) : end] = True
        batch = {"token_ids": token_ids, "answer_mask": answer_mask}
        if self.reference is not None:
            is_pair = (index >= 0)[:, None]
            batch["reference"] = np.where(is_pair, self.reference[index], 0).astype(np.float32)
        return batch
