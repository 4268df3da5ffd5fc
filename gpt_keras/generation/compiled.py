"""The compiled generation loops of a model, kept from call to call."""

import functools
import warnings
from collections.abc import Callable, Sequence

import keras

from gpt_keras.generation.backbone import CACHE_METHODS, missing
from gpt_keras.generation.generator import Generator
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.scoring import compiled_log_probabilities
from gpt_keras.generation.stopping import Rules
from gpt_keras.generation.strategies import Strategy
from gpt_keras.generation.text_pieces import token_bytes
from gpt_keras.generation.whole_passes import WholePasses


class Generators:
    """The generation loops of a `CausalLM`, one for each strategy, around one compiled step.

    Args:
        model: The model.
        jit_compile: Whether XLA compiles the step.

    Attributes:
        log_probabilities: Compiled function, see `compiled_log_probabilities`.
    """

    def __init__(self, model, jit_compile: bool = True):
        backbone, tokenizer = model.backbone, model.tokenizer
        vocabulary_size = None if tokenizer is None else tokenizer.vocabulary_size
        self._make_runner = lambda: Runner(_with_cache(backbone), vocabulary_size, jit_compile)
        self._end_token_ids = model.end_token_ids
        self._token_bytes = None if tokenizer is None else token_bytes(tokenizer)
        self._variables = _identities(backbone)
        self._generators: dict[tuple, Generator] = {}
        self.log_probabilities = compiled_log_probabilities(model, vocabulary_size)

    @functools.cached_property
    def _runner(self):
        return self._make_runner()  # at first use: a model that only scores needs no cache

    def is_current(self, backbone: keras.Model) -> bool:
        """Return whether the backbone still has the variables that the compiled step reads."""
        return self._variables == _identities(backbone)

    def get(
        self,
        strategy: Strategy,
        keep_log_probs: bool = False,
        window: int | None = None,
        logits_processors: Sequence[Callable] = (),
    ) -> Generator:
        """Return the loop for a strategy and a user's logits processors, compiled once.

        The other arguments are those of `Generator`.
        """
        keep_log_probs = keep_log_probs or strategy.needs_log_probs
        # Functions are compared by identity; the loop keeps them, so that no id is used twice.
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
    # Quantizing a model or giving it LoRA replaces variables.
    return [id(variable) for variable in backbone.variables]
