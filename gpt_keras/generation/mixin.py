"""Generation methods of `CausalLM`: `generate`, `stream`, `score` and others."""

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
    """Generated text with the log-probabilities of its tokens.

    Attributes:
        text: Prompt and continuation; token ids if the prompt was given as token ids.
        token_ids: Token ids of the continuation, without the end token.
        log_probs: The log-probability of each of `token_ids`, in nats. It is computed from the
            model's logits, before temperature and the other settings change them.
        score: Mean log-probability per token, the end token included. With `BeamSearch`, the score
            that ranks the beams.

    Example:
        >>> import gpt_keras as gk
        >>> found = gk.generation.Continuation("abc", token_ids=[2], log_probs=[-0.5], score=-0.5)
        >>> found.text, found.score
        ('abc', -0.5)
    """

    text: str | list[int]
    token_ids: list[int]
    log_probs: list[float]
    score: float


class GenerationMixin:
    """Generation methods of a model with a backbone and, for texts, a tokenizer."""

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
        """Continue one prompt, or a batch of prompts of different lengths.

        A continuation ends before one of `end_token_ids`, at a stop string, at its limit of tokens,
        or at `max_sequence_length`.

        Args:
            prompts: A text, a row of token ids, or several texts or rows in any container, such as
                a list, an array, a tensor or a pandas Series. Several texts may also be a
                `tf.data.Dataset`.
            max_new_tokens: Largest number of new tokens. Default: 100 if `max_length` is not given.
            max_length: Largest number of tokens of prompt and continuation together.
            seed: One integer for the batch, or one for each prompt. An integer `seed` for the batch
                gives row i the seed `gk.generation.fold_in(seed, i)`. The text of a row depends on
                its own seed, not on the rest of the batch. None: a new seed for each call, which
                `keras.utils.set_random_seed` makes reproducible.
            stop: One or several stop strings. A continuation ends before the first stop string,
                even if the string begins or ends inside a token. For prompts of token ids, the
                tokens that contain the stop string are part of the result.
            time_limit: Seconds after which generation stops.
            strategy: Decoding strategy. Default: `gk.generation.Sampling()`. The others are
                `BeamSearch`, `BestOf`, `DraftModel` and `PromptLookup`.
            callback: A function that runs after each step. Its argument is a list with the new
                token ids of each row so far. If it returns True, generation stops.
            logits_processors: Your own functions `(logits, context) -> logits` in TensorFlow ops.
                They run in order, after the penalties and bans below and before `temperature`.
                `logits` is `(rows, vocabulary_size)` float32; `context` is a
                `gk.generation.Context` with the tokens so far. The functions become part of the
                compiled loop, which is cached by their identity. Define them once: each new lambda
                or bound method is compiled again. A ban that would forbid every token of a row is
                skipped for that row.
            prompt_cache: A `gk.generation.PromptCache`. A prefix that the prompts share with an
                earlier text is then not run again.
            sliding_window: Whether to continue beyond `max_sequence_length` tokens. Each token then
                attends to at most `max_sequence_length` tokens, itself included. Cached keys and
                values of deeper layers still depend on tokens that have left the window. Must be
                False for models with learned positions.
            cache_length: Smallest length of the KV cache, in tokens. XLA compiles again whenever
                prompt and continuation need a longer cache; a sufficient `cache_length` avoids
                this. A prompt is run in chunks of 32 or 128 tokens and takes whole chunks of the
                cache.
            **processors: Settings that change the probabilities of tokens; None is off.
                `gk.generation.PROCESSORS` describes all of them:

                - `temperature`: divides the logits; 0 is greedy decoding;
                - `top_k`, `top_p`, `min_p`, `typical_p`: restrict sampling to likely tokens;
                - `repetition_penalty`, `presence_penalty`, `frequency_penalty`,
                  `no_repeat_ngram_size`: reduce repetition;
                - `bad_words`, `logit_bias`, `choices`: ban, favor or prescribe tokens and texts;
                - `min_new_tokens`: sets a smallest number of new tokens.

        Returns:
            Prompt and continuation as one text, or as one list of token ids if the prompt was given
            as ids. A list of them for several prompts.

        Raises:
            ValueError: An argument is out of its range, a prompt is empty or leaves no room for new
                tokens, an id is outside the vocabulary, or texts are given without a tokenizer.
            TypeError: There is no setting of that name.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
            >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
            >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
            >>> len(model.generate("abc", max_new_tokens=5, seed=0))
            8
            >>> model.generate(["a", "b c"], choices=["cab"])
            ['acab', 'b ccab']
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
            **settings: The other arguments of `generate`.

        Returns:
            For each prompt a list of `Continuation`s, the best first. The list holds as many as the
            strategy finds: `num_beams`, `num_samples`, or one. For a single prompt, only its list.

        Raises:
            ValueError: As in `generate`.
            TypeError: As in `generate`.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
            >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
            >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
            >>> [found] = model.generate_with_scores("ab", choices=["ca"])
            >>> found.text, found.token_ids, len(found.log_probs)
            ('abca', [2, 0], 2)
        """
        call = read_call(self, prompts, **settings)
        found = self._continuations(call, True)
        return found[0] if call.prompts.is_single else found

    def stream(self, prompts, **settings: Any) -> Iterator[str] | Iterator[list[str]]:
        """Continue prompts and yield the new text in pieces, as soon as each is final.

        The concatenated pieces are the text that `generate` adds to the prompt with the same
        settings. A piece never ends inside a character: an incomplete byte sequence is held back
        until its last byte is generated. A possible beginning of a stop string is held back too.

        Args:
            prompts: As in `generate`.
            **settings: The other arguments of `generate`. `strategy` must not be `BeamSearch` or
                `BestOf`, because their tokens are final only at the end.

        Yields:
            A piece of text. For a list of prompts, a list with one piece for each prompt; some of
            them may be empty.

        Raises:
            ValueError: As in `generate`, or the model has no tokenizer. Raised by the call of
                `stream`, not at the first piece.
            TypeError: As in `generate`.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
            >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
            >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
            >>> list(model.stream("ab", choices=["ca"]))
            ['c', 'a']
        """
        require_tokenizer(self.tokenizer)
        call = read_call(self, prompts, **settings)
        if not call.strategy.streams:
            raise ValueError(
                f"`strategy` must be one whose tokens are final at once, got {call.strategy}; "
                "use `generate`."
            )
        return self._pieces(call)

    def score(
        self,
        texts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
        prompts: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Return the log-probability of each token of texts, given the tokens before it.

        As in generation, ids beyond the tokenizer's vocabulary have probability 0.

        Args:
            texts: Texts or token ids, in the forms that the prompts of `generate` may have.
            prompts: For each text the context before it, whose tokens are not scored. Default: the
                tokenizer's `id_before_text`, which is the start-of-text token if the tokenizer adds
                one to prompts, else the end-of-text token. Without either, the first token of a
                text has no context and no score. The same is true for ids that already begin with
                the start-of-text token.

        Returns:
            For each text a float32 array with the log-probability of each scored token, in nats.
            For a single text, only its array.

        Raises:
            ValueError: A text is empty, a text with its prompt has more than
                `max_sequence_length + 1` tokens, or `texts` and `prompts` differ in number.

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
        if limit is not None and longest > limit + 1:  # the last token is only a target
            raise ValueError(
                f"`texts` must have at most {limit + 1} tokens together with their prompts, one "
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
            # Token ids may already begin with the start-of-text token; it is not added twice.
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
        """Run a prompt once and return its KV cache, for prompts that begin with it.

        Args:
            prompt: A text, or its token ids.

        Returns:
            A `PromptCache`, for the argument `prompt_cache` of `generate` and `stream`.

        Raises:
            ValueError: The prompt is empty, is not a single prompt, or leaves no room for a new
                token below `max_sequence_length`.

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
        """Compile in advance the functions that `generate` and `stream` will run.

        XLA compiles once for each batch size and each length of the cache. The length of the cache
        is rounded up to 32, 48, 64, 96, 128, 192, ... tokens. Prompts of more than one token are
        run in chunks, and XLA compiles once more for each size of the chunks: one size from 4
        prompts on, else two.

        Args:
            batch_size: Number of prompts.
            length: Largest number of tokens of a prompt and its continuation together.
            **settings: Settings of `generate` that change the compiled program: `strategy`,
                `sliding_window` and `cache_length`. Shorter caches than `cache_length` are not
                compiled.

        Raises:
            ValueError: As in `generate`.

        Example:
            >>> import gpt_keras as gk
            >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
            >>> model = gk.GPTCausalLM(config)
            >>> model.warm_up(length=2)  # a server passes its longest sequence
        """
        check_positive_int("batch_size", batch_size)
        check_positive_int("length", length)
        if not settings.get("sliding_window"):
            length = min(length, self.max_sequence_length or length)
        least = settings.pop("cache_length", None) or 1
        # (chunk, shortest prompt, longest prompt): prompts of one token need no chunk, because the
        # loop runs the last token of a prompt. The other entries cover each size of the chunks.
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
            # In a batch, a short prompt may have a long continuation beside a long prompt.
            steps = length - 1 if batch_size > 1 else min(length - 1, length + chunk - 2 - filled)
            longest_cache = int(self._generator(call).cache_length(filled + 1, steps, least))
            for cache_length in bucket_lengths(longest_cache):
                if cache_length >= least:
                    request = call.request._replace(cache_length=tf.constant(cache_length))
                    self._run(call._replace(request=request), keep_log_probs=False)

    # Shared by these methods

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
            # `maxlen=1` keeps only the last state, because each state holds a whole cache.
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
                    break  # fewer continuations than beams, for example with few `choices`
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
    """Raise a plain `ValueError` for NaN logits, without the trace of the graph."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if NAN_MESSAGE in str(error):
            raise ValueError(NAN_MESSAGE) from None
        raise


def _prefix(call):
    return None if call.prompt_cache is None else call.prompt_cache.prefix(call.prompts.rows)


def _steps(generator, call):
    """Yield the state before the first step, and the state after each step."""
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
    """Return the new token ids of each row, without the end token."""
    first = int(state.first)
    ends = (state.starts + state.lengths).numpy()
    token_ids = state.token_ids.numpy()
    return [row[first:end].tolist() for row, end in zip(token_ids, ends, strict=True)]
