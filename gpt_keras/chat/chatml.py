"""ChatML: a chat template and its tokens, for a model without a template."""

from typing import TYPE_CHECKING

import numpy as np

from gpt_keras.tokenizers.added_tokens import AddedToken

if TYPE_CHECKING:  # a circular import at run time: `models` needs `datasets`, which needs templates
    from gpt_keras.models import CausalLM

START, END = "<|im_start|>", "<|im_end|>"

# The assistant writes its text and the end of its turn.
CHATML = (
    "{%- if tools %}\n"
    "{{- raise_exception('ChatML has no form for tools') }}\n"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    "{%- if message.tool_calls %}\n"
    "{{- raise_exception('ChatML has no form for tool calls') }}\n"
    "{%- endif %}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}\n"
    "{%- if message['role'] == 'assistant' %}\n"
    "{%- generation %}\n"
    "{{- message['content'] + '<|im_end|>' }}\n"
    "{%- endgeneration %}\n"
    "{%- else %}\n"
    "{{- message['content'] + '<|im_end|>' }}\n"
    "{%- endif %}\n"
    "{{- '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "{{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)


def add_chatml(model: "CausalLM") -> "CausalLM":
    r"""Return a copy of a model with ChatML: tokens, template and end token.

    A message is written as `<|im_start|>user\nHello<|im_end|>\n`. The tokens `<|im_start|>` and
    `<|im_end|>` are added to the tokenizer if it lacks them. The model gets further ids if it has
    none left. In the embedding and in the output projection, the weights of a new id are the
    mean over the ids of the old tokenizer. Nothing is drawn at random.

    `<|im_end|>` is added to `end_token_ids`. All this is saved with the model. Train the copy, for
    example on `gk.datasets.conversations`, before you chat with it. The two new tokens have equal
    weights at first, so the token embedding must be trained. `enable_lora` freezes it: set
    `model.backbone.token_embedding.trainable = True` afterwards. The model would otherwise never
    learn to stop.

    Args:
        model: A `CausalLM` with a tokenizer, without a chat template. Its backbone must have the
            method `with_vocabulary_size`, as `gk.GPT`.

    Returns:
        A new model of the same class, not compiled.

    Raises:
        ValueError: The model has no tokenizer or has a chat template, is quantized or has adapters,
            its tokenizer cannot have further tokens, or its backbone cannot have further ids.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.BytePairTokenizer.train("hello", 260)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
        >>> model = gk.chat.add_chatml(gk.GPTCausalLM(config, tokenizer=tokenizer))
        >>> model.vocabulary_size - config.vocabulary_size
        2
        >>> gk.chat.ChatTemplate(model.chat_template).render([{"role": "user", "content": "Hi"}])
        '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
    """
    if model.tokenizer is None:
        raise ValueError("`model` must have a tokenizer, but has none.")
    if model.chat_template is not None:
        raise ValueError(
            "`model` must have no chat template, but has one: conversations are written with it. "
            "Set `model.chat_template = None` to replace it."
        )
    tokenizer = model.tokenizer
    lacking = [token for token in (START, END) if token not in tokenizer.special_tokens]
    known = [token for token in lacking if tokenizer.token_id(token) is not None]
    if known:
        raise ValueError(
            f"`model` must have a tokenizer in which {known[0]!r} is a special token or no token, "
            "but there it is a token of text."
        )
    num_ids = tokenizer.vocabulary_size
    new = [AddedToken(num_ids + i, token) for i, token in enumerate(lacking)]
    tokenizer = tokenizer.with_added_tokens(new)
    copy = model.with_vocabulary_size(max(model.vocabulary_size, tokenizer.vocabulary_size))
    _set_to_mean(copy.backbone.token_embedding, num_ids, tokenizer.vocabulary_size)
    copy.tokenizer = tokenizer
    copy.chat_template = CHATML
    end = tokenizer.special_tokens[END]
    copy.end_token_ids = list(dict.fromkeys([end, *model.end_token_ids]))
    return copy


def _set_to_mean(embedding, start: int, end: int) -> None:
    """Set the weights of ids `start` to `end - 1` to the mean of the ids before."""
    variables = [(embedding.embeddings, 0)]
    if not embedding.tie_weights:
        variables.append((embedding.reverse_embeddings, 1))
    for variable, axis in variables:
        values = np.moveaxis(np.array(variable), axis, 0)  # a view
        values[start:end] = values[:start].astype("float32").mean(0)
        variable.assign(np.moveaxis(values, 0, axis))
