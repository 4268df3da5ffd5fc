"""The merges of byte-pair encoding, for many words in parallel."""

from collections.abc import Sequence

import tensorflow as tf

from gpt_keras.tokenizers.in_graph.hash_table import hash_table

# Rank of a pair of tokens that is never merged.
_NEVER = 2**31 - 1

# Value of an empty position in the result.
_NOTHING = -1


class PairMerger(tf.Module):
    """Byte-pair merging: in each word, the earliest learned pair is merged first.

    This repeats until no pair is left to merge. All words are merged in parallel, so the number of
    rounds is the number that the slowest word needs.

    Args:
        merges: `(first, second, merged)` ids of each merge, the earliest learned first.
        vocabulary_size: Number of ids.
    """

    def __init__(self, merges: Sequence[tuple[int, int, int]], vocabulary_size: int):
        super().__init__()
        self._base = vocabulary_size
        self._ranks = hash_table(
            [first * self._base + second for first, second, _ in merges],
            range(len(merges)),
            default=_NEVER,
        )
        with tf.init_scope():  # one extra entry, so that it is never empty
            self._merged = tf.constant([merged for _, _, merged in merges] + [0], tf.int32)
        self._all_at_once = _ranks_grow(merges)

    def __call__(self, ids: tf.Tensor, word: tf.Tensor, num_words: tf.Tensor) -> tf.RaggedTensor:
        """Merge the pairs of all words.

        Args:
            ids: `(symbols,)` int32, the ids of all words, one word after another.
            word: `(symbols,)` int32, the index of the word of each id, ascending from 0.
            num_words: Number of words; the last ones may have no symbols.

        Returns:
            `(num_words, None)` ragged int32 ids.
        """
        # A merged token takes the position of its first symbol; the other positions stay empty.
        place = tf.range(tf.size(ids))
        result = tf.fill(tf.shape(ids), _NOTHING)
        *_, result = tf.while_loop(
            lambda ids, word, place, result: tf.size(ids) > 0,
            self._round,
            [ids, word, place, result],
            shape_invariants=[tf.TensorShape([None])] * 4,
        )
        is_token = result != _NOTHING
        words = tf.boolean_mask(word, is_token)
        counts = tf.math.bincount(words, minlength=num_words, maxlength=num_words, dtype=tf.int64)
        tokens = tf.boolean_mask(result, is_token)
        return tf.RaggedTensor.from_row_lengths(tokens, counts, validate=False)

    def _round(
        self, ids: tf.Tensor, word: tf.Tensor, place: tf.Tensor, result: tf.Tensor
    ) -> list[tf.Tensor]:
        """Merge the earliest learned pair in each word; finished words go to the result.

        Args:
            ids: The tokens of words that are not finished.
            word: The word of each token.
            place: The position of each token in `result`.
            result: The tokens of finished words.

        Returns:
            The four tensors after the merge.
        """
        ranks = self._look_up(ids, _next(ids, 0), word == _next(word, -1))
        best = tf.gather(tf.math.segment_min(ranks, word), word)
        is_done = best == _NEVER
        done = tf.where(is_done)
        result = tf.tensor_scatter_nd_update(
            result, tf.gather_nd(place, done)[:, tf.newaxis], tf.gather_nd(ids, done)
        )
        merge = self._without_overlaps((ranks == best) & ~is_done, word)
        merged = tf.gather(self._merged, tf.minimum(ranks, self._merged.shape[0] - 1))
        ids = tf.where(merge, merged, ids)
        keep = tf.where(~(is_done | _previous(merge, False)))[:, 0]
        return [tf.gather(ids, keep), tf.gather(word, keep), tf.gather(place, keep), result]

    def _without_overlaps(self, merge: tf.Tensor, word: tf.Tensor) -> tf.Tensor:
        """Return which pairs to merge in this round; no two of them share a token.

        In a run of overlapping pairs, as in "aaaa", every second pair is merged. If ranks do not
        grow, only the leftmost pair of a word is merged (see `_ranks_grow`).
        """
        at = tf.range(tf.size(merge))
        if not self._all_at_once:
            leftmost = tf.math.segment_min(tf.where(merge, at, at.dtype.max), word)
            return merge & (at == tf.gather(leftmost, word))

        def every_second() -> tf.Tensor:
            begins = tf.boolean_mask(at, merge & ~_previous(merge, False))
            run = tf.maximum(tf.searchsorted(begins, at, side="right") - 1, 0)
            begin = tf.gather(begins, run)
            return merge & ((at - begin) % 2 == 0)

        overlap = merge & _previous(merge, False)
        return tf.cond(tf.reduce_any(overlap), every_second, lambda: merge)

    def _look_up(self, first: tf.Tensor, second: tf.Tensor, same_word: tf.Tensor) -> tf.Tensor:
        """Return the rank of each pair among the merges."""
        keys = tf.cast(first, tf.int64) * self._base + tf.cast(second, tf.int64)
        return tf.cast(self._ranks.lookup(tf.where(same_word, keys, -1)), tf.int32)


def _ranks_grow(merges: Sequence[tuple[int, int, int]]) -> bool:
    """Return whether every merge comes after the merges that make its two tokens.

    This is true of every trained vocabulary. Then all occurrences of the best pair in a word can be
    merged in one round: merging the first occurrence makes no pair with a lower rank.
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
