"""A tokenizer with one id for each character."""

import json
from collections.abc import Iterable
from pathlib import Path

import keras

from gpt_keras.checks import renamed
from gpt_keras.corpus import iterate_documents
from gpt_keras.tokenizers.in_graph.character import InGraphCharacterTokenizer
from gpt_keras.tokenizers.tokenizer import END_OF_TEXT, AllowedSpecial, Tokenizer


class CharacterTokenizer(Tokenizer):
    r"""A tokenizer whose tokens are single characters (Unicode code points).

    This is the simplest tokenizer, for first lessons and small corpora. Its vocabulary is the
    given characters. `encode` raises a `ValueError` for any other character.

    Args:
        characters: The characters, each of them once. Their positions are the ids.
        end_of_text: Whether to add a last id for `<|endoftext|>`, which separates documents. It
            decodes to this literal string. Text encodes to it only where `allowed_special` names
            it.

    Raises:
        ValueError: `characters` is empty, holds a character twice, or has an entry that is not a
            single Unicode character.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ", end_of_text=True)
        >>> tokenizer.encode("a cab")
        [0, 3, 2, 0, 1]
        >>> tokenizer.decode([2, 0, 1, 4])
        'cab<|endoftext|>'
    """

    def __init__(self, characters: str | Iterable[str], end_of_text: bool = False):
        characters = list(characters)
        if not characters:
            raise ValueError("`characters` must hold at least one character, but is empty.")
        for character in characters:
            if not isinstance(character, str) or len(character) != 1:
                raise ValueError(f"`characters` must be single characters, but has {character!r}.")
            if "\ud800" <= character <= "\udfff":
                raise ValueError(
                    f"`characters` must be characters of valid Unicode text, but has the "
                    f"surrogate {character!r}."
                )
        self._ids = {character: i for i, character in enumerate(characters)}
        if len(self._ids) != len(characters):
            twice = sorted({c for c in characters if characters.count(c) > 1})
            raise ValueError(f"`characters` must be distinct, but {twice} occur twice or more.")
        self._end_of_text = bool(end_of_text)
        self._tokens = characters + [END_OF_TEXT] * self._end_of_text

    @classmethod
    @renamed(texts_or_paths="corpus")
    def train(
        cls,
        corpus: str | Path | Iterable,
        end_of_text: bool = False,
        keep_line_ends: bool = False,
        field: str = "text",
    ) -> "CharacterTokenizer":
        r"""Create a tokenizer from the characters of a corpus.

        Args:
            corpus: A corpus, as in `gk.datasets.language_modeling`. A `str` is text. A
                `pathlib.Path` is a file or a directory: text, or a table with a text in each row.
                Several texts, paths and rows may be in any container: a list, a generator, a NumPy
                array, a pandas Series.
            end_of_text: As in the constructor.
            keep_line_ends: Whether to keep the line ends `"\r\n"` and `"\r"` of text files
                instead of replacing them with `"\n"`.
            field: The column of tables and rows that holds the text.

        Returns:
            A tokenizer of the distinct characters, sorted by code point.

        Raises:
            ValueError: There is no text, an entry is neither text, a path nor a row, a path does
                not exist, or a file is damaged or not UTF-8.

        Example:
            >>> import gpt_keras as gk
            >>> gk.tokenizers.CharacterTokenizer.train("hello").characters
            'ehlo'
        """
        characters: set[str] = set()
        for document in iterate_documents(corpus, field):
            for piece in document.pieces(keep_line_ends):
                characters.update(piece)
        if not characters:  # only a byte order mark
            raise ValueError("`corpus` holds no text.")
        return cls(sorted(characters), end_of_text=end_of_text)

    @property
    def characters(self) -> str:
        """The characters of the vocabulary, in the order of their ids."""
        return "".join(self._ids)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, the one for `<|endoftext|>` included."""
        return len(self._tokens)

    @property
    def end_of_text_id(self) -> int | None:
        """Id of `<|endoftext|>`, the last id; None without `end_of_text=True`."""
        return len(self._ids) if self._end_of_text else None

    def _encode_batch(self, texts: list[str]) -> list[list[int]]:
        try:
            return [[self._ids[character] for character in text] for text in texts]
        except KeyError:
            unknown = sorted(set().union(*texts) - self._ids.keys())
            raise ValueError(
                f"`text` holds characters that this tokenizer does not know: {unknown}. "
                f"Its vocabulary has {len(self._ids)}: {self.characters[:60]!r}"
                f"{'...' if len(self._ids) > 60 else ''}."
            ) from None

    def _decode_one(self, ids: list[int]) -> str:
        return "".join([self._tokens[i] for i in ids])

    def safe_cut(self, text: str) -> int:
        """Return `len(text)`: a cut between two characters never changes the ids."""
        return len(text)

    @property
    def special_tokens(self) -> dict[str, int]:
        """`<|endoftext|>` and its id; empty without `end_of_text=True`."""
        return {END_OF_TEXT: self.end_of_text_id} if self._end_of_text else {}

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return a Keras layer that tokenizes with TensorFlow ops.

        `Tokenizer.in_graph` describes the layer. It returns the same ids as `encode`. For a
        character outside the vocabulary, it raises `tf.errors.InvalidArgumentError`.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphCharacterTokenizer`.

        Raises:
            ValueError: Keras does not run on TensorFlow.

        Example:
            >>> import gpt_keras as gk
            >>> layer = gk.tokenizers.CharacterTokenizer("abc ").in_graph()
            >>> layer(["a cab", "b"]).to_list()
            [[0, 3, 2, 0, 1], [1]]
        """
        return InGraphCharacterTokenizer(
            self, self._allowed(allowed_special), self.characters, self._tokens
        )

    def to_json(self) -> str:
        """Return the tokenizer as JSON text, which `from_json` reads."""
        content = {
            "type": "CharacterTokenizer",
            "characters": self.characters,
            "end_of_text": self._end_of_text,
        }
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "CharacterTokenizer":
        """Create a tokenizer from JSON text.

        Args:
            text: The text that `to_json` returned.

        Returns:
            The tokenizer.

        Example:
            >>> import gpt_keras as gk
            >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc")
            >>> gk.tokenizers.CharacterTokenizer.from_json(tokenizer.to_json()) == tokenizer
            True
        """
        content = json.loads(text)
        return cls(content["characters"], end_of_text=content["end_of_text"])
