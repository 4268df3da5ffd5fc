"""The merging of byte-pair encoding, for many words side by side."""

from collections.abc import Sequence

import tensorflow as tf

from gpt_keras.tokenizers.hash_table import hash_table

# What a pair of tokens that is never merged has in place of a rank.
_NEVER = 2**62


class PairMerger(tf.Module):
    """Merges, in each word, the pair of tokens that was learned earliest, until none is left.

    All words are merged side by side, in as many rounds as the longest chain of merges takes.

    Args:
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        vocabulary_size: All ids are below it.
    """

    def __init__(self, merges: Sequence[tuple[int, int, int]], vocabulary_size: int):
        super().__init__()
        # A pair's key and value are one int64 each: the two ids; rank and merged id.
        self._base = vocabulary_size
        self._merges = hash_table(
            [first * self._base + second for first, second, _ in merges],
            [rank * self._base + merged for rank, (_, _, merged) in enumerate(merges)],
            default=_NEVER,
        )
        self._all_at_once = _ranks_grow(merges)

    def __call__(self, ids: tf.Tensor, word: tf.Tensor, num_words: tf.Tensor) -> tf.RaggedTensor:
        """Merges.

        Args:
            ids: `(symbols,)` int64, the ids of all words in one row.
            word: `(symbols,)` int32, which word each belongs to, ascending from 0.
            num_words: How many words there are; the last ones may have no symbols.

        Returns:
            `(num_words, None)` ragged int32 ids.
        """
        pairs = self._look_up(ids, _next(ids, 0), word == _next(word, -1))

        _, ids, word = tf.while_loop(
            lambda pairs, ids, word: tf.reduce_any(pairs < _NEVER),
            self._merge_round,
            [pairs, ids, word],
            shape_invariants=[tf.TensorShape([None])] * 3,
        )
        counts = tf.math.bincount(word, minlength=num_words, maxlength=num_words, dtype=tf.int64)
        return tf.RaggedTensor.from_row_lengths(tf.cast(ids, tf.int32), counts, validate=False)

    def _merge_round(self, pairs: tf.Tensor, ids: tf.Tensor, word: tf.Tensor) -> list[tf.Tensor]:
        """Merges in each word the pair that was learned earliest.

        Args:
            pairs: For each token what the table says of it and the next one.
            ids: The tokens.
            word: The word of each token.

        Returns:
            The three after the merge.
        """
        best = tf.math.segment_min(pairs, word)
        merge = (pairs < _NEVER) & (pairs == tf.gather(best, word))
        place = tf.range(tf.size(ids))
        if self._all_at_once:
            # Of overlapping pairs, as in "aaaa", every second one is merged.
            begins = merge & ~_previous(merge, False)
            number = tf.maximum(tf.cumsum(tf.cast(begins, tf.int32)) - 1, 0)
            begin = tf.gather(tf.boolean_mask(place, begins), number)
            merge &= (place - begin) % 2 == 0
        else:
            leftmost = tf.math.segment_min(tf.where(merge, place, place.dtype.max), word)
            merge &= place == tf.gather(leftmost, word)

        keep = ~_previous(merge, False)
        ids = tf.boolean_mask(tf.where(merge, pairs % self._base, ids), keep)
        word = tf.boolean_mask(word, keep)
        pairs = tf.boolean_mask(pairs, keep)
        # Only pairs that a merge touched can have changed.
        merge = tf.boolean_mask(merge, keep)
        changed = tf.where(merge | _next(merge, False))
        at = changed[:, 0]
        new = self._look_up(
            tf.gather(ids, at),
            tf.gather(_next(ids, 0), at),
            tf.gather(word == _next(word, -1), at),
        )
        return [tf.tensor_scatter_nd_update(pairs, changed, new), ids, word]

    def _look_up(self, first: tf.Tensor, second: tf.Tensor, same_word: tf.Tensor) -> tf.Tensor:
        return self._merges.lookup(tf.where(same_word, first * self._base + second, -1))


def _ranks_grow(merges: Sequence[tuple[int, int, int]]) -> bool:
    """Whether no merge can make way for an earlier one, as in every trained vocabulary.

    Then all places in a word where the best pair occurs can be merged in one round: merging the
    first of them makes no pair that would come before the second.
    """
    latest: dict[int, int] = {}
    for rank, (_, _, merged) in enumerate(merges):
        latest[merged] = rank
    return all(
        latest.get(first, -1) < rank and latest.get(second, -1) < rank
        for rank, (first, second, _) in enumerate(merges)
    )


def _next(values: tf.Tensor, last: int | bool) -> tf.Tensor:
    return tf.concat([values, [tf.cast(last, values.dtype)]], axis=0)[1:]


def _previous(values: tf.Tensor, first: int | bool) -> tf.Tensor:
    return tf.concat([[tf.cast(first, values.dtype)], values], axis=0)[:-1]
