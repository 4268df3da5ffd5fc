"""Tokenizer, chat template and end tokens of a model, for every format."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_keras import tokenizers
from gpt_keras.layers.quantized_sublayers import is_quantized
from gpt_keras.models import GPT, CausalLM
from gpt_keras.weight_shapes import weight_shapes


def require_plain_gpt(model: CausalLM, whose: str) -> GPT:
    """Return the `GPT` in a `CausalLM`, if there is nothing in it that its config does not say.

    Args:
        model: A `CausalLM`.
        whose: What is to hold the model, for the message.

    Raises:
        ValueError: `model` is something else, or has weights of its own.
    """
    gpt = getattr(model, "backbone", None)
    if not isinstance(gpt, GPT):
        raise ValueError(f"`model` must be a CausalLM with a GPT as its backbone, got {model!r}.")
    if is_quantized(gpt):
        raise ValueError(
            f"`model` is quantized, and {whose} do not have Keras's quantized weights: write it "
            "before you quantize it."
        )
    known = weight_shapes(gpt.config)
    # Such as a GRU gate's or LoRA's.
    others = [v.path for v in gpt.variables if v.path not in known and "seed_gen" not in v.path]
    if others:
        raise ValueError(
            f"`model` has weights that {whose} do not: {others[0]} and {len(others) - 1} more."
        )
    return gpt


def read_tokenizer(path, vocabulary_size: int) -> tokenizers.Tokenizer | None:
    """Return the tokenizer of a file or folder, or warn that the model takes ids only.

    Called before the model is built: what reading takes for a while is then free for the weights.

    Args:
        path: The file or folder.
        vocabulary_size: Number of ids that the model knows.

    Returns:
        The tokenizer, without added tokens beyond the model's ids; or None if it cannot be read.
    """
    try:
        tokenizer = tokenizers.load(path)
        if tokenizer.vocabulary_size > vocabulary_size:
            tokenizer = _with_first_ids(tokenizer, vocabulary_size)
    except (ValueError, ImportError) as error:
        warnings.warn(
            f"The model takes token ids only; its tokenizer cannot be used: {error}", stacklevel=3
        )
        return None
    return tokenizer


def _with_first_ids(tokenizer, vocabulary_size):
    try:
        shorter = tokenizer.with_first_ids(vocabulary_size)
    except ValueError as error:  # the texts need more than those
        raise ValueError(
            f"it has {tokenizer.vocabulary_size} ids, more than the model's {vocabulary_size}."
        ) from error
    gone = [t for t in tokenizer.special_tokens if t not in shorter.special_tokens]
    warnings.warn(
        f"The tokenizer has {tokenizer.vocabulary_size} ids, more than the model's "
        f"{vocabulary_size}: it is used without those from there on"
        + (f", {', '.join(gone[:5])}." if gone else "."),
        stacklevel=4,
    )
    return shorter


def write_tokenizer_files(tokenizer: tokenizers.Tokenizer, folder) -> dict[str, Any] | None:
    """Write a tokenizer's own file to a Hugging Face folder.

    Args:
        tokenizer: The tokenizer.
        folder: Where a `tokenizer.json` goes, or the `tokenizer.model` of a SentencePiece model.

    Returns:
        What transformers' `tokenizer_config.json` is to say; None for a kind of tokenizer that
        transformers cannot read, such as characters.
    """
    config = {"clean_up_tokenization_spaces": False}
    if isinstance(tokenizer, tokenizers.SentencePieceTokenizer):
        tokenizer.save_model(folder / "tokenizer.model")
        if tokenizer.is_byte_pair:
            config["tokenizer_class"] = "LlamaTokenizer"
        config["added_tokens_decoder"] = {
            str(token.token_id): {
                "content": token.text,
                "lstrip": token.lstrip,
                "rstrip": token.rstrip,
                "normalized": False,
                "single_word": False,
                "special": token.is_special,
            }
            for token in tokenizer.added_tokens
        }
    else:
        file = tokenizer.save(folder)
        if "model" not in json.loads(file.read_text(encoding="utf-8")):
            return None
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if tokenizer.start_of_text is not None:
        config["bos_token"] = tokenizer.start_of_text
        config["add_bos_token"] = tokenizer.adds_start_of_text
    if tokenizer.end_of_text is not None:
        config["eos_token"] = tokenizer.end_of_text
    return config


def read_chat_template(model: CausalLM, source: str | None, variables: Mapping[str, str]) -> None:
    """Give a model its chat template, with the tokens that the template names written into it.

    Args:
        model: The model.
        source: The template, or None.
        variables: Texts of tokens by the names that templates have for them, such as `bos_token`.
    """
    # `+%}` leaves the template's own white space as it is.
    values = [
        f"{{%- set {name} = {json.dumps(text, ensure_ascii=False)} +%}}"
        for name, text in variables.items()
        if source and name in source and f"set {name} =" not in source
    ]
    model.chat_template = source and "".join(values) + source


def read_end_token_ids(model: CausalLM, token_ids: int | Sequence[int] | None) -> None:
    """Set the end tokens that a file names; without any, the tokenizer's stay."""
    token_ids = token_ids if isinstance(token_ids, Sequence) else [token_ids]
    # transformers' defaults name GPT-2's id whatever the vocabulary.
    known = [i for i in token_ids if isinstance(i, int) and 0 <= i < model.vocabulary_size]
    if known:
        model.end_token_ids = known
