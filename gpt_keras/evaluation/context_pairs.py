"""Token ids of a context and its continuation."""

from gpt_keras.tokenizers import Tokenizer


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the token ids of a context and of its continuation, as lm-evaluation-harness does.

    Spaces at the end of the context move to the continuation. Both are encoded as one text, which
    is then cut where the ids of the context alone end. An empty context is the tokenizer's
    `id_before_text`.

    Args:
        tokenizer: The tokenizer.
        context: The context, or an empty text.
        continuation: The continuation.
    """
    # STAND-IN: start-of-text tokens, and a tokenizer without `id_before_text`, come later.
    if not context:
        return [tokenizer.id_before_text], tokenizer.encode(continuation)
    text = context.rstrip()
    continuation = context[len(text) :] + continuation
    ids = tokenizer.encode(text)
    return ids, tokenizer.encode(text + continuation)[len(ids) :]
