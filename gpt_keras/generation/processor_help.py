"""The settings of the logits processors in words: the type of each and a line of help.

This module imports nothing, so that the command line reads it without loading TensorFlow.
"""

# In the order of `PROCESSORS`.
SETTINGS: dict[str, tuple[type, str]] = {
    "logit_bias": (
        dict[int, float],
        "Numbers added to the logits of token ids; for a tuple of ids, to the logit of the last "
        "one if the others end the text so far.",
    ),
    "repetition_penalty": (
        float,
        "Above 1, tokens that the prompt or the new text holds become less likely.",
    ),
    "presence_penalty": (
        float,
        "Subtracted from the logits of tokens that the new text holds.",
    ),
    "frequency_penalty": (
        float,
        "Subtracted from the logits of tokens as often as the new text holds them.",
    ),
    "choices": (
        list[str],
        "Constrained decoding: the new text is exactly one of these texts.",
    ),
    "bad_words": (
        list[str],
        "Texts that may not be written, at the beginning of a text or after a space.",
    ),
    "min_new_tokens": (
        int,
        "How many new tokens there must be before the text may end.",
    ),
    "no_repeat_ngram_size": (
        int,
        "No sequence of this many tokens may come twice, in the prompt or the new text.",
    ),
    "temperature": (
        float,
        "Below 1 likely tokens become likelier, above 1 less so; 0 takes the most likely one.",
    ),
    "top_k": (
        int,
        "Draw from this many most likely tokens only.",
    ),
    "top_p": (
        float,
        "Draw from the most likely tokens whose probabilities sum to this.",
    ),
    "min_p": (
        float,
        "Draw from the tokens at least this times as likely as the most likely one.",
    ),
    "typical_p": (
        float,
        "Draw from the tokens of most typical surprise whose probabilities sum to this.",
    ),
}
