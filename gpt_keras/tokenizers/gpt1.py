"""GPT-1's tokenizer: byte-pair encoding (BPE) of words in lower case."""

import collections
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from gpt_keras.checks import renamed
from gpt_keras.tokenizers.engine import EngineTokenizer
from gpt_keras.tokenizers.in_graph.gpt1 import InGraphGPT1Tokenizer
from gpt_keras.tokenizers.tokenizer import AllowedSpecial
from gpt_keras.tokenizers.training import (
    add_special_tokens,
    check_room,
    check_training,
    iterate_pieces,
)
from gpt_keras.tokenizers.vocabulary_files import (
    check_merges,
    check_vocabulary,
    write_vocabulary_files,
)

END_OF_WORD = "</w>"
UNKNOWN = "<unk>"

# Characters that are white space to the engine in every context.
_BLANKS = re.compile(r"[ \t\n\r]+")

_OPTIONS_NOT_IN_GRAPH = (
    "dropout",
    "ignore_merges",
    "continuing_subword_prefix",
    "fuse_unk",
    "byte_fallback",
)


class GPT1Tokenizer(EngineTokenizer):
    """GPT-1's tokenizer: byte-pair encoding (BPE) of words in lower case.

    Text is normalized: control characters and accents are removed, and letters become lower case.
    It is split at white space, and around each punctuation mark and each Chinese character.
    Inside a word, the pair of tokens that was learned earliest is merged first. This repeats until
    no learned pair is left.

    A character at the end of a word has its own token, which ends in `</w>`. A character outside
    the vocabulary becomes `<unk>`. This is a special token only if a loaded file declares it as
    one. `decode(encode(text))` is the normalized text with one space between words.

    GPT-1 is from Radford et al. 2018, "Improving Language Understanding by Generative
    Pre-Training", section 4.1. Its vocabulary has 40,478 ids. This class returns the ids of Hugging
    Face's `OpenAIGPTTokenizer`, with which the published model is mostly used. OpenAI's original
    pipeline differs:

    - `ftfy` repairs the text, and dashes, ellipses and acute accents become ASCII.
    - spaCy's English rules split the text into words: "don't" into "do" and "n't".
    - Line ends are tokens, and accented letters keep their accents.

    The engine is Hugging Face `tokenizers`.

    Create a tokenizer with `train`, `from_vocabulary` or `gpt_keras.tokenizers.load`.

    Args:
        engine: A `tokenizers.Tokenizer` with a BPE model whose words end in `</w>`.

    Raises:
        ValueError: `engine` is of another kind.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.GPT1Tokenizer.from_vocabulary(
        ...     {"<unk>": 0, "h": 1, "i": 2, "i</w>": 3, "!</w>": 4, "hi</w>": 5}, [("h", "i</w>")]
        ... )
        >>> tokenizer.encode("Hi hi!")
        [5, 5, 4]
        >>> tokenizer.decode([5, 5, 4])
        'hi hi !'
    """

    def __init__(self, engine: tokenizers.Tokenizer):
        content = json.loads(engine.to_str())
        model, decoder = content["model"], content["decoder"]
        if (
            model["type"] != "BPE"
            or model["end_of_word_suffix"] != END_OF_WORD
            or decoder != {"type": "BPEDecoder", "suffix": END_OF_WORD}
            or model["unk_token"] not in model["vocab"]
        ):
            raise ValueError(
                f"`engine` must be BPE with words that end in {END_OF_WORD!r} (a BPE model with "
                "this `end_of_word_suffix` and an `unk_token` of its vocabulary, and a BPEDecoder "
                f"with this suffix), got {model['type']} with end_of_word_suffix "
                f"{model.get('end_of_word_suffix')!r}, unk_token {model.get('unk_token')!r} and "
                f"decoder {decoder}."
            )
        super().__init__(
            engine,
            content,
            has_usual_split=_is_bert_normalizer(content["normalizer"])
            and content["pre_tokenizer"] == {"type": "BertPreTokenizer"}
            and not any(model.get(option) for option in _OPTIONS_NOT_IN_GRAPH),
        )
        self._vocabulary = model["vocab"]
        self._unknown_id = self._vocabulary[model["unk_token"]]
        ids = self._vocabulary | self._added_tokens
        self._tokens = [""] * (max(ids.values()) + 1)
        self._ends_word = [False] * len(self._tokens)
        for token, i in ids.items():
            self._tokens[i] = token.removesuffix(END_OF_WORD)
            self._ends_word[i] = token.endswith(END_OF_WORD)

    @classmethod
    @renamed(texts_or_paths="corpus")
    def train(
        cls,
        corpus: str | Path | Iterable,
        vocabulary_size: int,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = (),
        verbose: int = 0,
        keep_line_ends: bool = False,
        field: str = "text",
    ) -> "GPT1Tokenizer":
        r"""Train a tokenizer: learn the merges from a corpus.

        The same corpus gives the same tokenizer. The ids are in GPT-1's order: `<unk>`, the
        characters of the corpus, the same characters at the end of a word, the merges in the order
        they were learned. The special tokens have the last ids.

        Args:
            corpus: A corpus, as in `gk.datasets.language_modeling`. A `str` is text. A
                `pathlib.Path` is a file or a directory: text, or a table with a text in each row.
                Several texts, paths and rows may be in any container: a list, a generator, a NumPy
                array, a pandas Series.
            vocabulary_size: Number of ids to learn, characters and special tokens included. If a
                small corpus has too few pairs to merge, the `vocabulary_size` of the tokenizer is
                smaller.
            min_frequency: The smallest number of occurrences at which a pair is merged.
            special_tokens: Tokens that text encodes to only where `allowed_special` names them. If
                `<|endoftext|>` is one of them, its id is `end_of_text_id`. The published GPT-1 has
                no special tokens.
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
            >>> tokenizer = gk.tokenizers.GPT1Tokenizer.train(
            ...     "Low, low, lower, lowest, newest, newest", vocabulary_size=30
            ... )
            >>> tokenizer.pieces(tokenizer.encode("Slow, LOWEST!"))
            [b's', b'low ', b', ', b'lo', b'west ', b'<unk>']
        """
        special_tokens = check_training(vocabulary_size, min_frequency, special_tokens)
        engine = _new_engine({UNKNOWN: 0}, [])
        counts: collections.Counter[str] = collections.Counter()
        for piece in iterate_pieces(corpus, _safe_cut, keep_line_ends, field):
            counts.update(_BLANKS.split(piece))
        written = " ".join(sorted(set("".join(counts))))
        characters = sorted(set(engine.normalizer.normalize_str(written)) - {" "})
        if not characters:
            raise ValueError("`corpus` holds no text.")
        symbols = [UNKNOWN, *characters, *(character + END_OF_WORD for character in characters)]
        check_room(
            vocabulary_size,
            len(symbols),
            f"for {UNKNOWN} and {len(characters)} characters inside and at the end of words",
            special_tokens,
        )
        engine.train_from_iterator(
            _repeated(counts),
            trainers.BpeTrainer(
                vocab_size=vocabulary_size - len(special_tokens),
                min_frequency=min_frequency,
                show_progress=verbose > 0,
                end_of_word_suffix=END_OF_WORD,
                # The list fixes the ids of the characters. Otherwise, the trainer gives ids to
                # characters at the end of words in an arbitrary order, and this order decides
                # which of two equally frequent pairs is merged first.
                special_tokens=symbols,
            ),
        )
        model = json.loads(engine.to_str())["model"]
        engine = _new_engine(model["vocab"], [tuple(merge) for merge in model["merges"]])
        add_special_tokens(engine, special_tokens)
        return cls(engine)

    @classmethod
    def from_vocabulary(
        cls, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
    ) -> "GPT1Tokenizer":
        """Create a tokenizer from a vocabulary and its merges, such as OpenAI's.

        Args:
            vocabulary: The tokens and their ids, which are 0 to n - 1. Tokens at the end of words
                end in `</w>`. The vocabulary must contain `<unk>`.
            merges: The pairs of tokens that are merged, the earliest learned first.

        Returns:
            The tokenizer.

        Raises:
            ValueError: The ids are not 0 to n - 1, the vocabulary lacks `<unk>` or a token of a
                merge, or a merge occurs twice.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.GPT1Tokenizer.from_vocabulary(
            ...     {"<unk>": 0, "a": 1, "a</w>": 2, "aa</w>": 3}, [("a", "a</w>")]
            ... )
            >>> tokenizer.encode("a aa aaa b")
            [2, 3, 1, 3, 0]
        """
        check_vocabulary(vocabulary)
        check_merges(vocabulary, merges)
        if UNKNOWN not in vocabulary:
            raise ValueError(f"the vocabulary must hold the token {UNKNOWN!r}, but lacks it")
        merges = [tuple(merge) for merge in merges]
        if len(set(merges)) != len(merges):
            twice = next(m for m, count in collections.Counter(merges).items() if count > 1)
            raise ValueError(f"merges must be distinct, but {twice} occurs twice or more")
        return cls(_new_engine(dict(vocabulary), merges))

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._tokens)

    def _decode_one(self, ids: list[int]) -> str:
        return "".join(self._texts(ids))

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes of each id, with a space after each word except the last.

        `Tokenizer.pieces` describes the arguments and errors.
        """
        return [text.encode() for text in self._texts(self._checked(ids))]

    def _texts(self, ids: list[int]) -> list[str]:
        texts = [self._tokens[i] + " " if self._ends_word[i] else self._tokens[i] for i in ids]
        if ids:
            texts[-1] = self._tokens[ids[-1]]
        return texts

    def safe_cut(self, text: str) -> int:
        """Return a position where `text` can be cut without changing its ids.

        This is the place after the last space or line end. The result is 0 if the split is not
        GPT-1's or an added token is not special. See `Tokenizer.safe_cut`.
        """
        return _safe_cut(text) if self._has_usual_split and not self._always_found else 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return a Keras layer that tokenizes with TensorFlow ops.

        `Tokenizer.in_graph` describes the layer. It returns the same ids as `encode`, and its
        `detokenize` returns the same text as `decode`. Bytes that are not valid UTF-8 are removed.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphGPT1Tokenizer`.

        Raises:
            ValueError: The tokenizer was loaded from a file whose normalizer, split or options
                differ from GPT-1's, or Keras does not run on TensorFlow.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.GPT1Tokenizer.train("low low low lower lower", 20)
            >>> layer = tokenizer.in_graph()
            >>> layer(["Low, lower"]).to_list() == [tokenizer.encode("Low, lower")]
            True
        """
        self._require_usual_split(
            "GPT-1's split into words (a BertNormalizer for lower case without accents, a "
            "BertPreTokenizer)"
        )
        ids = self._vocabulary
        return InGraphGPT1Tokenizer(
            self,
            self._found(allowed_special),
            inside_ids={token: i for token, i in ids.items() if len(token) == 1},
            last_ids={token[0]: i for token, i in ids.items() if token[1:] == END_OF_WORD},
            unknown_id=self._unknown_id,
            merges=self._merges_of_ids(ids),
            tokens=self._tokens,
            ends_word=self._ends_word,
        )

    def save_vocabulary(self, folder: str | os.PathLike) -> Path:
        """Write `vocab.json` and `merges.txt`, the files of Hugging Face's GPT-1 classes.

        `gpt_keras.tokenizers.load` reads them, too. The files do not store which tokens are
        special, so the loaded tokenizer has no special tokens.

        Args:
            folder: The folder. It is created if it does not exist.

        Returns:
            The path of the folder.

        Raises:
            ValueError: The tokenizer has a special token other than `<unk>`, or its split is not
                GPT-1's.

        Example:
            >>> import tempfile
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.GPT1Tokenizer.train("low low low lower lower", 20)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     folder = tokenizer.save_vocabulary(folder)
            ...     gk.tokenizers.load(folder) == tokenizer
            True
        """
        others = sorted(self._special_tokens.keys() - {UNKNOWN})
        if others or not self._has_usual_split:
            raise ValueError(
                "`save_vocabulary` needs a tokenizer with GPT-1's split into words and no special "
                f"tokens except {UNKNOWN!r}, because vocab.json and merges.txt cannot store "
                f"others; this one has {others or 'another split'}. Use `save`."
            )
        return write_vocabulary_files(folder, self._vocabulary, self._merges)


def _new_engine(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    engine = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token=UNKNOWN, end_of_word_suffix=END_OF_WORD
        )
    )
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.BPEDecoder(suffix=END_OF_WORD)
    return engine


def _is_bert_normalizer(part: dict | None) -> bool:
    """Return whether a `normalizer` of `tokenizer.json` equals that of `_new_engine`."""
    return bool(
        part
        and part["type"] == "BertNormalizer"
        and part["clean_text"]
        and part["handle_chinese_chars"]
        and part["strip_accents"] in (None, True)  # None stands for the value of `lowercase`
        and part["lowercase"]
    )


def _safe_cut(text: str) -> int:
    return 1 + max(text.rfind(" "), text.rfind("\n"))


def _repeated(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield each word as often as it was counted, in strings of up to 1,000 words."""
    words = itertools.chain.from_iterable(
        itertools.repeat(word, count) for word, count in counts.items()
    )
    while some := list(itertools.islice(words, 1000)):
        yield " ".join(some)
