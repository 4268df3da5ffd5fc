"""Training of byte-pair encoding in plain Python, as a readable reference.

The algorithm is that of Sennrich et al. 2016, "Neural Machine Translation of Rare Words with
Subword Units", section 3.2 and algorithm 1. Bytes take the place of characters, as in Radford et
al. 2019 (GPT-2), section 2.2.

The tests compare `BytePairTokenizer.train` with this module. Its engine counts every pair once and
then corrects only the counts of pairs next to a merge, which is faster. The merges are the same as
long as no pair occurs more than 2**31 - 1 times, because the engine's counts have 32 bits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gpt_keras.tokenizers.byte_level import byte_characters


def learn_merges(
    words: Mapping[bytes, int], num_merges: int, min_frequency: int = 2
) -> list[tuple[bytes, bytes]]:
    """Learn which pairs of tokens to merge, and in which order.

    A pair never crosses the end of a word. All occurrences of a pair count, even overlapping ones:
    `aaa` holds the pair `(a, a)` twice, although only one of the two can be merged. Of equally
    frequent pairs, the pair with the older first token is merged, then the pair with the older
    second token. The age of single bytes is their order in GPT-2 (see `vocabulary`).

    Args:
        words: Number of occurrences of each word, which is given as UTF-8 bytes.
        num_merges: Maximum number of merges. There are fewer if no pair is frequent enough.
        min_frequency: Minimum number of occurrences of a pair that is merged.

    Returns:
        The pairs in the order of their merges. No two of them give the same token.

    Example:
        The worked example of the paper, without its end-of-word symbol:

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
        # Count neighbouring pairs; a word counts as often as it occurs.
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, tokens in split_words.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        # Take the most frequent pair; of equally frequent pairs, the oldest.
        best = max(counts, key=lambda p: (counts[p], -age[p[0]], -age[p[1]]), default=None)
        if best is None or counts[best] < min_frequency:
            break
        # Its result becomes the newest token and replaces the pair in all words.
        merges.append(best)
        age[best[0] + best[1]] = len(age)
        split_words = {word: merge_pair(tokens, best) for word, tokens in split_words.items()}
    return merges


def merge_pair(tokens: Sequence[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Merge all occurrences of a pair of tokens in a word, from left to right.

    All merges, applied one after the other, turn the bytes of a word into its tokens.

    Args:
        tokens: The tokens of a word.
        pair: The two tokens to merge.

    Returns:
        The tokens of the word after the merge.

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
    r"""Return the tokens in the order of their ids, as in `BytePairTokenizer.train`.

    The order is GPT-2's: the 256 bytes, printable ones first; the merges; the special tokens.

    Args:
        merges: The pairs that `learn_merges` returned.
        special_tokens: Tokens that no text encodes to.

    Returns:
        The bytes of each token; the token at index `i` has id `i`.

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
