"""Paths and shapes of the weights of a `GPT`, from its config alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt_keras.config import GPTConfig

Shape = tuple[int, ...]


def weight_shapes(config: GPTConfig) -> dict[str, Shape]:
    """Return path and shape of every weight of a `GPT`, without building it.

    `GPTConfig` counts its parameters with this table, and the converters match the tensors of
    other libraries with it.

    Args:
        config: Config of the model.

    Returns:
        Dict from `variable.path` to shape, in the order of the layers.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.weight_shapes import weight_shapes
        >>> shapes = weight_shapes(gk.presets.get("gpt2_small"))
        >>> shapes["block_11/attention/query/kernel"]
        (768, 768)
    """
    shapes = _token_embedding(config)
    if config.position_embedding == "learned":
        shapes["position_embedding/embeddings"] = (config.max_sequence_length, config.hidden_dim)
    for i in range(config.num_layers):
        shapes |= _below(f"block_{i}", _block(config))
    if config.norm_position == "pre":
        shapes |= _below("final_norm", _norm(config))
    return shapes


def _token_embedding(config: GPTConfig) -> dict[str, Shape]:
    vocabulary_size, hidden_dim = config.vocabulary_size, config.hidden_dim
    shapes: dict[str, Shape] = {"token_embedding/embeddings": (vocabulary_size, hidden_dim)}
    if not config.tie_embeddings:
        shapes["token_embedding/reverse_embeddings"] = (hidden_dim, vocabulary_size)
    return shapes


def _block(config: GPTConfig) -> dict[str, Shape]:
    feed_forward = _feed_forward(config) if config.num_experts is None else _experts(config)
    shapes = _below("attention_norm", _norm(config))
    shapes |= _below("attention", _attention(config))
    shapes |= _below("feed_forward_norm", _norm(config))
    return shapes | _below("feed_forward", feed_forward)


def _attention(config: GPTConfig) -> dict[str, Shape]:
    hidden_dim, head_dim = config.hidden_dim, config.head_dim
    query_dim, key_dim = config.num_heads * head_dim, config.num_key_value_heads * head_dim
    shapes = _projection("query", hidden_dim, query_dim, config.use_qkv_bias)
    shapes |= _projection("key", hidden_dim, key_dim, config.use_qkv_bias)
    shapes |= _projection("value", hidden_dim, key_dim, config.use_qkv_bias)
    if config.use_qk_norm:
        shapes |= {"query_norm/scale": (head_dim,), "key_norm/scale": (head_dim,)}
    return shapes | _projection("output", query_dim, hidden_dim, config.use_bias)


def _feed_forward(config: GPTConfig) -> dict[str, Shape]:
    hidden_dim, inner_dim = config.hidden_dim, config.intermediate_dim
    use_bias = config.use_feed_forward_bias
    shapes = _projection("up", hidden_dim, inner_dim, use_bias)
    if config.activation == "swiglu":
        shapes |= _projection("gate", hidden_dim, inner_dim, use_bias)
    return shapes | _projection("down", inner_dim, hidden_dim, use_bias)


def _experts(config: GPTConfig) -> dict[str, Shape]:
    shapes = _projection("router", config.hidden_dim, config.num_experts, use_bias=False)
    for i in range(config.num_experts):
        shapes |= _below(f"expert_{i}", _feed_forward(config))
    return shapes


def _norm(config: GPTConfig) -> dict[str, Shape]:
    names = ("gamma", "beta") if config.norm == "layer_norm" else ("scale",)
    return {name: (config.hidden_dim,) for name in names}


def _projection(name: str, inputs: int, outputs: int, use_bias: bool) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}/kernel": (inputs, outputs)}
    if use_bias:
        shapes[f"{name}/bias"] = (outputs,)
    return shapes


def _below(layer: str, shapes: dict[str, Shape]) -> dict[str, Shape]:
    return {f"{layer}/{path}": shape for path, shape in shapes.items()}
