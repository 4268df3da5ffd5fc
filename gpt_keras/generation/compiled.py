"""The compiled generation loops of a model, kept from call to call."""

import keras

from gpt_keras.generation.generator import Generator
from gpt_keras.generation.runner import Runner
from gpt_keras.generation.scoring import compiled_log_probabilities
from gpt_keras.generation.stopping import Rules
from gpt_keras.generation.strategies import Sampling
from gpt_keras.generation.text_pieces import token_bytes


class Generators:
    """The generation loops of a `CausalLM`, one for each strategy, around one compiled step.

    Args:
        model: the model.
        jit_compile: whether XLA compiles the step.

    Attributes:
        log_probabilities: compiled function, see `compiled_log_probabilities`.
    """

    def __init__(self, model, jit_compile: bool = True):
        backbone, tokenizer = model.backbone, model.tokenizer
        vocabulary_size = None if tokenizer is None else tokenizer.vocabulary_size
        self._runner = Runner(backbone, vocabulary_size, jit_compile)
        self._rules = Rules(
            model.end_token_ids, None if tokenizer is None else token_bytes(tokenizer)
        )
        self._variables = _identities(backbone)
        self._generators: dict[tuple, Generator] = {}
        self.log_probabilities = compiled_log_probabilities(model, vocabulary_size)

    def fit(self, backbone: keras.Model) -> bool:
        """Whether the backbone still has the variables that the compiled step reads."""
        return self._variables == _identities(backbone)

    def get(
        self, strategy: Sampling, keep_log_probs: bool = False, window: int | None = None
    ) -> Generator:
        """Return the loop for a strategy; the arguments are those of `Generator`.

        Raises:
            ValueError: the backbone lacks a method of the cache protocol.
        """
        backbone = self._runner.backbone
        methods = ("initial_cache", "extend", "write")
        missing = [name for name in methods if not hasattr(backbone, name)]
        if missing:
            raise ValueError(
                f"The backbone {backbone.name!r} cannot generate: it has no method "
                f"{', '.join(missing)}. See CausalLM for the cache protocol."
            )
        key = (strategy, keep_log_probs or strategy.needs_log_probs, window)
        if key not in self._generators:
            self._generators[key] = Generator(self._runner, strategy, self._rules, *key[1:])
        return self._generators[key]


def _identities(backbone):
    # Quantizing a model or giving it LoRA replaces variables.
    return [id(variable) for variable in backbone.variables]


def num_logits(backbone: keras.Model) -> int:
    """Return the number of token ids that a backbone has logits for."""
    token_ids = keras.KerasTensor((None, None), dtype="int32")
    return int(backbone(token_ids).shape[-1])
