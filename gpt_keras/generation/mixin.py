"""`generate`, `stream`, `score` and their relatives: the generation side of `CausalLM`."""

import collections
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from gpt_keras.backend import require_tensorflow
from gpt_keras.checks import check_positive_int
from gpt_keras.generation.arguments import Call, read_call, read_prompts, require_tokenizer
from gpt_keras.generation.compiled import Generators
from gpt_keras.generation.generator import NAN_MESSAGE, Generator
from gpt_keras.generation.lengths import bucket_lengths
from gpt_keras.generation.prompt_cache import PromptCache
from gpt_keras.generation.runner import CHUNKS
from gpt_keras.generation.scoring import log_probabilities
from gpt_keras.generation.strategies import Strategy
from gpt_keras.generation.text_pieces import TextPieces, cut_at_stop


class Continuation(NamedTuple):
    """A text that was generated, with its scores.

    Attributes:
        text: Prompt and continuation; token ids where the prompt was given so.
        token_ids: Ids of the continuation.
        log_probs: The model's log-probability, in nats, of each of them: its own, before
            temperature and the other settings.
        score: Mean log-probability of a token, the end of the text included; of `BeamSearch` the
            score that it goes by.
    """

    text: str | list[int]
    token_ids: list[int]
    log_probs: list[float]
    score: float


class GenerationMixin:
    """Generation side of a model with a backbone and perhaps a tokenizer."""

    _generators: Generators | None = None  # made at first use

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        *,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        seed: int | Sequence[int] | None = None,
        stop: str | Sequence[str] = (),
        time_limit: float | None = None,
        strategy: Strategy | None = None,
        callback: Callable[[list[list[int]]], bool] | None = None,
        logits_processors: Sequence[Callable] = (),
        prompt_cache: PromptCache | None = None,
        sliding_window: bool = False,
        cache_length: int | None = None,
        **processors: Any,
    ) -> str | list[str] | list[int] | list[list[int]]:
        """Continue one prompt or a batch of prompts of any lengths.

        A row ends at one of `end_token_ids`, which is not returned, at a stop string, at its limit
        of tokens, or where it fills `max_sequence_length`.

        Args:
            prompts: A text, a row of token ids, or several of either in any container: a list, an
                array, a tensor, a pandas Series, for texts a `tf.data.Dataset`, too.
            max_new_tokens: How many tokens to add at most. Default: 100, if `max_length` is not
                given either.
            max_length: How many tokens prompt and continuation may have together.
            seed: A number, from which row i draws as `gk.generation.fold_in(seed, i)`; or one
                number for each row. The same row seed gives the same text, whatever the batch.
                None takes a new seed each time, from the generator that
                `keras.utils.set_random_seed` sets.
            stop: A text or several; a continuation ends before the first of them, wherever the
                borders of its tokens are. Where prompts are token ids, the tokens with the stop
                string are returned, too.
            time_limit: Seconds after which no more tokens are added.
            strategy: How tokens are chosen: `gk.generation.Sampling()` unless given; or
                `BeamSearch`, `BestOf`, `DraftModel`, `PromptLookup`.
            callback: Called after each step with the new ids of all rows so far; True ends the
                generation.
            logits_processors: Your own functions `(logits, context) -> logits` in TensorFlow ops,
                applied in order after the penalties and bans below and before `temperature`.
                `logits` is `(rows, vocabulary_size)` float32, `context` a
                `gk.generation.Context` with the tokens so far. They become part of the compiled
                loop, which is kept by the identity of the functions: define them once, since each
                new lambda or bound method is compiled anew. A ban that would forbid every token of
                a row is skipped for that row.
            prompt_cache: A `gk.generation.PromptCache`, so that what prompts have in common with
                earlier ones is not run again.
            sliding_window: Whether to go on past `max_sequence_length` tokens. Each token then
                attends to that many at most, itself among them; cached keys and values of deeper
                layers still depend on tokens that have left the window. Not for learned positions,
                which end there.
            cache_length: For how many tokens the cache has room at least. XLA compiles anew when
                prompt and continuation need more; a length given from the start avoids that until
                they pass it. A prompt is run in chunks of 32 or 128 tokens and needs room for
                whole ones.
            **processors: What changes the probabilities of tokens; None is off. All are described
                in `gk.generation.PROCESSORS`:

                - `temperature`: divides the logits; 0 always takes the most likely token (greedy);
                - `top_k`, `top_p`, `min_p`, `typical_p`: draw from the likelier tokens only;
                - `repetition_penalty`, `presence_penalty`, `frequency_penalty`,
                  `no_repeat_ngram_size`: against repetition;
                - `bad_words`, `logit_bias`, `choices`: which tokens and texts may be written;
                - `min_new_tokens`: not to end too early.

        Returns:
            Prompt and continuation, in the form that the prompt had.

        Raises:
            ValueError: An argument is out of its range, a prompt is empty or leaves no room, an id
                is outside the vocabulary, or texts are given without a tokenizer.
            TypeError: There is no setting of that name.
        """
        call = read_call(
            self,
            prompts,
            max_new_tokens=max_new_tokens,
            max_length=max_length,
            seed=seed,
            stop=stop,
            time_limit=time_limit,
            strategy=strategy,
            callback=callback,
            logits_processors=logits_processors,
            prompt_cache=prompt_cache,
            sliding_window=sliding_window,
            cache_length=cache_length,
            **processors,
        )
        found = [continuations[0].text for continuations in self._continuations(call, False)]
        return found[0] if call.prompts.is_single else found

    def generate_with_scores(
        self, prompts, **settings: Any
    ) -> list[Continuation] | list[list[Continuation]]:
        """Continue prompts and return the continuations with their log-probabilities.

        Args:
            prompts: As in `generate`.
            **settings: As in `generate`.

        Returns:
            For each prompt a list of `Continuation`s, the best first: one, or as many as the
            strategy finds (`num_beams`, `num_samples`). For a single prompt that list.

        Raises:
            ValueError: As in `generate`.
            TypeError: As in `generate`.
        """
        call = read_call(self, prompts, **settings)
        found = self._continuations(call, True)
        return found[0] if call.prompts.is_single else found

    def stream(self, prompts, **settings: Any) -> Iterator[str] | Iterator[list[str]]:
        """Continue prompts and yield pieces of text as soon as they are certain.

        The pieces together are what `generate` with the same settings adds to the prompt. A piece
        never ends inside a character: bytes wait for those that complete them, and what may be the
        beginning of a stop string waits until it is known.

        Args:
            prompts: As in `generate`.
            **settings: The settings of `generate`, but for strategies whose texts are known only
                at the end: `BeamSearch`, `BestOf`.

        Yields:
            Pieces of text; for a list of prompts lists with a piece for each, which may be empty.

        Raises:
            ValueError: As in `generate`; at once, not at the first piece.
            TypeError: As in `generate`.
        """
        require_tokenizer(self.tokenizer)
        call = read_call(self, prompts, **settings)
        if not call.strategy.streams:
            raise ValueError(
                f"`strategy` must be one whose tokens are final at once; those of "
                f"{call.strategy} are not."
            )
        return self._pieces(call)

    def score(
        self,
        texts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Return the log-probability of each token of texts.

        Only ids that the tokenizer has are possible, as in generation.

        Args:
            texts: As the prompts of `generate`.
            prompts: For each text what stands before it; its own tokens have no score. By default
                the tokenizer's `id_before_text`: the start of text where it is added to prompts,
                else the end-of-text token. Without either, and for ids that begin with the start
                of text themselves, nothing stands there, and the first token has no score.

        Returns:
            For each text an array of float32, in nats, one for each token that is scored. For a
            single text that array.

        Raises:
            ValueError: A text is empty, is with what stands before it longer than
                `max_sequence_length` and one token, or there are not as many prompts as texts.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
            >>> model = gk.GPTCausalLM(config)
            >>> model.score([1, 2, 3]).shape, model.score([1, 2], prompts=[0]).shape
            ((2,), (2,))
        """
        require_tensorflow("Scoring")
        given = read_prompts(
            texts, self.tokenizer, self.vocabulary_size, "texts", add_start_of_text=False
        )
        before = self._rows_before(given, prompts)
        rows = [first + row for first, row in zip(before, given.rows, strict=True)]
        longest, limit = max(map(len, rows)), self.max_sequence_length
        if limit is not None and longest > limit + 1:  # the last token is not run
            raise ValueError(
                f"`texts` must have at most {limit + 1} tokens with what stands before them, one "
                f"more than the model's max_sequence_length; got {longest}."
            )
        score = self._require_generators().log_probabilities
        scores = [
            scores[max(len(first) - 1, 0) :]
            for first, scores in zip(before, log_probabilities(score, rows), strict=True)
        ]
        return scores[0] if given.is_single else scores

    def _rows_before(self, given, prompts):
        if prompts is None:
            tokenizer = self.tokenizer
            if tokenizer is None or tokenizer.id_before_text is None:
                return [[]] * len(given.rows)
            # Ids may begin with the start of text already.
            begins = [tuple(row[:1]) == tokenizer.prompt_start for row in given.rows]
            return [[] if begun else [tokenizer.id_before_text] for begun in begins]
        before = read_prompts(prompts, self.tokenizer, self.vocabulary_size)
        if len(before.rows) != len(given.rows):
            raise ValueError(
                f"`prompts` must be as many as `texts`, got {len(before.rows)} and "
                f"{len(given.rows)}."
            )
        return before.rows

    def cache_prompt(self, prompt: str | Sequence[int]) -> PromptCache:
        """Run a prompt once, for later prompts that begin with it.

        Args:
            prompt: A text, or its token ids.

        Returns:
            A `PromptCache` for the `prompt_cache` of `generate` and `stream`.

        Raises:
            ValueError: The prompt is empty, or fills `max_sequence_length`.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("tiny").replace(vocabulary_size=9)
            >>> model = gk.GPTCausalLM(config)
            >>> cache = model.cache_prompt([1, 2, 3])
            >>> rows = model.generate([[1, 2, 3, 4], [1, 2, 3, 5, 6]], prompt_cache=cache)
        """
        cache = PromptCache()
        call = read_call(self, prompt, max_new_tokens=1, temperature=0, prompt_cache=cache)
        if not call.prompts.is_single:
            raise ValueError(f"`prompt` must be one text or its token ids, got {prompt!r}.")
        self._run(call, keep_log_probs=False)
        return cache

    def warm_up(self, batch_size: int = 1, length: int = 128, **settings: Any) -> None:
        """Compile in advance what `generate` and `stream` will need.

        XLA compiles once for each batch size and each length of the cache, which is rounded up to
        32, 48, 64, 96, 128, 192, ... tokens, and where prompts have more than one token once more
        for each size of the pieces in which they are run: one size from 4 prompts on, else two.

        Args:
            batch_size: Number of prompts.
            length: Most tokens of a prompt and its continuation together.
            **settings: Settings of `generate` that change the program: `strategy`,
                `sliding_window`; and `cache_length`, below which nothing is compiled.

        Raises:
            ValueError: As in `generate`.
        """
        check_positive_int("batch_size", batch_size)
        check_positive_int("length", length)
        if not settings.get("sliding_window"):
            length = min(length, self.max_sequence_length or length)
        least = settings.pop("cache_length", None) or 1
        # Prompts of which nothing is run before the last token, and those for each size of chunk.
        short, long = CHUNKS
        prompts_of_chunks = [(1, 1, 1), (short, 2, short + 1), (long, short + 2, length - 1)]
        if batch_size * short >= long:
            prompts_of_chunks[1:] = [(short, 2, length - 1)]
        for chunk, shortest, longest in prompts_of_chunks:
            if shortest >= length:
                return
            prompts = [[0] * shortest] * batch_size
            call = read_call(self, prompts, max_new_tokens=1, cache_length=least, **settings)
            filled = -(-(longest - 1) // chunk) * chunk
            # In a batch the shortest prompt may have the longest continuation.
            steps = length - 1 if batch_size > 1 else min(length - 1, length + chunk - 2 - filled)
            longest_cache = int(self._generator(call).cache_length(filled + 1, steps, least))
            for cache_length in bucket_lengths(longest_cache):
                if cache_length >= least:
                    request = call.request._replace(cache_length=tf.constant(cache_length))
                    self._run(call._replace(request=request), keep_log_probs=False)

    # What they have in common

    def _run(self, call: Call, keep_log_probs: bool):
        generator = self._generator(call, keep_log_probs)
        if call.callback is None:
            prefix = _prefix(call)
            with _plain_errors():
                if prefix is None:
                    state = generator.run(call.request, call.settings)
                else:
                    state = generator.run_from(call.request, call.settings, prefix)
        else:
            # The last of them; the others go at once, as each holds a cache.
            state = collections.deque(_steps(generator, call), maxlen=1).pop()
        self._remember(call, state)
        return generator.finish(state)

    def _remember(self, call: Call, state) -> None:
        if call.prompt_cache is not None and state.lengths.shape[0] == 1:
            call.prompt_cache.update(state, self.backbone)

    def _continuations(self, call: Call, keep_log_probs: bool) -> list[list[Continuation]]:
        sequences = self._run(call, keep_log_probs)
        token_ids, lengths, log_probs, scores = (part.numpy() for part in sequences)
        found = []
        for i, prompt in enumerate(call.prompts.rows):
            found.append([])
            for j in range(token_ids.shape[1]):
                if j > 0 and scores[i, j] == -float("inf"):
                    break  # there is none, as when there are fewer choices than beams
                row = token_ids[i, j, : lengths[i, j]].tolist()
                text = row
                if call.prompts.is_text:
                    added = call.prompts.num_added
                    start = len(self.tokenizer.decode(prompt[added:])) if call.stop else 0
                    text = cut_at_stop(self.tokenizer.decode(row[added:]), start, call.stop)
                new = slice(len(prompt), lengths[i, j])
                found[i].append(
                    Continuation(text, row[new], log_probs[i, j, new].tolist(), float(scores[i, j]))
                )
        return found

    def _pieces(self, call: Call):
        rows = [TextPieces(self.tokenizer, row, call.stop) for row in call.prompts.rows]
        taken = [0] * len(rows)
        steps = _steps(self._generator(call), call)
        state = next(steps)
        try:
            for state in steps:
                finished = state.finished.numpy().tolist()
                pieces = []
                for i, token_ids in enumerate(_new_token_ids(state)):
                    pieces.append(rows[i].take(token_ids[taken[i] :], finished[i]))
                    taken[i] = len(token_ids)
                if any(pieces):
                    yield pieces[0] if call.prompts.is_single else pieces
        finally:
            self._remember(call, state)

    def _generator(self, call: Call, keep_log_probs: bool = False) -> Generator:
        require_tensorflow("Generation")
        return self._require_generators().get(
            call.strategy, keep_log_probs, call.window, call.logits_processors
        )

    def _require_generators(self) -> Generators:
        if self._generators is None or not self._generators.is_current(self.backbone):
            self._generators = Generators(self)
        return self._generators


@contextlib.contextmanager
def _plain_errors():
    """Raise what a graph found wrong with the model without the trace of the graph."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if NAN_MESSAGE in str(error):
            raise ValueError(NAN_MESSAGE) from None
        raise


def _prefix(call):
    return None if call.prompt_cache is None else call.prompt_cache.prefix(call.prompts.rows)


def _steps(generator, call):
    """Yield the states of a generation: the first, and one after each step."""
    prefix = _prefix(call)
    if prefix is None:
        state = generator.start(call.request)
    else:
        state = generator.start_from(call.request, prefix)
    yield state
    while not bool(tf.reduce_all(state.finished)):
        with _plain_errors():
            state = generator.advance(state, 1, call.settings)
        if call.callback is not None and call.callback(_new_token_ids(state)):
            state = state._replace(finished=tf.ones_like(state.finished))
        yield state


def _new_token_ids(state) -> list[list[int]]:
    """The ids of each row after its prompt, without the one that ended it."""
    first = int(state.first)
    ends = (state.starts + state.lengths).numpy()
    token_ids = state.token_ids.numpy()
    return [row[first:end].tolist() for row, end in zip(token_ids, ends, strict=True)]
