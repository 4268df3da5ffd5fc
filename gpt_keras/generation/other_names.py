"""Other libraries' names of generation settings, and the names in this library."""

import difflib
from collections.abc import Iterable

# Arguments of transformers' and keras-hub's `generate` and of common HTTP interfaces.
OURS = {
    "assistant_model": "`strategy=gk.generation.DraftModel(model)`",
    "bad_words_ids": "`bad_words`",
    "do_sample": "`temperature=0` for greedy decoding; without it tokens are sampled",
    "early_stopping": "`strategy=gk.generation.BeamSearch(num_beams, early_stopping=...)`",
    "eos_token_id": "`model.end_token_ids`",
    "length_penalty": "`strategy=gk.generation.BeamSearch(num_beams, length_penalty=...)`",
    "logits_processor": "`logits_processors`",
    "max_time": "`time_limit`",
    "max_tokens": "`max_new_tokens`",
    "min_length": "`min_new_tokens`",
    "min_tokens": "`min_new_tokens`",
    "num_beams": "`strategy=gk.generation.BeamSearch(num_beams)`",
    "num_return_sequences": "`generate_with_scores(strategy=gk.generation.BestOf(n))`",
    "prompt_lookup_num_tokens": "`strategy=gk.generation.PromptLookup(num_tokens)`",
    "sampler": "`temperature`, `top_k`, `top_p` and `strategy`",
    "sequence_bias": "`logit_bias`",
    "stop_sequences": "`stop`",
    "stop_strings": "`stop`",
    "stop_token_ids": "`model.end_token_ids`",
    "streamer": "`model.stream`",
}

NOT_NEEDED = {
    "pad_token_id": "prompts of different lengths need no padding token",
    "use_cache": "a backbone that has a KV cache always uses it",
}


def hint(name: str, known: Iterable[str]) -> str:
    """Return a hint at the right name for an unknown setting.

    Args:
        name: The unknown name.
        known: All valid names.

    Returns:
        A sentence with a space before it, or an empty string if there is no hint.

    Example:
        >>> from gpt_keras.generation.other_names import hint
        >>> hint("max_tokens", ["max_new_tokens"]), hint("top_q", ["top_k"]), hint("x", ["top_k"])
        (' Here it is `max_new_tokens`.', ' Did you mean `top_k`?', '')
        >>> hint("pad_token_id", [])
        ' It is not needed: prompts of different lengths need no padding token.'
    """
    if name in OURS:
        return f" Here it is {OURS[name]}."
    if name in NOT_NEEDED:
        return f" It is not needed: {NOT_NEEDED[name]}."
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""
