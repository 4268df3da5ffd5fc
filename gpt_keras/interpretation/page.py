"""HTML page that shows how a model processes one text."""

import base64
import importlib.resources
import json
from collections.abc import Callable

import numpy as np

from gpt_keras.interpretation.activations import logit_lens
from gpt_keras.interpretation.attention import attention_weights
from gpt_keras.interpretation.attribution import (
    gradient_times_input,
    integrated_gradients,
    occlusion,
)
from gpt_keras.tokenizers.visible import visible

_MAX_TOKENS = 128
_BEST = 5


def explanation_page(model, text: str, name: str = "a GPT") -> str:
    """Return an HTML page with attention, logit lens and attribution of a text.

    The page contains all its data and works offline.

    Args:
        model: A causal `CausalLM` with a tokenizer.
        text: Text of 1 to 128 tokens, and at most the model's `max_sequence_length`.
        name: Name of the model, for the page's heading.

    Returns:
        HTML source of the page. Write it to a .html file as UTF-8.

    Raises:
        ValueError: The model has no tokenizer, or the text is empty or too long.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> page = gk.interpretation.explanation_page(model, "abc")
        >>> page.startswith("<!DOCTYPE html>")
        True
    """
    if model.tokenizer is None:
        raise ValueError("`model` must have a tokenizer, but has none.")
    ids = np.array(model.tokenizer.encode(text, add_start_of_text=True), dtype=np.int32)
    longest = min(_MAX_TOKENS, model.max_sequence_length or _MAX_TOKENS)
    if not 0 < len(ids) <= longest:
        raise ValueError(f"`text` must have from 1 to {longest} tokens, got {len(ids)}.")
    weights = attention_weights(model, ids[None])[:, 0]
    logits = logit_lens(model, ids[None])[:, 0].astype(float)
    logits[..., model.tokenizer.vocabulary_size :] = -np.inf  # ids that the tokenizer lacks
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    target = int(log_probabilities[-1, -1].argmax())
    losses = -log_probabilities[-1, np.arange(len(ids) - 1), ids[1:]]

    def texts(token_ids):
        return [visible(piece) for piece in model.tokenizer.pieces(list(map(int, token_ids)))]

    def likeliest(row):
        best = np.argsort(-row, kind="stable")[:_BEST]
        return list(zip(texts(best), np.exp(row[best]).round(4).tolist(), strict=True))

    data = {
        "model": name,
        "tokens": texts(ids),
        "layers": weights.shape[0],
        "heads": weights.shape[1],
        "attention": base64.b64encode((weights * 255).round().astype(np.uint8)).decode("ascii"),
        "losses": losses.round(4).tolist(),
        "lens": [[likeliest(row) for row in rows] for rows in log_probabilities],
        "target": texts([target])[0],
        "attribution": {
            label: method(model, ids, target).round(5).tolist()
            for label, method in _methods(model).items()
        },
    }
    template = importlib.resources.files("gpt_keras.interpretation").joinpath("page.html")
    # A "</script>" in the data would end the script element, even inside a JSON string.
    written = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return template.read_text(encoding="utf-8").replace("@DATA@", written)


def _methods(model) -> dict[str, Callable]:
    methods = {"gradient times input": gradient_times_input}
    # The other methods need the end-of-text token as their baseline.
    if model.tokenizer.end_of_text_id is not None:
        methods = {
            "integrated gradients": integrated_gradients,
            "occlusion": occlusion,
            **methods,
        }
    return methods
