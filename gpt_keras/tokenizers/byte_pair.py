"""Byte-level byte-pair encoding, as in GPT-2."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from gpt_keras.tokenizers.byte_level import (
    byte_characters,
    bytes_of_tokens,
    check_merges_are_whole,
    engine_from_vocabulary,
    has_decoder,
    has_single_digits,
    is_gpt2_split,
    literal_tokens,
    new_engine,
    part_type,
)
from gpt_keras.tokenizers.engine import OPTIONS_NOT_IN_GRAPH, EngineTokenizer
from gpt_keras.tokenizers.in_graph.byte_pair import InGraphBytePairTokenizer
from gpt_keras.tokenizers.tokenizer import END_OF_TEXT, AllowedSpecial
from gpt_keras.tokenizers.training import (
    add_special_tokens,
    check_room,
    check_training,
    iterate_pieces,
)
from gpt_keras.tokenizers.utf8 import incomplete_length
from gpt_keras.tokenizers.vocabulary_files import read_merges, write_vocabulary_files

GPT2_MERGES = Path(__file__).parent / "data" / "gpt2_merges.txt"

# GPT-2's split always has a border between a character that is not white space and one that is.
# Greedy, so the end of the match is the last such place.
_LAST_BORDER = re.compile(r".*\S(?=[ \n])", re.DOTALL)


class BytePairTokenizer(EngineTokenizer):
    """Byte-level byte-pair encoding: GPT-2's tokenizer, or one trained on your own text.

    Text is split into words (a space belongs to the word after it), each word is taken as UTF-8
    bytes, and inside a word the pair of tokens that was learned earliest is merged, again and
    again. Every string can be encoded and comes back exactly; unless the tokenizer was loaded from
    a file whose vocabulary lacks some bytes (SmolLM's lacks a few that hardly ever occur): it
    leaves those out, as the tokenizer it was made from does.

    Byte-pair encoding for text is from Sennrich et al. 2016, "Neural Machine Translation of Rare
    Words with Subword Units", section 3.2; bytes instead of characters from Radford et al. 2019
    (GPT-2), section 2.2. The engine is Hugging Face `tokenizers`.

    Use `train`, `gpt2`, `from_vocabulary` or `gpt_keras.tokenizers.load` to make one.

    Args:
        engine: A byte-level BPE `tokenizers.Tokenizer`.

    Raises:
        ValueError: `engine` is not byte-level BPE.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
        >>> tokenizer.encode("Hello world")
        [15496, 995]
        >>> tokenizer.decode([15496, 995, 50256])
        'Hello world<|endoftext|>'
    """

    def __init__(self, engine: tokenizers.Tokenizer):
        content = json.loads(engine.to_str())
        # Bytes are looked up in the table; a vocabulary without the bytes that every text needs is
        # of another kind.
        self._vocabulary = engine.get_vocab(with_added_tokens=False)
        characters = byte_characters()
        missing = [c for c in characters if c not in self._vocabulary]
        if (
            content["model"]["type"] != "BPE"
            or not self._vocabulary.keys() >= set(characters[ord(" ") : 0x7F])
            or not has_decoder(content["decoder"], "ByteLevel")
        ):
            raise ValueError(
                "`engine` must be byte-level BPE (a BPE model whose vocabulary holds the bytes of "
                "ASCII text, if not all 256, and a ByteLevel decoder), but is "
                f"{content['model']['type']} with {256 - len(missing)} of the bytes and decoder "
                f"{part_type(content['decoder'])}."
            )
        super().__init__(
            engine,
            content,
            has_usual_split=content["normalizer"] is None
            and is_gpt2_split(content["pre_tokenizer"])
            and not any(content["model"].get(option) for option in OPTIONS_NOT_IN_GRAPH)
            and not (missing and content["model"].get("unk_token")),
        )
        self._single_digits = has_single_digits(content["pre_tokenizer"])
        self._token_bytes = bytes_of_tokens(self._vocabulary, self._added_tokens)

    @classmethod
    def train(
        cls,
        texts_or_paths: str | Path | Iterable[str | Path],
        vocabulary_size: int,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        verbose: int = 0,
        keep_line_ends: bool = False,
    ) -> "BytePairTokenizer":
        r"""Learn the merges from a corpus. The same corpus gives the same tokenizer.

        Ids are laid out as in GPT-2: the 256 bytes, the merges in the order they were learned,
        the special tokens. `reference_trainer` shows the algorithm in plain Python.

        Text is read as training goes and not kept. Memory grows with the distinct words: about
        100 to 150 bytes for each of their bytes. English has few; in Chinese, written without
        spaces, most words are clauses that occur once, so train on some megabytes of it. A word of
        many thousand letters takes time that grows with the square of its length. A pair that
        stands in 2**31 places or more is missed: the engine counts with 32 bits.

        Args:
            texts_or_paths: A `str` is text, a `pathlib.Path` is a file or a directory, which stands
                for all `.txt` and `.md` files below it that are not hidden; or several of these in
                any container: a list, a generator, a NumPy array, a pandas Series.
            vocabulary_size: Number of ids wanted, bytes and special tokens included. A small
                corpus may not have that many pairs worth merging; then the result has fewer, see
                its `vocabulary_size`.
            min_frequency: A pair that occurs less often is not merged.
            special_tokens: Tokens that no text encodes to. `<|endoftext|>` among them is the one
                that `end_of_text_id` tells.
            verbose: 1 shows a progress bar.
            keep_line_ends: Whether the line ends `"\r\n"` and `"\r"` of files stay as they are
                instead of becoming `"\n"`.

        Returns:
            The tokenizer.

        Raises:
            ValueError: There is no text, a path does not exist, a file is not UTF-8, or
                `vocabulary_size`, `min_frequency` or `special_tokens` is not possible.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train(
            ...     "low low low lower lower newest newest", vocabulary_size=262
            ... )
            >>> [tokenizer.decode([i]) for i in tokenizer.encode("lower")]
            ['low', 'er']
        """
        special_tokens = check_training(vocabulary_size, min_frequency, special_tokens)
        check_room(vocabulary_size, 256, "bytes", special_tokens)
        engine = new_engine(models.BPE())
        engine.train_from_iterator(
            iterate_pieces(texts_or_paths, _gpt2_safe_cut, keep_line_ends),
            trainers.BpeTrainer(
                vocab_size=vocabulary_size - len(special_tokens),
                min_frequency=min_frequency,
                show_progress=verbose > 0,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            ),
        )
        add_special_tokens(engine, special_tokens)
        return cls(engine)

    @classmethod
    def gpt2(cls) -> "BytePairTokenizer":
        """Return GPT-2's tokenizer: 50,257 ids, from the merges shipped with this package.

        Example:
            >>> import gpt_keras as gk
            >>> gk.tokenizers.BytePairTokenizer.gpt2().vocabulary_size
            50257
        """
        merges = read_merges(GPT2_MERGES)
        # Sorting the characters puts the bytes that stand for themselves first.
        tokens = [*sorted(byte_characters()), *(first + second for first, second in merges)]
        vocabulary = {token: i for i, token in enumerate([*tokens, END_OF_TEXT])}
        return cls.from_vocabulary(vocabulary, merges, [END_OF_TEXT])

    @classmethod
    def from_vocabulary(
        cls,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        special_tokens: Collection[str] | None = None,
    ) -> "BytePairTokenizer":
        """Make a tokenizer, with GPT-2's split into words, from a vocabulary and merges.

        Args:
            vocabulary: The tokens and their ids, which are 0 to n - 1. Bytes are written as in
                GPT-2's vocabulary (`byte_level.byte_characters`), special tokens as they are.
            merges: The pairs of tokens that are merged, the earliest learned first.
            special_tokens: Which tokens of the vocabulary are special; None for all that no text
                encodes to: those that are no byte and the result of no merge.

        Returns:
            The tokenizer.

        Raises:
            ValueError: The ids are not 0 to n - 1, the vocabulary lacks bytes of ASCII text, or
                it lacks the parts or the result of a merge or a special token.

        Example:
            >>> import gpt_keras as gk
            >>> from gpt_keras.tokenizers.byte_level import byte_characters
            >>> tokens = [*byte_characters(), "Ġt", "Ġto", "<|endoftext|>"]
            >>> vocabulary = {token: i for i, token in enumerate(tokens)}
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.from_vocabulary(
            ...     vocabulary, [("Ġ", "t"), ("Ġt", "o")]
            ... )
            >>> tokenizer.encode(" to"), tokenizer.special_tokens
            ([257], {'<|endoftext|>': 258})
        """
        return cls(engine_from_vocabulary(vocabulary, merges, special_tokens))

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._token_bytes)

    def _decode_one(self, ids: list[int]) -> str:
        token_bytes = self._token_bytes
        return b"".join([token_bytes[i] for i in ids]).decode("utf-8", errors="replace")

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes that each id stands for, as `Tokenizer.pieces` describes."""
        return [self._token_bytes[i] for i in self._checked(ids)]

    def safe_cut(self, text: str) -> int:
        """Return the last place in `text` before a space or line end that follows a word."""
        is_safe = self._has_usual_split and not self._always_found
        return _gpt2_safe_cut(text) if is_safe else 0

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Whether a further id may complete a character that `ids` end in the middle of."""
        return incomplete_length(b"".join([self._token_bytes[i] for i in ids[-3:]])) > 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return a Keras layer that does the same with TensorFlow ops.

        As `Tokenizer.in_graph` describes; the ids are those of `encode`. Bytes that are not valid
        UTF-8 are read as U+FFFD. Which characters are letters, numbers and white space is as the
        installed engine has it (`unicode_classes.unicode_version`; Unicode 16 in `tokenizers`
        0.23) and stays so in a SavedModel.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphBytePairTokenizer`.

        Raises:
            ValueError: The tokenizer was loaded from a file and splits words in another way
                than GPT-2.
        """
        self._require_usual_split(
            "GPT-2's split into words (a ByteLevel pre-tokenizer with its regular expression, "
            "alone or after one for single digits; no normalizer)"
        )
        return InGraphBytePairTokenizer(
            self,
            self._found(allowed_special),
            byte_ids=[self._vocabulary.get(character, -1) for character in byte_characters()],
            merges=self._merges_of_ids(self._vocabulary),
            token_bytes=self._token_bytes,
            single_digits=self._single_digits,
        )

    def corpus_encoder(self) -> Callable[[list[str]], list[np.ndarray]]:
        """Return the tokenizer in the graph as a function, which is several times faster.

        As `Tokenizer.corpus_encoder` describes.
        """
        if not self._has_usual_split or keras.backend.backend() != "tensorflow":
            return super().corpus_encoder()
        in_graph = tf.function(
            self.in_graph(), input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

        def encode(texts: list[str]) -> list[np.ndarray]:
            try:
                strings = [text.encode() for text in texts]
            except UnicodeEncodeError:
                return self.encode(texts)  # which says what is wrong
            ids = in_graph(tf.constant(strings, tf.string))
            return np.split(ids.values.numpy(), ids.row_splits.numpy()[1:])[:-1]

        return encode

    def save_vocabulary(self, folder: str | os.PathLike) -> Path:
        """Write `vocab.json` and `merges.txt`, which Hugging Face's GPT-2 classes read.

        `gpt_keras.tokenizers.load` reads them, too. The format says nothing of the split into
        words, which is GPT-2's, nor which tokens are special: `load` takes for special those that
        no text encodes to.

        Args:
            folder: The folder, made if missing.

        Returns:
            The path of the folder.

        Raises:
            ValueError: The tokenizer is not one that this format can hold.

        Example:
            >>> import tempfile
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train("low lower", 260)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     folder = tokenizer.save_vocabulary(folder)
            ...     gk.tokenizers.load(folder) == tokenizer
            True
        """
        if not self._has_usual_split or self._single_digits or self._always_found:
            raise ValueError(
                "`save_vocabulary` needs a tokenizer with GPT-2's split into words, which "
                "vocab.json and merges.txt stand for; this one has another. Use `save`."
            )
        vocabulary = self._vocabulary | self._added_tokens
        if self._special_tokens != literal_tokens(vocabulary, self._merges):
            raise ValueError(
                "`save_vocabulary` needs a tokenizer whose special tokens are those that no text "
                "encodes to, since the format does not tell them. Use `save`."
            )
        check_merges_are_whole(vocabulary, self._merges)
        return write_vocabulary_files(folder, vocabulary, self._merges)


def _gpt2_safe_cut(text: str) -> int:
    border = _LAST_BORDER.match(text)
    return border.end() if border else 0
