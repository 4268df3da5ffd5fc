"""What every format needs of a model beside its weights: its kind, its tokenizer."""

import warnings

from gpt_keras import tokenizers
from gpt_keras.convert.name_map import weight_shapes
from gpt_keras.models import GPT, CausalLM


def require_plain_gpt(model: CausalLM, whose: str) -> GPT:
    """Return the `GPT` in a `CausalLM`, if there is nothing in it that its config does not say.

    Args:
        model: a `CausalLM`.
        whose: what is to hold the model, for the message.

    Raises:
        ValueError: `model` is something else, or has weights of its own.
    """
    gpt = getattr(model, "backbone", None)
    if not isinstance(gpt, GPT):
        raise ValueError(f"`model` must be a CausalLM with a GPT as its backbone, got {model!r}.")
    known = weight_shapes(gpt.config)
    # Such as a GRU gate's, LoRA's, or a quantized layer's scales.
    others = [v.path for v in gpt.variables if v.path not in known and "seed_gen" not in v.path]
    if others:
        raise ValueError(
            f"`model` has weights that {whose} do not: {others[0]} and {len(others) - 1} more."
        )
    return gpt


def read_tokenizer(model: CausalLM, path) -> None:
    """Give a model the tokenizer of a file or folder, or warn that it takes ids only."""
    try:
        model.tokenizer = tokenizers.load(path)
    except (ValueError, ImportError) as error:
        warnings.warn(
            f"The model takes token ids only; its tokenizer cannot be used: {error}", stacklevel=3
        )
