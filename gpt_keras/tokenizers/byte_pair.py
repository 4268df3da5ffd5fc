"""Byte-level byte-pair encoding (BPE), as in GPT-2."""

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

from gpt_keras.checks import renamed
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

# GPT-2's split always begins a new word where white space follows another character. The expression
# is greedy, so the match ends at the last of these places that has a space or a line end.
_LAST_BORDER = re.compile(r".*\S(?=[ \n])", re.DOTALL)


class BytePairTokenizer(EngineTokenizer):
    """Byte-level byte-pair encoding: GPT-2's tokenizer, or your own.

    Text is split into words, and each word into its UTF-8 bytes. A space belongs to the word
    after it. Inside a word, the pair of tokens that was learned earliest is merged first. This
    repeats until no learned pair is left.

    Every string of valid Unicode can be encoded, and decoding its ids returns the same string.
    A loaded file can make an exception. Its normalizer may change the text: Qwen2's is NFC. Its
    vocabulary may lack some bytes: SmolLM's lacks a few that hardly ever occur. Encoding drops
    these bytes, as the original tokenizer does.

    Byte-pair encoding of text is from Sennrich et al. 2016, "Neural Machine Translation of Rare
    Words with Subword Units", section 3.2. Radford et al. 2019 (GPT-2), section 2.2, use bytes
    instead of characters. The engine is Hugging Face `tokenizers`.

    Create a tokenizer with `train`, `gpt2`, `from_vocabulary` or `gpt_keras.tokenizers.load`.

    Args:
        engine: A `tokenizers.Tokenizer` of byte-level BPE.

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
        # Some published vocabularies lack rare bytes. A vocabulary without printable ASCII belongs
        # to another kind of tokenizer.
        self._vocabulary = engine.get_vocab(with_added_tokens=False)
        characters = byte_characters()
        missing = [c for c in characters if c not in self._vocabulary]
        if (
            content["model"]["type"] != "BPE"
            or not self._vocabulary.keys() >= set(characters[ord(" ") : 0x7F])
            or not has_decoder(content["decoder"], "ByteLevel")
        ):
            raise ValueError(
                "`engine` must be byte-level BPE (a BPE model, a vocabulary with at least the "
                "bytes of printable ASCII, and a ByteLevel decoder), got a model of type "
                f"{content['model']['type']} with {256 - len(missing)} of the 256 bytes and "
                f"decoder {part_type(content['decoder'])}."
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
    @renamed(texts_or_paths="corpus")
    def train(
        cls,
        corpus: str | Path | Iterable,
        vocabulary_size: int,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        verbose: int = 0,
        keep_line_ends: bool = False,
        field: str = "text",
    ) -> "BytePairTokenizer":
        r"""Train a tokenizer: learn the merges from a corpus.

        The same corpus gives the same tokenizer. The ids are in GPT-2's order: the 256 bytes, the
        merges in the order they were learned, the special tokens. `reference_trainer` shows the
        algorithm in plain Python.

        The corpus is read as a stream and not kept in memory. Memory grows with the number of
        distinct words: about 100 to 150 bytes for each byte of a distinct word. English has few
        distinct words. Chinese is written without spaces, so most of its words are clauses that
        occur once: train on a few megabytes of it.

        The training time of one very long word grows with the square of its length. The engine
        counts with 32 bits, so it misses a pair that occurs 2**31 times or more.

        Args:
            corpus: A corpus, as in `gk.datasets.language_modeling`. A `str` is text. A
                `pathlib.Path` is a file or a directory: text, or a table with a text in each row.
                Several texts, paths and rows may be in any container: a list, a generator, a NumPy
                array, a pandas Series.
            vocabulary_size: Number of ids to learn, bytes and special tokens included. If a small
                corpus has too few pairs to merge, the `vocabulary_size` of the tokenizer is
                smaller.
            min_frequency: The smallest number of occurrences at which a pair is merged.
            special_tokens: Tokens that text encodes to only where `allowed_special` names them. If
                `<|endoftext|>` is one of them, its id is `end_of_text_id`.
            verbose: 1 for a progress bar, 0 for none.
            keep_line_ends: Whether to keep the line ends `"\r\n"` and `"\r"` of text files
                instead of replacing them with `"\n"`.
            field: The column of tables and rows that holds the text.

        Returns:
            The tokenizer.

        Raises:
            ValueError: There is no text, an entry is neither text, a path nor a row, a path does
                not exist, a file is damaged or not UTF-8, or `vocabulary_size`, `min_frequency` or
                `special_tokens` is invalid.

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
            iterate_pieces(corpus, _gpt2_safe_cut, keep_line_ends, field),
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
        """Return GPT-2's tokenizer, with 50,257 ids.

        Its merges are a file of this package, so nothing is downloaded.

        Returns:
            The tokenizer.

        Example:
            >>> import gpt_keras as gk
            >>> gk.tokenizers.BytePairTokenizer.gpt2().vocabulary_size
            50257
        """
        merges = read_merges(GPT2_MERGES)
        # GPT-2 gives printable bytes the first ids, and their characters are the first when sorted.
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
        """Create a tokenizer with GPT-2's split from a vocabulary and its merges.

        Args:
            vocabulary: The tokens and their ids, which are 0 to n - 1. Bytes are written with
                GPT-2's table (`byte_level.byte_characters`), special tokens as plain text.
            merges: The pairs of tokens that are merged, the earliest learned first.
            special_tokens: The tokens of the vocabulary that are special. None selects every token
                that is neither a single byte nor the result of a merge.

        Returns:
            The tokenizer.

        Raises:
            ValueError: The ids are not 0 to n - 1, or the vocabulary lacks a byte of printable
                ASCII, a token of a merge, or an entry of `special_tokens`. A special token is
                invalid, too, if text encodes to it.

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
        """Return the bytes of each id; see `Tokenizer.pieces`."""
        return [self._token_bytes[i] for i in self._checked(ids)]

    def safe_cut(self, text: str) -> int:
        """Return a position where `text` can be cut without changing its ids.

        This is the last place before a space or a line end that follows a word. The result is 0 if
        the split is not GPT-2's or an added token is not special. See `Tokenizer.safe_cut`.
        """
        is_safe = self._has_usual_split and not self._always_found
        return _gpt2_safe_cut(text) if is_safe else 0

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Return whether `ids` end in the middle of a UTF-8 character."""
        return incomplete_length(b"".join([self._token_bytes[i] for i in ids[-3:]])) > 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return a Keras layer that tokenizes with TensorFlow ops.

        `Tokenizer.in_graph` describes the layer. It returns the same ids as `encode`. It reads
        bytes that are not valid UTF-8 as U+FFFD.

        The installed engine's Unicode version (`unicode_classes.unicode_version`) decides which
        characters are letters, numbers and white space: Unicode 16 in `tokenizers` 0.23. A
        SavedModel keeps these classes.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphBytePairTokenizer`.

        Raises:
            ValueError: The tokenizer was loaded from a file whose split or options differ from
                GPT-2's, or Keras does not run on TensorFlow.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.BytePairTokenizer.train("low low low lower lower", 260)
            >>> layer = tokenizer.in_graph()
            >>> layer(["low lower"]).to_list() == [tokenizer.encode("low lower")]
            True
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
        """Return a function that encodes many texts with the in-graph tokenizer.

        This is several times faster than `encode`. If the split is not GPT-2's, or Keras does not
        run on TensorFlow, the function calls `encode`. See `Tokenizer.corpus_encoder`.
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
                return self.encode(texts)  # raises a `ValueError` that shows the text
            ids = in_graph(tf.constant(strings, tf.string))
            return np.split(ids.values.numpy(), ids.row_splits.numpy()[1:])[:-1]

        return encode

    def save_vocabulary(self, folder: str | os.PathLike) -> Path:
        """Write `vocab.json` and `merges.txt`, the files of Hugging Face's GPT-2 classes.

        `gpt_keras.tokenizers.load` reads them, too. The files store neither the split into words
        nor which tokens are special. `load` uses GPT-2's split, and every token that no text
        encodes to becomes special.

        Args:
            folder: The folder. It is created if it does not exist.

        Returns:
            The path of the folder.

        Raises:
            ValueError: The files cannot store the tokenizer: its split is not GPT-2's, an
                added token is not special, or the special tokens are not exactly the tokens that
                no text encodes to.

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
                "`save_vocabulary` needs a tokenizer with GPT-2's split into words whose added "
                "tokens are all special; vocab.json and merges.txt cannot store another one. Use "
                "`save`."
            )
        vocabulary = self._vocabulary | self._added_tokens
        if self._special_tokens != literal_tokens(vocabulary, self._merges):
            raise ValueError(
                "`save_vocabulary` needs a tokenizer whose special tokens are exactly the tokens "
                "that no text encodes to, because vocab.json and merges.txt do not store which "
                "tokens are special. Use `save`."
            )
        check_merges_are_whole(vocabulary, self._merges)
        return write_vocabulary_files(folder, vocabulary, self._merges)


def _gpt2_safe_cut(text: str) -> int:
    border = _LAST_BORDER.match(text)
    return border.end() if border else 0
