"""Cache of the compiled generation loops of a model."""

import functools
import warnings
from collections.abc import Callable, Sequence

import keras

from gpt_keras.generation.backbone import CACHE_METHODS, missing
from gpt_keras.generation.continuation_passes import make_passes
from gpt_keras.generation.generator import Generator
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.scoring import compiled_log_probabilities
from gpt_keras.generation.stopping import Rules
from gpt_keras.generation.strategies import Strategy
from gpt_keras.generation.text_pieces import token_bytes
from gpt_keras.generation.whole_passes import WholePasses


class Generators:
    """Generation loops of a `CausalLM`: one per strategy, around one compiled step.

    Attributes:
        log_probabilities: Compiled function; see `compiled_log_probabilities`.

    Args:
        model: A `CausalLM`.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(self, model, jit_compile: bool = True):
        backbone, tokenizer = model.backbone, model.tokenizer
        vocabulary_size = None if tokenizer is None else tokenizer.vocabulary_size
        self._make_runner = lambda: Runner(_with_cache(backbone), vocabulary_size, jit_compile)
        self._make_passes = lambda: make_passes(backbone, vocabulary_size)
        self._end_token_ids = model.end_token_ids
        self._token_bytes = None if tokenizer is None else token_bytes(tokenizer)
        self._variables = _identities(backbone)
        self._generators: dict[tuple, Generator] = {}
        self.log_probabilities = compiled_log_probabilities(model, vocabulary_size)

    @functools.cached_property
    def _runner(self):
        return self._make_runner()  # at first use: `score` needs neither a KV cache nor the warning

    @functools.cached_property
    def continuation_passes(self):
        """Compiled passes that score continuations; see `make_passes`."""
        return self._make_passes()

    def is_current(self, backbone: keras.Model) -> bool:
        """Return whether the compiled step uses the backbone's present variables."""
        return self._variables == _identities(backbone)

    def get(
        self,
        strategy: Strategy,
        keep_log_probs: bool = False,
        window: int | None = None,
        logits_processors: Sequence[Callable] = (),
    ) -> Generator:
        """Return the generation loop for these arguments; each is compiled once.

        Args:
            strategy: The decoding strategy.
            keep_log_probs: Whether the log-probabilities of the tokens are kept.
            window: Number of tokens that a token attends to at most; None for all.
            logits_processors: The user's own logits processors.
        """
        keep_log_probs = keep_log_probs or strategy.needs_log_probs
        # Functions are compared by identity. The loop holds references to them, so Python cannot
        # give the id of one of them to another function.
        key = (strategy, keep_log_probs, window, *map(id, logits_processors))
        if key not in self._generators:
            rules = Rules(self._end_token_ids, self._token_bytes, logits_processors)
            self._generators[key] = Generator(self._runner, strategy, rules, keep_log_probs, window)
        return self._generators[key]


def _with_cache(backbone):
    lacking = missing(backbone, *CACHE_METHODS)
    if not lacking:
        return backbone
    warnings.warn(
        f"{backbone.name!r} has no KV cache (it lacks {', '.join(f'`{m}`' for m in lacking)}), so "
        "each new token runs the whole sequence again, which is slower. Inherit from gk.Backbone "
        "to give it one.",
        stacklevel=2,
    )
    return WholePasses(backbone)


def _identities(backbone):
    # `quantize` and `enable_lora` replace variables, so the compiled step would read old ones.
    return [id(variable) for variable in backbone.variables]
