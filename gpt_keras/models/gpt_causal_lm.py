"""A causal language model built from a `GPTConfig`."""

import keras

from gpt_keras.config import GPTConfig
from gpt_keras.models.causal_lm import CausalLM
from gpt_keras.models.gpt import GPT


@keras.saving.register_keras_serializable("gpt_keras")
class GPTCausalLM(CausalLM):
    """A `CausalLM` whose backbone is a `GPT`, built from a config.

    Args:
        config: A `GPTConfig`.
        tokenizer: A `gpt_keras.tokenizers` tokenizer, or None if only ids are used.
        dtype: Dtype policy, such as `"mixed_bfloat16"`. Default: Keras's global policy.
        name: Name of the model.
        rematerialize: Whether training uses gradient checkpointing, as in `GPT`.
        **kwargs: Further arguments of `CausalLM`: `chat_template`, `end_token_ids`.

    Raises:
        ValueError: `config` is not a causal `GPTConfig`, or as in `CausalLM`.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=50)
        >>> model = gk.GPTCausalLM(config)
        >>> len(model.generate([1, 2, 3], max_new_tokens=4, temperature=0))
        7
    """

    def __init__(
        self,
        config: GPTConfig,
        tokenizer=None,
        dtype=None,
        name: str = "gpt_causal_lm",
        rematerialize: bool = False,
        **kwargs,
    ):
        if isinstance(config, GPTConfig) and not config.causal:
            raise ValueError("`config` must be causal to predict the next token; use `GPT` alone.")
        backbone = GPT(config, dtype=dtype, rematerialize=rematerialize)
        super().__init__(backbone, tokenizer=tokenizer, name=name, **kwargs)

    @property
    def config(self) -> GPTConfig:
        """Config of the backbone."""
        return self.backbone.config

    @staticmethod
    def _backbone_config(backbone):
        return {"config": backbone.config.to_dict()}

    def get_config(self):
        config = super().get_config()
        backbone = config.pop("backbone")["config"]
        kept = {name: backbone[name] for name in ("config", "dtype", "rematerialize")}
        return {**config, **kept}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["config"] = GPTConfig.from_dict(config["config"])
        return cls._from_arguments(config)
