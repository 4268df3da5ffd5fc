"""Types and help texts of the logits processors' settings.

This module imports nothing, so the command line can read it without loading TensorFlow.
"""

# In the order of `PROCESSORS`.
SETTINGS: dict[str, tuple[type, str]] = {
    "logit_bias": (
        dict[int, float],
        "Biases added to the logits of token ids; for a tuple of ids, to the logit of its last id "
        "if the text so far ends with the other ids.",
    ),
    "repetition_penalty": (
        float,
        "Above 1, tokens in the prompt or the new text become less likely.",
    ),
    "presence_penalty": (
        float,
        "Subtracted from the logits of the tokens in the new text.",
    ),
    "frequency_penalty": (
        float,
        "Subtracted from a token's logit for each time that the token occurs in the new text.",
    ),
    "choices": (
        list[str],
        "Constrained decoding: the new text is exactly one of these texts.",
    ),
    "bad_words": (
        list[str],
        "Texts that must not be generated, at the beginning of a text or after a space.",
    ),
    "min_new_tokens": (
        int,
        "Smallest number of new tokens before the text may end.",
    ),
    "no_repeat_ngram_size": (
        int,
        "No sequence of this many tokens may occur twice in prompt and new text.",
    ),
    "temperature": (
        float,
        "Divides the logits. Below 1, likely tokens become likelier; 0 is greedy decoding.",
    ),
    "top_k": (
        int,
        "Sample only from this number of most likely tokens.",
    ),
    "top_p": (
        float,
        "Sample only from the smallest set of likely tokens with at least this total probability.",
    ),
    "min_p": (
        float,
        "Sample only from tokens with at least this fraction of the largest probability.",
    ),
    "typical_p": (
        float,
        "As `top_p`, but tokens whose surprise is nearest to the entropy are added first.",
    ),
}
