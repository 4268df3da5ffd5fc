"""Tokenizer of SentencePiece models, as in Llama, T5 and many others."""

import base64
import copy
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from gpt_keras.atomic import atomic_file
from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.boundaries import Boundaries
from gpt_keras.tokenizers.in_graph.sentencepiece import InGraphSentencePieceTokenizer
from gpt_keras.tokenizers.sentencepiece_model import SentencePieceModel, parse
from gpt_keras.tokenizers.tokenizer import AllowedSpecial, Tokenizer
from gpt_keras.tokenizers.utf8 import incomplete_length


class SentencePieceTokenizer(Tokenizer):
    """Tokenizer of a SentencePiece `.model` file: unigram or byte-pair encoding.

    Encoding normalizes a text as the file specifies and writes spaces as `▁`. It usually puts one
    more space in front (the prefix space). Then it splits the text into pieces of the vocabulary. A
    character outside the vocabulary becomes the tokens of its UTF-8 bytes if the model has byte
    fallback, else `<unk>`. So `decode` returns the normalized text, in which line breaks have often
    become spaces and runs of spaces one space.

    Ids and decoded text equal the `sentencepiece` package's, with two exceptions:

    - An incomplete character decodes to one U+FFFD, as in every tokenizer of this package;
      `sentencepiece` writes one for each byte.
    - Where special tokens are allowed in a text, each part between them is encoded by itself and
      gets its own prefix space.

    The model's control symbols (`<s>`, `</s>`) are the special tokens; they decode to no text. Its
    user-defined symbols are found in every text.

    The source is Kudo and Richardson 2018, "SentencePiece: A simple and language independent
    subword tokenizer and detokenizer for Neural Text Processing".

    The engine is an op of tensorflow-text, both in Python and in a graph
    (`pip install 'gpt_keras[text]'`). A SavedModel with this tokenizer needs that op. Python
    must run `import tensorflow_text` (which imports Keras) before loading it; a server must link
    the op.

    Args:
        model: The bytes of a `.model` file.
        added_tokens: Further tokens; their ids follow the model's ids. They decode to their text.
        boundaries: Tokens that begin and end a text; None for the model's own tokens.

    Raises:
        ValueError: `model` is not a SentencePiece model.
        ImportError: Package tensorflow-text is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.SentencePieceTokenizer.from_file(
        ...     "llama/tokenizer.model"
        ... )  # doctest: +SKIP
        >>> tokenizer.encode("Hello world")  # doctest: +SKIP
        [15043, 3186]
    """

    def __init__(
        self,
        model: bytes,
        added_tokens: Sequence[AddedToken] = (),
        boundaries: Boundaries | None = None,
    ):
        if not isinstance(model, bytes):
            raise ValueError(
                f"`model` must be the bytes of a .model file, got {type(model).__name__}. "
                "To load a path, use `from_file`."
            )
        self._bytes = model
        try:
            self._own_model: SentencePieceModel = parse(model)
            self._engine = _engine(model)
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"`model` must be the bytes of a SentencePiece .model file, but these "
                f"{len(model):,} are not: {getattr(error, 'message', error)}"
            ) from error
        self._add(added_tokens, boundaries)

    def _add(self, tokens: Sequence[AddedToken], boundaries: Boundaries | None) -> None:
        self._added = tuple(AddedToken(*token) for token in tokens)
        self._model = self._own_model.with_added_tokens(self._added)
        self._always_found = {t.text: t.token_id for t in self._added if not t.is_special}
        own = Boundaries(self._model.start_of_text_id, self._model.end_of_text_id, False)
        self._declared = own if boundaries is None else Boundaries(*boundaries)
        self._has_own_boundaries = self._declared == own

    def _copy(
        self, tokens: Sequence[AddedToken], boundaries: Boundaries
    ) -> "SentencePieceTokenizer":
        """Return a tokenizer with the same engine, which is slow to make."""
        new = copy.copy(self)
        vars(new).pop("_digest", None)  # computed at first use
        new._add(tokens, boundaries)
        return new

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "SentencePieceTokenizer":
        """Load a `.model` file.

        Args:
            path: The path of the file.

        Returns:
            The tokenizer.

        Raises:
            ValueError: There is no such file, or it is not a SentencePiece model.
            ImportError: Package tensorflow-text is not installed.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"`path`: there is no tokenizer file {str(path)!r}.")
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{str(path)!r} is not a tokenizer file: {error}") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, including control symbols and added tokens."""
        return len(self._model.token_bytes)

    @property
    def end_of_text_id(self) -> int | None:
        """Id of the token that ends a text, usually `</s>`, or None."""
        return self._declared.end_of_text_id

    @property
    def start_of_text_id(self) -> int | None:
        """Id of the token that begins a text, usually `<s>`, or None."""
        return self._declared.start_of_text_id

    @property
    def adds_start_of_text(self) -> bool:
        """True if prompts and training documents begin with `start_of_text_id`."""
        return self._declared.adds_start_of_text

    @property
    def special_tokens(self) -> dict[str, int]:
        """Control symbols and added special tokens, and their ids."""
        return dict(self._model.control_ids)

    @property
    def strips_before(self) -> Collection[int]:
        """Ids of special tokens that remove the white space before them."""
        return [token.token_id for token in self._added if token.lstrip]

    @property
    def strips_after(self) -> Collection[int]:
        """Ids of special tokens that remove the white space after them."""
        return [token.token_id for token in self._added if token.rstrip]

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, or None if the vocabulary lacks the token.

        Args:
            token: The token as the vocabulary writes it, such as `▁the`.
        """
        return self._model.ids.get(token)

    def _written(self, token_id: int | None) -> str | None:
        return next((token for token, i in self._model.ids.items() if i == token_id), None)

    @property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """Tokens that were added to the model's own tokens."""
        return self._added

    @property
    def is_byte_pair(self) -> bool:
        """True for a byte-pair model, such as Llama's; False for a unigram model."""
        return self._model.is_byte_pair

    def save_model(self, path: str | os.PathLike) -> Path:
        """Write the `.model` file, without the added tokens.

        Args:
            path: The path of the file.

        Returns:
            The path of the file.
        """
        path = Path(path)
        with atomic_file(path) as temporary:
            temporary.write_bytes(self._bytes)
        return path

    def _with_added_tokens(self, tokens: list[AddedToken]) -> "SentencePieceTokenizer":
        return self._copy([*self._added, *tokens], self._declared)

    def _with_first_ids(self, count: int) -> Tokenizer:
        kept = [token for token in self._added if token.token_id < count]
        tokenizer = self._copy(kept, self._declared)
        return tokenizer if tokenizer.vocabulary_size <= count else super()._with_first_ids(count)

    def _with_boundaries(self, boundaries: Boundaries) -> "SentencePieceTokenizer":
        return self._copy(self._added, boundaries)

    def _encode_batch(self, texts: list[str]) -> list[list[int]]:
        if any(token in text for token in self._always_found for text in texts):
            return self._encode_with(self._always_found, texts)  # no part holds one of them
        try:
            data = [text.encode() for text in texts]
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`text` must be valid Unicode, but {error.object[:60]!r} has a lone surrogate."
            ) from error
        with tf.init_scope():  # runs eagerly even while a graph is traced
            return self._engine(tf.constant(data, tf.string, shape=[len(data)])).to_list()

    def _decode_one(self, ids: list[int]) -> str:
        return self._model.join(ids).decode("utf-8", errors="replace")

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes of each token, as `Tokenizer.pieces` describes.

        They are bytes of the normalized text, including the prefix space of the first word.
        """
        return [self._model.token_bytes[i] for i in self._checked(ids)]

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Return whether `ids` end inside a character that a next id may complete."""
        end = b""
        for i in reversed(ids):
            end = self._model.token_bytes[i] + end
            if len(end) >= 3:
                break
        return incomplete_length(end) > 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return this tokenizer as a Keras layer made of TensorFlow ops.

        `Tokenizer.in_graph` describes the layer. In addition, a SavedModel needs the op of
        tensorflow-text: `import tensorflow_text` before you load it. Bytes that are not valid UTF-8
        are read as U+FFFD.

        Args:
            allowed_special: As in `encode`.

        Returns:
            An `InGraphSentencePieceTokenizer`.
        """
        return InGraphSentencePieceTokenizer(
            self,
            self._always_found | self._allowed(allowed_special),
            self._engine,
            self._model,
        )

    def to_json(self) -> str:
        """Return the content as JSON text, with the `.model` file in base64."""
        content = {
            "type": "SentencePieceTokenizer",
            "model": base64.b64encode(self._bytes).decode("ascii"),
        }
        if self._added:
            content["added_tokens"] = [token._asdict() for token in self._added]
        if not self._has_own_boundaries:
            content |= self._declared._asdict()
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "SentencePieceTokenizer":
        """Build a tokenizer from the text that `to_json` returned."""
        content = json.loads(text)
        fields = Boundaries._fields
        return cls(
            base64.b64decode(content["model"], validate=True),
            [AddedToken(**token) for token in content.get("added_tokens", [])],
            Boundaries(*(content[f] for f in fields)) if fields[0] in content else None,
        )

    def __reduce__(self):
        return type(self), (self._bytes, self._added, self._declared)


def _engine(model: bytes) -> tf.types.experimental.PolymorphicFunction:
    """Return a function from `(batch,)` strings to ragged int32 ids."""
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(
            "`SentencePieceTokenizer` needs tensorflow-text: pip install 'gpt_keras[text]'"
        ) from error

    # The op holds the model and must belong to this function. An op that is created eagerly belongs
    # to TensorFlow's cache of kernels, which `tf.random.set_seed` empties.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize(strings):
        return tensorflow_text.SentencepieceTokenizer(model).tokenize(strings)

    with tf.init_scope():  # runs eagerly even while a graph is traced
        tokenize(tf.constant([], tf.string))  # raises an error if the model is invalid
    return tokenize
