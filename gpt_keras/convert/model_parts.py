"""Tokenizer, chat template and end tokens, shared by all formats."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_keras import tokenizers
from gpt_keras.layers.quantized_sublayers import is_quantized
from gpt_keras.models import GPT, CausalLM
from gpt_keras.weight_shapes import weight_shapes


def require_plain_gpt(model: CausalLM, whose: str) -> GPT:
    """Return the `GPT` of a `CausalLM`, if its config describes all its weights.

    Args:
        model: A `CausalLM`.
        whose: Target of the conversion for the message, such as `"GGUF's architectures"`.

    Raises:
        ValueError: `model` has no `GPT` as its backbone, is quantized, or has additional weights,
            such as LoRA's.
    """
    gpt = getattr(model, "backbone", None)
    if not isinstance(gpt, GPT):
        raise ValueError(f"`model` must be a CausalLM with a GPT as its backbone, got {model!r}.")
    if is_quantized(gpt):
        raise ValueError(
            f"`model` is quantized, and {whose} have no such weights: convert it before you "
            "quantize it."
        )
    known = weight_shapes(gpt.config)
    # Additional weights, such as those a GRU gate or LoRA adds.
    others = [v.path for v in gpt.variables if v.path not in known and "seed_gen" not in v.path]
    if others:
        raise ValueError(
            f"`model` has weights that {whose} lack: {others[0]} and {len(others) - 1} more."
        )
    return gpt


def read_tokenizer(path, vocabulary_size: int) -> tokenizers.Tokenizer | None:
    """Return the tokenizer of a file or folder, or None with a warning.

    Call it before you build the model. Reading a tokenizer needs memory for a short time, which
    the weights can use afterwards.

    Args:
        path: The file or folder.
        vocabulary_size: Number of token ids of the model.

    Returns:
        The tokenizer, without added tokens beyond the model's vocabulary. None if it cannot be
        read, or if the model has too few ids for it.
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
    except ValueError as error:  # the dropped ids are not all added tokens
        raise ValueError(
            f"it has {tokenizer.vocabulary_size} ids, more than the model's {vocabulary_size}."
        ) from error
    gone = [t for t in tokenizer.special_tokens if t not in shorter.special_tokens]
    warnings.warn(
        f"The tokenizer has {tokenizer.vocabulary_size} ids, more than the model's "
        f"{vocabulary_size}: ids from {vocabulary_size} on are dropped"
        + (f", among them {', '.join(gone[:5])}." if gone else "."),
        stacklevel=4,
    )
    return shorter


def write_tokenizer_files(tokenizer: tokenizers.Tokenizer, folder) -> dict[str, Any] | None:
    """Write `tokenizer.json`, or `tokenizer.model` for SentencePiece, to a folder.

    Args:
        tokenizer: The tokenizer.
        folder: An existing folder.

    Returns:
        The content of transformers' `tokenizer_config.json`. None if transformers cannot read this
        kind of tokenizer, such as a `CharacterTokenizer`.
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
    """Set the chat template of a model, and define the token variables in it.

    Args:
        model: The model.
        source: The template in Jinja, or None.
        variables: Texts of special tokens by their variable in templates, such as `bos_token`. A
            variable that the template uses is set at its beginning.
    """
    # `+%}` preserves the white space after the tag, which belongs to the template.
    values = [
        f"{{%- set {name} = {json.dumps(text, ensure_ascii=False)} +%}}"
        for name, text in variables.items()
        if source and name in source and f"set {name} =" not in source
    ]
    model.chat_template = source and "".join(values) + source


def read_end_token_ids(model: CausalLM, token_ids: int | Sequence[int] | None) -> None:
    """Set the end tokens of a model, or keep the tokenizer's if a file names none.

    Args:
        model: The model.
        token_ids: One id, several, or None. Ids outside the vocabulary are ignored.
    """
    token_ids = token_ids if isinstance(token_ids, Sequence) else [token_ids]
    # transformers' default is GPT-2's id, 50256, even for a smaller vocabulary.
    known = [i for i in token_ids if isinstance(i, int) and 0 <= i < model.vocabulary_size]
    if known:
        model.end_token_ids = known
