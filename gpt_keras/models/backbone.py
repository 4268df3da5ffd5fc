"""What a `CausalLM` asks of its backbone."""

import keras

from gpt_keras.generation import Generator


def make_generator(model, jit_compile: bool = True) -> Generator:
    """Return the generation loop for a `CausalLM`.

    Raises:
        ValueError: the backbone lacks a method of the cache protocol.
    """
    missing = [
        name for name in ("initial_cache", "extend", "write") if not hasattr(model.backbone, name)
    ]
    if missing:
        raise ValueError(
            f"The backbone {model.backbone.name!r} cannot generate: it has no method "
            f"{', '.join(missing)}. See CausalLM for the cache protocol."
        )
    return Generator(
        model.backbone,
        end_token_ids=model.end_token_ids,
        vocabulary_size=None if model.tokenizer is None else model.tokenizer.vocabulary_size,
        jit_compile=jit_compile,
    )


def num_logits(backbone: keras.Model) -> int:
    """Return the number of token ids that a backbone has logits for."""
    token_ids = keras.KerasTensor((None, None), dtype="int32")
    return int(backbone(token_ids).shape[-1])
