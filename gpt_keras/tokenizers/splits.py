"""Regular expressions that split text into words before byte-pair encoding.

They are the pre-tokenizers of published `tokenizer.json` files, and the engine runs them.
`in_graph/word_split.py` implements GPT-2's split without a regular expression.
"""

import tokenizers
from tokenizers import pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def gpt2_split() -> pre_tokenizers.PreTokenizer:
    """Return GPT-2's split into words."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def single_digits_split() -> pre_tokenizers.PreTokenizer:
    """Return GPT-2's split, with each digit split off first.

    StarCoder and SmolLM use it.
    """
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2_split()])


def gpt4_split(digits: str, marks: bool = False) -> pre_tokenizers.PreTokenizer:
    r"""Return GPT-4's split, which other models use with small changes.

    Args:
        digits: Regular expression for a group of digits, such as `\p{N}{1,3}`.
        marks: Whether combining marks belong to words, as in Qwen 3.5.
    """
    letters = r"[\p{L}\p{M}]" if marks else r"\p{L}"
    other = r"[^\s\p{L}\p{M}\p{N}]" if marks else r"[^\s\p{L}\p{N}]"
    return split_by(
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?{other}+[\r\n]*|{_REST}"
    )


def case_split(digits: str, contractions: bool) -> pre_tokenizers.PreTokenizer:
    """Return the split of GPT-4o and Mistral's Tekken, which cuts before capitals.

    Args:
        digits: Regular expression for a group of digits.
        contractions: Whether a contraction belongs to the word before it.
    """
    before = r"[^\r\n\p{L}\p{N}]?"
    after = f"{_CONTRACTIONS}?" if contractions else ""
    return split_by(
        f"{before}{_UPPER}*{_LOWER}+{after}|{before}{_UPPER}+{_LOWER}*{after}|{digits}|"
        rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
    )


def split_by(expression: str) -> pre_tokenizers.PreTokenizer:
    """Return the split whose words are the matches of a regular expression."""
    split = pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")
    no_split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, no_split])


GPT4O_SPLIT = case_split(r"\p{N}{1,3}", contractions=True)
