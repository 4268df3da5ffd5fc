"""Token ids of a context and its continuation."""

from collections.abc import Iterable, Sequence

from gpt_keras.tokenizers import Tokenizer


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the token ids of a context and of its continuation.

    They are the ids of lm-evaluation-harness (`HFLM` with its default settings).

    Spaces at the end of the context move to the continuation. Both are encoded as one text, which
    is then cut where the ids of the context alone end. The text begins with the start-of-text token
    if the tokenizer adds one to prompts, unless the text itself begins with it. Special tokens in
    the texts become their ids.

    An empty context becomes one token: the start-of-text token, or the end-of-text token if the
    tokenizer has no start. If the continuation begins with this token, the token is the context,
    and is not scored. A context of spaces counts as empty, where the harness fails.

    Args:
        tokenizer: The tokenizer.
        context: The context, or an empty text.
        continuation: The continuation.

    Returns:
        `(context_ids, continuation_ids)`, each with at least one id.

    Raises:
        ValueError: No token is left for the continuation, or the context is empty and the tokenizer
            has neither a start-of-text nor an end-of-text token.

    Example:
        >>> import gpt_keras as gk
        >>> from gpt_keras.evaluation.context_pairs import encode_pair
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ", end_of_text=True)
        >>> encode_pair(tokenizer, "ab ", "c")
        ([0, 1], [3, 2])
        >>> encode_pair(tokenizer, "", "c")
        ([4], [2])
    """
    return encode_pairs(tokenizer, [(context, continuation)])[0]


def encode_pairs(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Return `encode_pair` of many pairs.

    All texts are encoded in one batch, and equal texts once.

    Args:
        tokenizer: The tokenizer.
        pairs: `(context, continuation)` of each pair.

    Returns:
        `(context_ids, continuation_ids)` of each pair.

    Raises:
        ValueError: As in `encode_pair`.
    """
    stripped = []
    for context, continuation in pairs:
        text = context.rstrip()
        stripped.append((text, context[len(text) :] + continuation))
    texts = dict.fromkeys(text for text, _ in stripped if text)
    texts |= dict.fromkeys(text + continuation for text, continuation in stripped if text)
    ids = dict(zip(texts, encode_texts(tokenizer, texts), strict=True))
    alone = dict.fromkeys(continuation for text, continuation in stripped if not text)
    alone = dict(zip(alone, tokenizer.encode(list(alone), "all"), strict=True)) if alone else {}

    found = []
    for text, continuation in stripped:
        if text:
            context_ids = ids[text]
            continuation_ids = ids[text + continuation][len(context_ids) :]
        else:
            context_ids, continuation_ids = [prefix_id(tokenizer)], alone[continuation]
            if continuation_ids[:1] == context_ids:
                continuation_ids = continuation_ids[1:]
        if not continuation_ids:
            raise ValueError(
                f"`continuation` must have a token that is not a part of its context; got "
                f"{continuation!r} after {text[-40:]!r}."
            )
        found.append((list(context_ids), continuation_ids))
    return found


def encode_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """Return the token ids of texts as prompts, as lm-evaluation-harness encodes them.

    Each begins with the start-of-text token if the tokenizer adds one to prompts, unless the text
    itself begins with this token. Special tokens in the texts become their ids.

    Args:
        tokenizer: The tokenizer.
        texts: The texts.
    """
    texts = list(texts)
    if not texts:
        return []
    start = list(tokenizer.prompt_start)
    written = tokenizer.start_of_text or ""
    rows = tokenizer.encode(texts, "all")
    return [
        row if not start or (written and text.startswith(written)) else start + row
        for text, row in zip(texts, rows, strict=True)
    ]


def prefix_id(tokenizer: Tokenizer) -> int:
    """Return the token id that stands for an empty context.

    It is the start-of-text token, also if the tokenizer does not add it to prompts, or else the
    end-of-text token.

    Args:
        tokenizer: The tokenizer.

    Raises:
        ValueError: The tokenizer has neither token.
    """
    for token_id in (tokenizer.start_of_text_id, tokenizer.end_of_text_id):
        if token_id is not None:
            return token_id
    raise ValueError(
        "An empty context needs a tokenizer with a start-of-text or an end-of-text token; this "
        f"{type(tokenizer).__name__} has neither. Give each continuation a context, or see "
        "`with_boundaries`."
    )
