"""Base class of the tokenizers whose engine is Hugging Face `tokenizers`."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import tokenizers

from gpt_keras.texts import is_unicode
from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.boundaries import Boundaries, read_boundaries, write_boundaries
from gpt_keras.tokenizers.cutting import cut_into_pieces
from gpt_keras.tokenizers.tokenizer import END_OF_TEXT, AllowedSpecial, Tokenizer

# The length of the pieces into which long texts are cut before encoding. The engine encodes pieces
# of this length faster than one long string.
PIECE_CHARACTERS = 1 << 14

# The tokens that end a text if the file declares no end of text. The first that exists is used.
# They are from GPT-2 and most other models, Llama 3, SentencePiece and Gemma, in this order.
END_OF_TEXT_TOKENS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")

# Options of a BPE model that change its ids and that the in-graph tokenizers do not support.
OPTIONS_NOT_IN_GRAPH = (
    "dropout",
    "ignore_merges",
    "continuing_subword_prefix",
    "end_of_word_suffix",
)


class EngineTokenizer(Tokenizer):
    """Base class of byte-pair encoding with an engine.

    The engine encodes the pieces of a batch in parallel.

    Args:
        engine: A `tokenizers.Tokenizer` with a BPE model.
        content: The content of its `tokenizer.json`.
        has_usual_split: Whether the engine treats text as a trained tokenizer of the subclass
            does. If False, there is no in-graph tokenizer, because only the engine can split text.
    """

    def __init__(
        self, engine: tokenizers.Tokenizer, content: dict[str, Any], has_usual_split: bool
    ):
        self._engine = engine
        # The text of a special token is encoded like any other text. `to_str` does not save this.
        engine.encode_special_tokens = True
        # Published files may enable truncation and padding to the sequence length of training.
        engine.no_truncation()
        engine.no_padding()
        self._merges = [
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
            for merge in content["model"]["merges"]
        ]
        self._added_tokens = {token["content"]: token["id"] for token in content["added_tokens"]}
        self._special_tokens = {
            token["content"]: token["id"] for token in content["added_tokens"] if token["special"]
        }
        self._declared = read_boundaries(content["post_processor"])
        self._strips = {
            side: frozenset(token["id"] for token in content["added_tokens"] if token[side])
            for side in ("lstrip", "rstrip")
        }
        self._always_found = {
            token: i for token, i in self._added_tokens.items() if token not in self._special_tokens
        }
        # The in-graph tokenizers cannot search for tokens that match only whole words or only
        # normalized text.
        odd = [
            token
            for token in content["added_tokens"]
            if token["content"] in self._always_found
            and (token["single_word"] or (token["normalized"] and content["normalizer"]))
        ]
        self._has_usual_split = has_usual_split and not odd

    def _require_usual_split(self, split: str) -> None:
        if not self._has_usual_split:
            raise ValueError(
                f"`in_graph` needs a tokenizer with {split}, and no added tokens for whole words "
                "or normalized text; this one was loaded from a file and differs."
            )

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs of tokens that are merged, the earliest learned first."""
        return list(self._merges)

    def _merges_of_ids(self, vocabulary: Mapping[str, int]) -> list[tuple[int, int, int]]:
        """Return the ids `(first, second, merged)` of each merge, in the order learned."""
        return [
            (vocabulary[first], vocabulary[second], vocabulary[first + second])
            for first, second in self._merges
        ]

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return dict(self._special_tokens)

    def _found(self, allowed_special: AllowedSpecial) -> dict[str, int]:
        """Return the tokens to search texts for, and their ids.

        These are all added tokens that are not special, and the special tokens that
        `allowed_special` names.
        """
        return self._always_found | self._allowed(allowed_special)

    @property
    def end_of_text_id(self) -> int | None:
        """Id of the token that ends a text, or None.

        The file may declare this token. Otherwise, it is the first of `<|endoftext|>`,
        `<|end_of_text|>`, `</s>` and `<eos>` that is a special token.
        """
        if self._declared.end_of_text_id is not None:
            return self._declared.end_of_text_id
        special = self._special_tokens
        return next((special[t] for t in END_OF_TEXT_TOKENS if t in special), None)

    @property
    def start_of_text_id(self) -> int | None:
        """Id of the token that begins a text, if the file declares one, or None."""
        return self._declared.start_of_text_id

    @property
    def adds_start_of_text(self) -> bool:
        """True if prompts and training documents begin with `start_of_text_id`."""
        return self._declared.adds_start_of_text

    @property
    def strips_before(self) -> Collection[int]:
        return self._strips["lstrip"]

    @property
    def strips_after(self) -> Collection[int]:
        return self._strips["rstrip"]

    def token_id(self, token: str) -> int | None:
        """Return the id of a token written as in the vocabulary, or None if missing.

        Args:
            token: A token. A byte-level vocabulary writes the token " to" as "Ġto".

        Returns:
            The id, or None if the vocabulary lacks the token.
        """
        return self._engine.token_to_id(token)

    def _written(self, token_id: int | None) -> str | None:
        return None if token_id is None else self._engine.id_to_token(token_id)

    def _with_added_tokens(self, tokens: list[AddedToken]) -> Self:
        content = json.loads(self._engine.to_str())
        content["added_tokens"] += [
            {
                "id": token.token_id,
                "content": token.text,
                "single_word": False,
                "lstrip": token.lstrip,
                "rstrip": token.rstrip,
                "normalized": False,
                "special": token.is_special,
            }
            for token in tokens
        ]
        return self.from_json(json.dumps(content))

    def _with_first_ids(self, count: int) -> Self:
        content = json.loads(self._engine.to_str())
        content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < count]
        vocabulary = content["model"]["vocab"]
        gone = {token for token, i in vocabulary.items() if i >= count}
        if not gone <= self._added_tokens.keys():
            return super()._with_first_ids(count)
        content["model"]["vocab"] = {t: i for t, i in vocabulary.items() if t not in gone}
        return self.from_json(json.dumps(content))

    def _with_boundaries(self, boundaries: Boundaries) -> Self:
        content = json.loads(self._engine.to_str())
        content["post_processor"] = write_boundaries(
            content["post_processor"], boundaries, self._engine.id_to_token
        )
        return self.from_json(json.dumps(content))

    def _encode_batch(self, texts: list[str]) -> list[list[int]]:
        return encode_in_pieces(self._engine, texts, self.safe_cut)

    def to_json(self) -> str:
        """Return the tokenizer as the text of a Hugging Face `tokenizer.json`."""
        return self._engine.to_str(pretty=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Create a tokenizer from the text of a `tokenizer.json`.

        Args:
            text: The text that `to_json` returned, or that of a Hugging Face tokenizer of the same
                kind.

        Returns:
            The tokenizer.

        Raises:
            ValueError: The tokenizer is of another kind.
        """
        return cls(tokenizers.Tokenizer.from_str(text))

    def __reduce__(self):
        return type(self).from_json, (self.to_json(),)


def encode_in_pieces(
    engine: tokenizers.Tokenizer, texts: list[str], safe_cut: Callable[[str], int]
) -> list[list[int]]:
    """Return the ids of each text; long texts are encoded in pieces.

    Args:
        engine: The engine that encodes.
        texts: Strings of any length.
        safe_cut: `Tokenizer.safe_cut`, or an equivalent function.

    Returns:
        A list of ids for each text.

    Raises:
        ValueError: A text has a lone surrogate.
    """
    pieces, counts = [], []
    for text in texts:
        if len(text) <= PIECE_CHARACTERS:
            cut = [text]
        else:
            cut = list(cut_into_pieces(iter([text]), safe_cut, PIECE_CHARACTERS))
        pieces += cut
        counts.append(len(cut))
    try:
        encodings = iter(engine.encode_batch_fast(pieces, add_special_tokens=False))
    except TypeError as error:  # the engine raises it for a lone surrogate, too
        bad = next((text for text in texts if not is_unicode(text)), None)
        if bad is None:
            raise
        raise ValueError(
            f"`text` must be valid Unicode, but {bad[:60]!r} has a lone surrogate."
        ) from error
    rows = []
    for count in counts:
        row = next(encodings).ids
        for _ in range(count - 1):
            row += next(encodings).ids
        rows.append(row)
    return rows
