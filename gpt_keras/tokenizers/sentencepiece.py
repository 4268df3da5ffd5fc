"""SentencePiece models, as in Llama, T5 and many others."""

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
    """The tokenizer in a SentencePiece `.model` file, of either kind, unigram or byte-pair.

    A text is normalized as the file says, spaces are written as `▁`, one is usually put in front,
    and the whole is cut into pieces of the vocabulary; characters outside it become the tokens of
    their UTF-8 bytes where the model has byte fallback, or else `<unk>`. So what comes back from
    `decode` is the normalized text: often with line ends turned into spaces and spaces squeezed.

    Ids and decoded text are those of the `sentencepiece` package, with two exceptions. Bytes that
    are not valid UTF-8, from ids that hold parts of a character, decode to U+FFFD as in every
    tokenizer here, not one for each byte. And in text where special tokens are allowed, each part
    between them is encoded by itself, so that it gets a space in front of its own.

    Pieces that the model defines as control tokens (`<s>`, `</s>`) are the special tokens; they
    decode to nothing. Those that it defines as user's symbols are found in every text.

    SentencePiece is from Kudo and Richardson 2018, "SentencePiece: A simple and language
    independent subword tokenizer and detokenizer for Neural Text Processing". The engine is the op
    of tensorflow-text, in Python and in a graph: `pip install 'gpt_keras[text]'`. A SavedModel
    with this tokenizer inside needs that op, so whoever loads it must `import tensorflow_text`
    first (which imports Keras), and a server must have it linked in.

    Args:
        model: The bytes of a `.model` file.
        added_tokens: Further tokens, with the ids that follow those of the model. They decode to
            their text.
        boundaries: The tokens that begin and end a text; None for those of the model.

    Raises:
        ValueError: `model` is not a SentencePiece model.
        ImportError: Tensorflow-text is not installed.

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
                f"`model` must be the bytes of a .model file, but is of type "
                f"{type(model).__name__}; for its path there is `from_file`."
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
        """A tokenizer with the same engine, which takes long to make."""
        new = copy.copy(self)
        vars(new).pop("_digest", None)  # computed at first use
        new._add(tokens, boundaries)
        return new

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "SentencePieceTokenizer":
        """Read a `.model` file.

        Args:
            path: The file.

        Raises:
            ValueError: There is no such file, or it is not a SentencePiece model.
            ImportError: Tensorflow-text is not installed.
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
        """Number of ids, control tokens included."""
        return len(self._model.token_bytes)

    @property
    def end_of_text_id(self) -> int | None:
        """Id of `</s>`, or of the token that the model has in its place; None without one."""
        return self._declared.end_of_text_id

    @property
    def start_of_text_id(self) -> int | None:
        """Id of `<s>`, or of the token that the model has in its place; None without one."""
        return self._declared.start_of_text_id

    @property
    def adds_start_of_text(self) -> bool:
        """Whether the model's prompts and training documents begin with `start_of_text_id`."""
        return self._declared.adds_start_of_text

    @property
    def special_tokens(self) -> dict[str, int]:
        """The control tokens and the special ones that were added, and their ids."""
        return dict(self._model.control_ids)

    @property
    def strips_before(self) -> Collection[int]:
        """Ids of the special tokens that take the white space before them."""
        return [token.token_id for token in self._added if token.lstrip]

    @property
    def strips_after(self) -> Collection[int]:
        """Ids of the special tokens that take the white space after them."""
        return [token.token_id for token in self._added if token.rstrip]

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, given as the vocabulary writes it; None if there is none."""
        return self._model.ids.get(token)

    def _written(self, token_id: int | None) -> str | None:
        return next((token for token, i in self._model.ids.items() if i == token_id), None)

    @property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """The tokens that were added to those of the model."""
        return self._added

    @property
    def is_byte_pair(self) -> bool:
        """Whether the model is of the byte-pair kind, as Llama's; else it is a unigram model."""
        return self._model.is_byte_pair

    def save_model(self, path: str | os.PathLike) -> Path:
        """Write the `.model` file, without added tokens.

        Args:
            path: The file.

        Returns:
            Its path.
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
            return self._encode_with(self._always_found, texts)  # in whose parts is none of them
        try:
            data = [text.encode() for text in texts]
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`text` must be valid Unicode, but {error.object[:60]!r} has a lone surrogate."
            ) from error
        with tf.init_scope():  # also where a graph is being traced
            return self._engine(tf.constant(data, tf.string, shape=[len(data)])).to_list()

    def _decode_one(self, ids: list[int]) -> str:
        return self._model.join(ids).decode("utf-8", errors="replace")

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes that each id stands for, as `Tokenizer.pieces` describes.

        They are of the normalized text, with the space that encoding put before the first word.
        """
        return [self._model.token_bytes[i] for i in self._checked(ids)]

    def ends_inside_character(self, ids: Sequence[int]) -> bool:
        """Whether a further id may complete a character that `ids` end in the middle of."""
        end = b""
        for i in reversed(ids):
            end = self._model.token_bytes[i] + end
            if len(end) >= 3:
                break
        return incomplete_length(end) > 0

    def in_graph(self, allowed_special: AllowedSpecial = ()) -> keras.layers.Layer:
        """Return a Keras layer that does the same with TensorFlow ops.

        As `Tokenizer.in_graph` describes, except that a SavedModel with it needs the op of
        tensorflow-text: `import tensorflow_text` before loading it. Bytes that are not valid UTF-8
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
        """Return the content as JSON text; the `.model` file is in it in base64."""
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
        """Make a tokenizer from what `to_json` returned."""
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
    """A function from `(batch,)` strings to ragged int32 ids."""
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(
            "`SentencePieceTokenizer` needs tensorflow-text: pip install 'gpt_keras[text]'"
        ) from error

    # The op that holds the model belongs to this function. One that is made eagerly is lost with
    # TensorFlow's cache of kernels, which `tf.random.set_seed` empties.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def tokenize(strings):
        return tensorflow_text.SentencepieceTokenizer(model).tokenize(strings)

    with tf.init_scope():  # also where a graph is being traced
        tokenize(tf.constant([], tf.string))  # raises if the model is not one
    return tokenize
