"""Which tokens attend to which."""

import keras
import numpy as np

from gpt_keras.layers import TransformerBlock


def attention_weights(model: keras.Model, token_ids) -> np.ndarray:
    """Return the attention weights of every layer and head.

    Args:
        model: a `CausalLM` or its backbone: a functional Keras model with `TransformerBlock`s,
            such as `GPT`.
        token_ids: integers, `(batch, length)`, or the dict that a model takes which is not causal.

    Returns:
        float32 `(layers, batch, heads, length, length)`: how much the token of the row takes of
        the token of the column; each row sums to 1.

    Raises:
        ValueError: there is no `TransformerBlock` in the model.

    Example:
        >>> import gpt_keras as gk, numpy as np
        >>> config = gk.GPTConfig(vocabulary_size=100, max_sequence_length=16, num_layers=2,
        ...                       num_heads=4, hidden_dim=8)
        >>> weights = gk.interpretation.attention_weights(gk.GPT(config), np.array([[1, 2, 3]]))
        >>> weights.shape
        (2, 1, 4, 3, 3)
        >>> weights[0, 0, 0, 0].tolist()    # the first token sees itself alone
        [1.0, 0.0, 0.0]
    """
    backbone = getattr(model, "backbone", model)
    blocks = [layer for layer in backbone.layers if isinstance(layer, TransformerBlock)]
    if not blocks:
        raise ValueError(f"`model` must have TransformerBlocks; {backbone.name!r} has none.")
    is_causal = not isinstance(token_ids, dict)
    inner = keras.Model(
        backbone.inputs[0] if is_causal else backbone.input,
        # A block that takes a mask, too, has two inputs.
        {block.name: keras.tree.flatten(block.input)[0] for block in blocks},
    )
    streams = inner(np.asarray(token_ids) if is_causal else token_ids)
    padding_mask = None if is_causal else token_ids["padding_mask"]
    return np.stack(
        [
            keras.ops.convert_to_numpy(block.attention_weights(streams[block.name], padding_mask))
            for block in blocks
        ]
    )
