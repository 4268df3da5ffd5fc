"""The language model that counts: what GPT has to beat."""

import pathlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt_keras import tokenizers
from gpt_keras.atomic import atomic_directory
from gpt_keras.checks import check_at_least_0, check_int64, check_positive_int, check_token_ids
from gpt_keras.datasets.document_ids import document_ids
from gpt_keras.generation.arguments import read_prompts

_COUNTS = "ngrams.npz"


class _Order(NamedTuple):
    """The contexts of one length, and the tokens that follow them.

    A context is a node of a tree whose root is the empty context; a child is one token longer, at
    its old end. So the parent of a context is the shorter one to back off to.

    Attributes:
        contexts: Sorted keys `parent * base + oldest token`; a context's number is its place.
        backoffs: For each context, the probability that goes to the shorter one.
        grams: Sorted keys `context * base + next token`, of those that occur.
        probabilities: For each of these, its discounted count over the context's sum.
    """

    contexts: np.ndarray
    backoffs: np.ndarray
    grams: np.ndarray
    probabilities: np.ndarray


class NGramLM:
    """Interpolated, modified Kneser-Ney n-gram model (Chen and Goodman 1999).

    The probability of a token after a context `h` is its discounted count, interpolated with the
    probability after the context `h'` that is one token shorter:

        p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + backoff(h) * p(w | h')

    `c` counts occurrences for the longest contexts, and for all shorter ones the different tokens
    that stand before `h w` (Kneser and Ney 1995). At the end there is the uniform distribution, so
    no token of the vocabulary has probability 0. Each order has three discounts, for counts of 1,
    2, and 3 or more, estimated from its counts of counts; where these do not allow it, as for a
    handful of characters, they are 0.5, 1 and 1.5.

    Documents are separated: each ends with the tokenizer's end-of-text token, where it has one,
    and no context reaches back into the document before.

    Args:
        order: Tokens in an n-gram, the predicted one included: 3 predicts from two tokens.
        tokenizer: A `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        vocabulary_size: Number of token ids. Default: the tokenizer's.

    Raises:
        ValueError: An argument is out of its range, or neither a tokenizer nor a vocabulary size
            is given.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
        >>> model = gk.NGramLM(3, tokenizer).fit(["abcabcabc", "abab"])
        >>> model.generate("ab", max_new_tokens=4, temperature=0)
        'abcabc'
        >>> model.perplexity(["abc"]) < 4    # less than 4 equal chances
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
        """Id of the token that ends a document, or None."""
        return None if self.tokenizer is None else self.tokenizer.end_of_text_id

    @property
    def num_parameters(self) -> int:
        """Number of probabilities that the model stores."""
        return sum(len(o.backoffs) + len(o.probabilities) for o in self._orders)

    def fit(self, corpus: str | Path | Sequence, keep_line_ends: bool = False) -> "NGramLM":
        r"""Count a corpus; what was counted before is forgotten.

        Args:
            corpus: Texts, files or directories as `gk.datasets.language_modeling` takes them, or
                the token ids of one document, or a list of such.
            keep_line_ends: Whether the line ends `"\r\n"` and `"\r"` of files stay as they are
                instead of becoming `"\n"`.

        Returns:
            The model itself.

        Raises:
            ValueError: There is no text, it is text and there is no tokenizer, or an id is outside
                the vocabulary.
        """
        found = document_ids(corpus, self.tokenizer, keep_line_ends)
        documents = [self._ended(document.ids) for document in found]
        ids = np.concatenate(documents)
        starts = np.cumsum([0, *map(len, documents)])
        contexts = self._contexts(ids, starts)  # (order - 1, tokens)

        # Down from the root: number the contexts of each length.
        nodes = [np.zeros(len(ids), np.int64)]
        keys = [np.zeros(1, np.int64)]
        for older in contexts:
            unique, node = np.unique(nodes[-1] * self._base + older, return_inverse=True)
            keys.append(unique)
            nodes.append(node)

        # Up again: the tokens after the longest contexts are counted where they occur, those after
        # a shorter one by the different contexts one longer after which they occur.
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
        """Return the natural logarithm of the probability of each token, given those before it.

        Args:
            token_ids: Ids that begin a document; after an end-of-text token another one begins.

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
        """Return the probability of every token of the vocabulary to come next.

        Args:
            token_ids: The ids before it, which begin a document; there may be none.

        Returns:
            `(vocabulary_size,)` float64, which sums to 1.
        """
        ids = self._checked(token_ids)
        # The context of one further token, whichever it is.
        end = np.append(ids, 0)
        contexts = self._contexts(end, np.array([0, len(end)]))[:, -1]
        probabilities = np.full(self.vocabulary_size, 1 / self.vocabulary_size)
        node = 0
        for length, order in enumerate(self._require_orders()):
            if length > 0:
                key = node * self._base + contexts[length - 1]
                node = int(_find(order.contexts, np.array([key]))[0])
            if node < 0:  # nor is any longer context known
                break
            first, last = np.searchsorted(order.grams, [node * self._base, (node + 1) * self._base])
            probabilities *= order.backoffs[node]
            probabilities[order.grams[first:last] % self._base] += order.probabilities[first:last]
        return probabilities

    def perplexity(self, corpus: str | Path | Sequence, keep_line_ends: bool = False) -> float:
        """Return the exponential of the mean negative log-probability of a corpus's tokens.

        `gk.evaluation.perplexity` tells more, and scores the same tokens: all of each document and
        the end-of-text token after it. Without such a token the first one of a document is left
        out, which a `CausalLM` cannot predict.

        Args:
            corpus: As in `fit`.
            keep_line_ends: As in `fit`.

        Raises:
            ValueError: As in `fit`, or no document has a token to score.
        """
        total, count = 0.0, 0
        for document in document_ids(corpus, self.tokenizer, keep_line_ends):
            scored = self.scored_log_probabilities(document.ids)
            total, count = total + scored.sum(), count + len(scored)
        if count == 0:
            raise ValueError("`corpus` must hold a document of at least 2 tokens.")
        return float(np.exp(-total / count))

    def scored_log_probabilities(self, document: np.ndarray) -> np.ndarray:
        """Return the log-probabilities of those tokens of a document that a perplexity is of."""
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
        """Continue one prompt or several, each as the beginning of a document.

        Args:
            prompts: A text, a list of texts, a list of token ids, or a list of such lists.
            max_new_tokens: How many tokens to add at most; the end-of-text token ends a row
                earlier, and is not returned.
            temperature: The probabilities are raised to the power of `1 / temperature`; 0 always
                takes the most likely token.
            seed: Together with the number of a row decides what is drawn there. None takes a new
                seed each time.

        Returns:
            Prompt and continuation, in the form that the prompt had.

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
            # An id that the tokenizer does not have is never drawn. No context is longer than this.
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
        """Write the model to a new folder: its counts, and the tokenizer.

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
        """Read a model from a folder that `save` wrote.

        Raises:
            ValueError: There is no such model, or it is damaged.
        """
        folder = pathlib.Path(directory)
        has_tokenizer = (folder / "tokenizer.json").exists()
        tokenizer = tokenizers.load(folder) if has_tokenizer else None
        try:
            with np.load(folder / _COUNTS) as stored:
                order, vocabulary_size = stored["sizes"].tolist()
                model = cls(order, tokenizer, vocabulary_size)
                model._orders = [
                    _Order(*(stored[f"{field}_{length}"] for field in _Order._fields))
                    for length in range(order)
                ]
        except Exception as error:  # zipfile, zlib and numpy raise many
            raise ValueError(f"{str(folder / _COUNTS)!r} is no n-gram model: {error}") from error
        return model

    @property
    def _base(self) -> int:
        return self.vocabulary_size + 1  # the ids and the mark before a document

    def _ended(self, ids):
        check_token_ids(ids, self.vocabulary_size)
        end = self.end_of_text_id
        return ids if end is None else np.append(ids, end)

    def _contexts(self, ids, starts):
        """The `order - 1` tokens before each token, the nearest first: `(order - 1, tokens)`.

        Before a document stand marks: the end of the one before, or an id that is no token's.
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
    """The discounts of counts of 1, 2, and 3 or more (Chen and Goodman 1999)."""
    one, two, three, four = (float(np.sum(counts == c)) for c in (1, 2, 3, 4))
    if min(one, two, three, four) > 0:
        ratio = one / (one + 2 * two)
        discounts = np.array(
            [1 - 2 * ratio * two / one, 2 - 3 * ratio * three / two, 3 - 4 * ratio * four / three]
        )
        # Something must be taken off, or tokens that never followed would have probability 0.
        if np.all((discounts > 0) & (discounts <= [1, 2, 3])):
            return discounts
    return np.array([0.5, 1.0, 1.5])


def _find(keys, wanted):
    """The place of each wanted key in sorted keys, or -1."""
    place = np.searchsorted(keys, wanted)
    place = np.minimum(place, len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
