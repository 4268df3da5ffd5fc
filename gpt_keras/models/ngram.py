"""Kneser-Ney n-gram language model, the baseline that a GPT has to beat."""

import pathlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt_keras import tokenizers
from gpt_keras.atomic import atomic_directory
from gpt_keras.checks import check_at_least_0, check_int64, check_positive_int, check_token_ids
from gpt_keras.datasets.document_ids import document_ids
from gpt_keras.generation.arguments import read_prompts
from gpt_keras.tokenizers.tokenizer import FILE_NAME

_COUNTS = "ngrams.npz"


class _Order(NamedTuple):
    """The contexts of one length, and the tokens that follow them.

    All contexts form a trie, read from the newest token backwards. The root is the empty context,
    and a child adds one older token to its parent. The parent of a context is therefore the shorter
    context of the backoff.

    Attributes:
        contexts: Sorted keys `parent * base + oldest token`. The index of a key is the context's
            number.
        backoffs: Backoff weight of each context: the probability mass for the shorter context.
        grams: Sorted keys `context * base + next token` of the n-grams that occur.
        probabilities: Discounted count of each n-gram, divided by the counts of its context.
    """

    contexts: np.ndarray
    backoffs: np.ndarray
    grams: np.ndarray
    probabilities: np.ndarray


class NGramLM:
    """Interpolated, modified Kneser-Ney n-gram model (Chen and Goodman 1999).

    The probability of a token `w` after a context `h` is its discounted count, interpolated with
    its probability after a shorter context. That context `h'` is `h` without its oldest token:

        p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + backoff(h) * p(w | h')

    For the longest contexts, `c` counts occurrences. For shorter contexts, `c(h w)` is the number
    of different tokens before `h w` (continuation count, Kneser and Ney 1995). The recursion ends
    at the uniform distribution, so no token of the vocabulary has probability 0.

    Each order has three discounts, for counts of 1, 2, and 3 or more. They are estimated from the
    order's counts of counts. If a corpus is too small for this estimate, they are 0.5, 1 and 1.5.

    Each document ends with the tokenizer's end-of-text token, if it has one. No context contains
    tokens of the previous document.

    Args:
        order: Number of tokens in an n-gram, the predicted token included. With 3, two tokens
            predict the next one.
        tokenizer: A `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        vocabulary_size: Number of token ids. Default: the tokenizer's.

    Raises:
        ValueError: An argument is out of its range, or both `tokenizer` and `vocabulary_size` are
            missing.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
        >>> model = gk.NGramLM(3, tokenizer).fit(["abcabcabc", "abab"])
        >>> model.generate("ab", max_new_tokens=4, temperature=0)
        'abcabc'
        >>> model.perplexity(["abc"]) < 4    # better than 4 equally likely tokens
        True
    """

    def __init__(self, order: int, tokenizer=None, vocabulary_size: int | None = None):
        check_positive_int("order", order)
        if tokenizer is not None and not isinstance(tokenizer, tokenizers.Tokenizer):
            raise ValueError(
                f"`tokenizer` must be a gk.tokenizers.Tokenizer or None, got {tokenizer!r}."
            )
        if vocabulary_size is None and tokenizer is None:
            raise ValueError("`vocabulary_size` must be given where there is no `tokenizer`.")
        if vocabulary_size is None:
            vocabulary_size = tokenizer.vocabulary_size
        check_positive_int("vocabulary_size", vocabulary_size)
        if tokenizer is not None and vocabulary_size < tokenizer.vocabulary_size:
            raise ValueError(
                f"`vocabulary_size` must be at least the tokenizer's {tokenizer.vocabulary_size}, "
                f"got {vocabulary_size}."
            )
        self.order = order
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self._orders: list[_Order] = []

    @property
    def end_of_text_id(self) -> int | None:
        """Id of the end-of-text token, or None."""
        return None if self.tokenizer is None else self.tokenizer.end_of_text_id

    @property
    def num_parameters(self) -> int:
        """Number of probabilities that the model stores."""
        return sum(len(o.backoffs) + len(o.probabilities) for o in self._orders)

    def fit(
        self, corpus: str | Path | Iterable, keep_line_ends: bool = False, field: str = "text"
    ) -> "NGramLM":
        r"""Count the n-grams of a corpus; earlier counts are discarded.

        Args:
            corpus: A corpus, as in `gk.datasets.language_modeling`; or the token ids of one
                document; or a list of documents as token ids.
            keep_line_ends: Whether the line ends `"\r\n"` and `"\r"` of text files are kept. By
                default they become `"\n"`.
            field: The column of tables and rows that holds the text.

        Returns:
            The model itself.

        Raises:
            ValueError: The corpus is empty, it is text and there is no tokenizer, or an id is
                outside the vocabulary.
        """
        found = document_ids(corpus, self.tokenizer, keep_line_ends, field)
        documents = [self._ended(document.ids) for document in found]
        ids = np.concatenate(documents)
        starts = np.cumsum([0, *map(len, documents)])
        contexts = self._contexts(ids, starts)  # (order - 1, tokens)

        # From the root to the leaves of the trie: number the contexts of each length.
        nodes = [np.zeros(len(ids), np.int64)]
        keys = [np.zeros(1, np.int64)]
        for older in contexts:
            unique, node = np.unique(nodes[-1] * self._base + older, return_inverse=True)
            keys.append(unique)
            nodes.append(node)

        # Back to the root. After a longest context, each occurrence of a token counts. After a
        # shorter context, a token counts once for each child context that it follows.
        grams, counts = np.unique(nodes[-1] * self._base + ids, return_counts=True)
        orders = [_order(keys[-1], grams, counts, self._base)]
        for length in reversed(range(self.order - 1)):
            context, token = np.divmod(grams, self._base)
            parent = keys[length + 1][context] // self._base
            grams, counts = np.unique(parent * self._base + token, return_counts=True)
            orders.append(_order(keys[length], grams, counts, self._base))
        self._orders = orders[::-1]
        return self

    def log_probabilities(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the log-probability, in nats, of each token given the tokens before it.

        Args:
            token_ids: Ids from the beginning of a document. After an end-of-text token another
                document begins.

        Returns:
            `(tokens,)` float64.

        Raises:
            ValueError: An id is outside the vocabulary, or the model was not fitted.
        """
        ids = self._checked(token_ids)
        probability = np.full(len(ids), 1 / self.vocabulary_size)
        node = np.zeros(len(ids), np.int64)
        contexts = self._contexts(ids, np.array([0, len(ids)]))
        for length, order in enumerate(self._require_orders()):
            if length > 0:
                key = node * self._base + contexts[length - 1]
                node = np.where(node >= 0, _find(order.contexts, key), -1)
            known = node >= 0
            gram = _find(order.grams, node[known] * self._base + ids[known])
            found = np.where(gram >= 0, order.probabilities[gram], 0)
            probability[known] = found + order.backoffs[node[known]] * probability[known]
        return np.log(probability)

    def next_probabilities(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return the probability of each token of the vocabulary as the next token.

        Args:
            token_ids: The ids so far, from the beginning of a document; may be empty.

        Returns:
            `(vocabulary_size,)` float64, with the sum 1.

        Raises:
            ValueError: An id is outside the vocabulary, or the model was not fitted.
        """
        ids = self._checked(token_ids)
        # The context of a next token does not depend on its id, so 0 stands for any id.
        end = np.append(ids, 0)
        contexts = self._contexts(end, np.array([0, len(end)]))[:, -1]
        probabilities = np.full(self.vocabulary_size, 1 / self.vocabulary_size)
        node = 0
        for length, order in enumerate(self._require_orders()):
            if length > 0:
                key = node * self._base + contexts[length - 1]
                node = int(_find(order.contexts, np.array([key]))[0])
            if node < 0:  # then all longer contexts are unknown too
                break
            first, last = np.searchsorted(order.grams, [node * self._base, (node + 1) * self._base])
            probabilities *= order.backoffs[node]
            probabilities[order.grams[first:last] % self._base] += order.probabilities[first:last]
        return probabilities

    def perplexity(
        self, corpus: str | Path | Iterable, keep_line_ends: bool = False, field: str = "text"
    ) -> float:
        """Return the perplexity of a corpus: exp of the mean cross-entropy in nats.

        All tokens of a document count, and the end-of-text token after it. If the tokenizer has no
        end-of-text token, the first token of each document is left out, because a `CausalLM` could
        not predict it. `gk.evaluation.perplexity` scores the same tokens and returns more details.

        Args:
            corpus: As in `fit`.
            keep_line_ends: As in `fit`.
            field: As in `fit`.

        Returns:
            The perplexity per token.

        Raises:
            ValueError: As in `fit`; or no document has a token to score, or the model was not
                fitted.
        """
        total, count = 0.0, 0
        for document in document_ids(corpus, self.tokenizer, keep_line_ends, field):
            scored = self.scored_log_probabilities(document.ids)
            total, count = total + scored.sum(), count + len(scored)
        if count == 0:
            raise ValueError("`corpus` must hold a document of at least 2 tokens.")
        return float(np.exp(-total / count))

    def scored_log_probabilities(self, document: np.ndarray) -> np.ndarray:
        """Return the log-probabilities of the tokens that count in `perplexity`.

        Args:
            document: Token ids of one document, without the end-of-text token.

        Returns:
            `(scored tokens,)` float64, in nats.
        """
        log_probabilities = self.log_probabilities(self._ended(document))
        return log_probabilities[self.end_of_text_id is None :]

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        max_new_tokens: int = 100,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> str | list[str] | list[int] | list[list[int]]:
        """Continue one or several prompts, each from the beginning of a document.

        Args:
            prompts: A text, a list of texts, a list of token ids, or a list of lists of ids.
            max_new_tokens: Most tokens to add. The end-of-text token ends a row earlier, and is
                not returned.
            temperature: The probabilities are raised to the power `1 / temperature` and normalized.
                0 always takes the most likely token (greedy decoding).
            seed: Seed of the random draws; each row draws from its own generator. None takes a new
                seed in each call.

        Returns:
            Prompt and continuation, as text or as ids like the prompt.

        Raises:
            ValueError: As in `CausalLM.generate`.
        """
        check_positive_int("max_new_tokens", max_new_tokens)
        check_at_least_0("temperature", temperature)
        if seed is not None:
            check_int64("seed", seed)
        given = read_prompts(prompts, self.tokenizer, self.vocabulary_size, add_start_of_text=False)
        rows = []
        for i, row in enumerate(given.rows):
            generator = np.random.default_rng(None if seed is None else [seed % 2**64, i])
            rows.append(self._continue(row, max_new_tokens, temperature, generator))
        if given.is_text:
            rows = self.tokenizer.decode(rows)
        return rows[0] if given.is_single else rows

    def _continue(self, row, max_new_tokens, temperature, generator):
        row = list(row)
        size = self.vocabulary_size if self.tokenizer is None else self.tokenizer.vocabulary_size
        for _ in range(max_new_tokens):
            # The slice `:size` excludes ids that the tokenizer lacks. Contexts are shorter than
            # `order`, so older tokens of the row are not needed.
            probabilities = self.next_probabilities(row[-self.order :])[:size]
            if temperature == 0:
                token = int(np.argmax(probabilities))
            else:
                logits = np.log(probabilities) / temperature
                weights = np.exp(logits - logits.max())
                token = int(generator.choice(size, p=weights / weights.sum()))
            if token == self.end_of_text_id:
                break
            row.append(token)
        return row

    def save(self, directory) -> None:
        """Save the model to a new folder: its counts, and the tokenizer.

        Args:
            directory: Folder to write; it is created if needed.

        Raises:
            ValueError: The folder exists and is not empty, or the model was not fitted.
        """
        arrays = {
            f"{field}_{length}": values
            for length, order in enumerate(self._require_orders())
            for field, values in order._asdict().items()
        }
        with atomic_directory(directory) as folder:
            sizes = np.array([self.order, self.vocabulary_size])
            np.savez_compressed(folder / _COUNTS, sizes=sizes, **arrays)
            if self.tokenizer is not None:
                self.tokenizer.save(folder)

    @classmethod
    def load(cls, directory) -> "NGramLM":
        """Load a model from a folder of `save`.

        Args:
            directory: The folder.

        Returns:
            The model.

        Raises:
            ValueError: The folder holds no n-gram model, or the model is damaged.

        Example:
            >>> import tempfile
            >>> import gpt_keras as gk
            >>> model = gk.NGramLM(2, vocabulary_size=3).fit([0, 1, 0, 1])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     model.save(folder)
            ...     gk.NGramLM.load(folder).generate([0], max_new_tokens=2, temperature=0)
            [0, 1, 0]
        """
        folder = pathlib.Path(directory)
        has_tokenizer = (folder / FILE_NAME).exists()
        tokenizer = tokenizers.load(folder) if has_tokenizer else None
        try:
            with np.load(folder / _COUNTS) as stored:
                order, vocabulary_size = stored["sizes"].tolist()
                model = cls(order, tokenizer, vocabulary_size)
                model._orders = [
                    _Order(*(stored[f"{field}_{length}"] for field in _Order._fields))
                    for length in range(order)
                ]
        except Exception as error:  # zipfile, zlib and NumPy raise many types
            raise ValueError(f"{str(folder / _COUNTS)!r} is no n-gram model: {error}") from error
        return model

    @property
    def _base(self) -> int:
        return self.vocabulary_size + 1  # the ids, and the boundary mark of `_contexts`

    def _ended(self, ids):
        check_token_ids(ids, self.vocabulary_size)
        end = self.end_of_text_id
        return ids if end is None else np.append(ids, end)

    def _contexts(self, ids, starts):
        """Return the `order - 1` tokens before each token, the nearest first.

        A boundary mark fills the positions before a document. It is the end-of-text token or, if
        there is none, an id beyond the vocabulary.

        Args:
            ids: Token ids of documents, concatenated, `(tokens,)`.
            starts: Index of the first token of each document, and at the end `tokens`.

        Returns:
            `(order - 1, tokens)` int64.
        """
        mark = self.vocabulary_size if self.end_of_text_id is None else self.end_of_text_id
        place = np.arange(len(ids))
        start = np.repeat(starts[:-1], np.diff(starts))
        contexts = np.empty((self.order - 1, len(ids)), np.int64)
        beyond = np.zeros(len(ids), bool)
        for distance in range(1, self.order):
            older = ids[np.maximum(place - distance, 0)]
            beyond |= (place - distance < start) | (older == mark)
            contexts[distance - 1] = np.where(beyond, mark, older)
        return contexts

    def _checked(self, token_ids):
        token_ids = np.asarray(token_ids)
        check_token_ids(token_ids if token_ids.size else np.zeros(0, int), self.vocabulary_size)
        return token_ids.astype(np.int64)

    def _require_orders(self):
        if not self._orders:
            raise ValueError("The model has counted nothing yet: call `fit` first.")
        return self._orders


def _order(contexts, grams, counts, base):
    context = grams // base
    sums = np.bincount(context, weights=counts, minlength=len(contexts))
    discounts = np.concatenate([[0], _discounts(counts)])[np.minimum(counts, 3)]
    taken = np.bincount(context, weights=discounts, minlength=len(contexts))
    return _Order(contexts, taken / sums, grams, (counts - discounts) / sums[context])


def _discounts(counts):
    """Return the discounts of counts of 1, 2, and 3 or more (Chen and Goodman 1999)."""
    one, two, three, four = (float(np.sum(counts == c)) for c in (1, 2, 3, 4))
    if min(one, two, three, four) > 0:
        ratio = one / (one + 2 * two)
        discounts = np.array(
            [1 - 2 * ratio * two / one, 2 - 3 * ratio * three / two, 3 - 4 * ratio * four / three]
        )
        # A discount must be positive, else a token that never followed gets probability 0.
        if np.all((discounts > 0) & (discounts <= [1, 2, 3])):
            return discounts
    return np.array([0.5, 1.0, 1.5])


def _find(keys, wanted):
    """Return the index of each wanted key in sorted keys, or -1 if it is absent."""
    place = np.searchsorted(keys, wanted)
    place = np.minimum(place, len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
