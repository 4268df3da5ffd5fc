"""Vocabulary and settings of a SentencePiece `.model` file."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.tokenizer import META_SPACE

# Values of `SentencePiece.Type` in the format.
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6

# Value of `TrainerSpec.ModelType` in the format.
_BYTE_PAIR = 2

_SPACE = META_SPACE.encode()


@dataclasses.dataclass(frozen=True)
class SentencePieceModel:
    """Vocabulary of a SentencePiece model, and the rules that turn pieces into text.

    Attributes:
        token_bytes: The bytes of each token, in the order of the ids. A control symbol has
            no bytes; a byte token has one byte.
        first_bytes: The bytes of each token where it begins a text: without the prefix space that
            encoding added.
        passes_on: Whether each token leaves the text at its beginning: if the token begins a text,
            the next token begins it, too.
        ids: All tokens as the vocabulary writes them, and their ids.
        is_byte_pair: Whether the model uses byte-pair encoding; False for a unigram model.
        control_ids: The control symbols, such as `<s>` and `</s>`, and their ids.
        start_of_text_id: Id of the token that begins a text, `<s>` unless the model names another.
            None if the vocabulary lacks it.
        end_of_text_id: Id of the token that ends a text, `</s>` unless the model names another.
            None if the vocabulary lacks it.
    """

    token_bytes: tuple[bytes, ...]
    first_bytes: tuple[bytes, ...]
    passes_on: tuple[bool, ...]
    ids: dict[str, int]
    is_byte_pair: bool
    control_ids: dict[str, int]
    start_of_text_id: int | None
    end_of_text_id: int | None

    def join(self, ids: list[int]) -> bytes:
        """Return the bytes of the text that ids decode to."""
        start = next((k for k, i in enumerate(ids) if not self.passes_on[i]), len(ids)) + 1
        first = [self.first_bytes[i] for i in ids[:start]]
        return b"".join(first + [self.token_bytes[i] for i in ids[start:]])

    def with_added_tokens(self, tokens: Sequence[AddedToken]) -> "SentencePieceModel":
        """Return a model with further tokens; their ids follow the vocabulary's ids."""
        more = tuple(token.text.encode() for token in tokens)
        special = {token.text: token.token_id for token in tokens if token.is_special}
        return dataclasses.replace(
            self,
            token_bytes=self.token_bytes + more,
            first_bytes=self.first_bytes + more,
            passes_on=self.passes_on + (False,) * len(more),
            ids=self.ids | {token.text: token.token_id for token in tokens},
            control_ids=self.control_ids | special,
        )


def parse(data: bytes) -> SentencePieceModel:
    """Parse a `.model` file, which is one protocol buffer message.

    Args:
        data: The bytes of the file.

    Returns:
        The vocabulary and settings of the model.

    Raises:
        ValueError: The bytes are not a SentencePiece model, hold no pieces, or specify a
            denormalizer.
    """
    try:
        message = _message_class()()
        message.ParseFromString(data)
        texts = [piece.piece.decode("utf-8") for piece in message.pieces]
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not a SentencePiece model: {error}") from error
    if not texts:
        raise ValueError("it holds no pieces.")
    if message.denormalizer_spec.precompiled_charsmap:
        raise ValueError(
            "it has a denormalizer (rules that rewrite decoded text), which is not supported."
        )
    types = [piece.type for piece in message.pieces]
    token_bytes = [_token_bytes(piece, message.trainer_spec) for piece in message.pieces]
    control_ids = {text: i for i, text in enumerate(texts) if types[i] == _CONTROL}

    # SentencePiece's rules of decoding: the first piece that is not a control symbol loses one
    # space at its beginning. If the model removes extra white space, every piece loses it until one
    # has text.
    spec = message.normalizer_spec
    first_bytes = list(token_bytes)
    if spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        for i, piece in enumerate(message.pieces):
            if types[i] not in (_UNKNOWN, _CONTROL, _BYTE) and piece.piece.startswith(_SPACE):
                first_bytes[i] = token_bytes[i][1:]
    silent = first_bytes if spec.remove_extra_whitespaces else token_bytes
    return SentencePieceModel(
        token_bytes=tuple(token_bytes),
        first_bytes=tuple(first_bytes),
        passes_on=tuple(not data for data in silent),
        ids={text: i for i, text in enumerate(texts)},
        is_byte_pair=message.trainer_spec.model_type == _BYTE_PAIR,
        control_ids=control_ids,
        start_of_text_id=control_ids.get(message.trainer_spec.bos_piece.decode("utf-8", "replace")),
        end_of_text_id=control_ids.get(message.trainer_spec.eos_piece.decode("utf-8", "replace")),
    )


def _token_bytes(piece, trainer_spec) -> bytes:
    if piece.type == _CONTROL:
        return b""
    if piece.type == _UNKNOWN:
        return trainer_spec.unk_surface
    if piece.type == _BYTE:  # written as <0xE8>
        try:
            return bytes([int(piece.piece[1:-1], 16)])
        except ValueError as error:
            raise ValueError(f"its byte token {piece.piece!r} is not a byte.") from error
    return piece.piece.replace(_SPACE, b" ")


@functools.cache
def _message_class() -> Callable:
    """Return the message class for the format's `ModelProto`.

    It has only the fields that are needed here; parsing skips the other fields.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="gpt_keras/sentencepiece_model.proto", package="gpt_keras", syntax="proto2"
    )

    def add_message(name: str, *fields: tuple) -> None:
        message = file.message_type.add(name=name)
        for field, number, kind, default in fields:
            repeated = field.endswith("s") and kind == "Piece"
            added = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in _KINDS:
                added.type, added.default_value = _KINDS[kind], default
            else:
                added.type, added.type_name = _MESSAGE, f".gpt_keras.{kind}"

    add_message("Piece", ("piece", 1, "bytes", ""), ("type", 3, "int32", "1"))
    add_message(
        "TrainerSpec",
        ("model_type", 3, "int32", "1"),
        ("unk_surface", 44, "bytes", r" \342\201\207 "),
        ("bos_piece", 46, "bytes", "<s>"),
        ("eos_piece", 47, "bytes", "</s>"),
    )
    add_message(
        "NormalizerSpec",
        ("precompiled_charsmap", 2, "bytes", ""),
        ("add_dummy_prefix", 3, "bool", "true"),
        ("remove_extra_whitespaces", 4, "bool", "true"),
    )
    add_message(
        "Model",
        ("pieces", 1, "Piece", None),
        ("trainer_spec", 2, "TrainerSpec", None),
        ("normalizer_spec", 3, "NormalizerSpec", None),
        ("denormalizer_spec", 5, "NormalizerSpec", None),
    )
    pool = descriptor_pool.DescriptorPool()  # not the default pool: sentencepiece uses that
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gpt_keras.Model"))


_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {"bytes": _FIELD.TYPE_BYTES, "bool": _FIELD.TYPE_BOOL, "int32": _FIELD.TYPE_INT32}
_MESSAGE = _FIELD.TYPE_MESSAGE
