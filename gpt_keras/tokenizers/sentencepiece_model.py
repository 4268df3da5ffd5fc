"""The vocabulary and the settings in a SentencePiece `.model` file."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.tokenizer import META_SPACE

# `SentencePiece.Type` of the format.
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6

# `TrainerSpec.ModelType` of the format.
_BYTE_PAIR = 2

_SPACE = META_SPACE.encode()


@dataclasses.dataclass(frozen=True)
class SentencePieceModel:
    """The vocabulary of a model, and how its pieces become text again.

    Attributes:
        token_bytes: The bytes of each token, in the order of the ids. A control token has none, a
            byte token has its one byte.
        first_bytes: The same for tokens that begin a text: without the space that encoding put
            there.
        passes_on: Whether the token after this one begins the text as well, where this one does.
        ids: All tokens as the vocabulary writes them, and their ids.
        is_byte_pair: Whether pieces are found by byte-pair encoding; else by a unigram model.
        control_ids: The control tokens, such as `<s>` and `</s>`, and their ids.
        start_of_text_id: Id of the token that begins a text, which is `<s>` unless the model names
            another; None if the vocabulary has none.
        end_of_text_id: Id of the token that ends a text, which is `</s>` unless the model names
            another; None if the vocabulary has none.
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
        """Return the bytes of a text."""
        start = next((k for k, i in enumerate(ids) if not self.passes_on[i]), len(ids)) + 1
        first = [self.first_bytes[i] for i in ids[:start]]
        return b"".join(first + [self.token_bytes[i] for i in ids[start:]])

    def with_added_tokens(self, tokens: Sequence[AddedToken]) -> "SentencePieceModel":
        """Return a model with further tokens, whose ids follow those of the vocabulary."""
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
    """Read a `.model` file, which is one protocol buffer message.

    Args:
        data: The bytes of the file.

    Raises:
        ValueError: They are no such message, hold no pieces, or ask for a denormalizer.
    """
    try:
        message = _message_class()()
        message.ParseFromString(data)
        texts = [piece.piece.decode("utf-8") for piece in message.pieces]
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no SentencePiece model: {error}") from error
    if not texts:
        raise ValueError("it holds no pieces.")
    if message.denormalizer_spec.precompiled_charsmap:
        raise ValueError("it has a denormalizer, which rewrites decoded text; none is known here.")
    types = [piece.type for piece in message.pieces]
    token_bytes = [_token_bytes(piece, message.trainer_spec) for piece in message.pieces]
    control_ids = {text: i for i, text in enumerate(texts) if types[i] == _CONTROL}

    # As SentencePiece decodes: the first piece that is not control loses the one space that may
    # have been put there; where white space was squeezed, so does every piece until there is text.
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
            raise ValueError(f"{piece.piece!r} of it is not a byte.") from error
    return piece.piece.replace(_SPACE, b" ")


@functools.cache
def _message_class() -> Callable:
    """The fields of the format's `ModelProto` that are needed here; the others are skipped."""
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
    pool = descriptor_pool.DescriptorPool()  # one of its own: sentencepiece has the same messages
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gpt_keras.Model"))


_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {"bytes": _FIELD.TYPE_BYTES, "bool": _FIELD.TYPE_BOOL, "int32": _FIELD.TYPE_INT32}
_MESSAGE = _FIELD.TYPE_MESSAGE
