"""Training of byte-pair encoding in plain Python: to read, and to check `train` against.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2
and algorithm 1, with bytes for characters as in Radford et al. 2019 (GPT-2), section 2.2.
`BytePairTokenizer.train` gives the same merges: its engine counts every pair once and then only
corrects the counts of pairs beside a merge, which is faster and changes nothing (up to 2**31 - 1
places of a pair: its counts have 32 bits).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gpt_keras.tokenizers.byte_level import byte_characters


def learn_merges(
    words: Mapping[bytes, int], num_merges: int, min_frequency: int = 2
) -> list[tuple[bytes, bytes]]:
    """Learn which pairs of tokens to merge, in which order.

    Pairs never reach over the end of a word. A pair counts at every place where it stands, so
    `aaa` holds the pair `(a, a)` twice, though only one of the two can be merged. Of pairs that
    are equally frequent the one whose first token is the older one counts, then the one whose
    second token is; among the bytes, the order is GPT-2's (see `vocabulary`).

    Args:
        words: How often each word occurs, as UTF-8 bytes.
        num_merges: How many pairs to merge; fewer are if the words run out of pairs.
        min_frequency: A pair that occurs less often is not merged.

    Returns:
        The pairs, the first merged first. No two of them give the same token.

    Example:
        The worked example of the paper, without its mark at the end of a word:

        >>> from gpt_keras.tokenizers.reference_trainer import learn_merges
        >>> words = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
        >>> for first, second in learn_merges(words, num_merges=6):
        ...     print(first.decode(), second.decode())
        e s
        es t
        l o
        lo w
        e w
        n ew
    """
    merges: list[tuple[bytes, bytes]] = []
    # At first every byte is a token.
    split_words = {word: [bytes([byte]) for byte in word] for word in words}
    age = {token: i for i, token in enumerate(vocabulary(merges))}
    while len(merges) < num_merges:
        # Count the pairs of neighbours, each word as often as it occurs.
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, tokens in split_words.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        # Take the most frequent one; of equally frequent ones the oldest.
        best = max(counts, key=lambda p: (counts[p], -age[p[0]], -age[p[1]]), default=None)
        if best is None or counts[best] < min_frequency:
            break
        # It becomes a token wherever it stands.
        merges.append(best)
        age[best[0] + best[1]] = len(age)
        split_words = {word: merge_pair(tokens, best) for word, tokens in split_words.items()}
    return merges


def merge_pair(tokens: Sequence[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Merge a pair of tokens wherever it stands in a word, from left to right.

    All merges, one after the other, turn the bytes of a word into its tokens.

    Args:
        tokens: The tokens of a word.
        pair: The two to merge.

    Returns:
        The tokens after the merge.

    Example:
        >>> from gpt_keras.tokenizers.reference_trainer import merge_pair
        >>> merge_pair([b"a", b"a", b"a", b"b"], (b"a", b"a"))
        [b'aa', b'a', b'b']
    """
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append(tokens[i] + tokens[i + 1])
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged


def vocabulary(
    merges: Sequence[tuple[bytes, bytes]], special_tokens: Sequence[str] = ()
) -> list[bytes]:
    r"""Return the tokens in the order of their ids, as `BytePairTokenizer.train` lays them out.

    GPT-2's order: the 256 bytes, those that print well first; the merges; the special tokens.

    Args:
        merges: What `learn_merges` returned.
        special_tokens: Tokens that no text encodes to.

    Returns:
        The bytes of each token; the one at index `i` has id `i`.

    Example:
        >>> from gpt_keras.tokenizers.reference_trainer import vocabulary
        >>> tokens = vocabulary([(b"e", b"s")], special_tokens=["<|endoftext|>"])
        >>> tokens[0], tokens[188], tokens[256], tokens[257]
        (b'!', b'\x00', b'es', b'<|endoftext|>')
    """
    characters = byte_characters()
    byte_order = sorted(range(256), key=lambda byte: characters[byte])
    return [
        *(bytes([byte]) for byte in byte_order),
        *(first + second for first, second in merges),
        *(token.encode() for token in special_tokens),
    ]
