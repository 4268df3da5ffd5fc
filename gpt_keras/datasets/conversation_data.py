"""Conversations as token ids for `fit`, with the loss on the assistant's tokens."""

import bisect
import dataclasses
import json
import warnings
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.chat.template import ChatTemplate
from gpt_keras.checks import check_rate, check_seed
from gpt_keras.datasets.conversation_rows import (
    ConversationRow,
    conversation_of,
    exchanges,
    form_of,
)
from gpt_keras.datasets.encoded_rows import encode_rows, length_limit, train_and_validation
from gpt_keras.datasets.masked_sequences import MaskedSequences
from gpt_keras.records import Row
from gpt_keras.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class ConversationReport:
    """Counts of what `gk.datasets.conversations` found.

    `print(report)` shows them as text.

    Attributes:
        num_rows: Number of conversations that were read.
        num_duplicates: Number of conversations that equal an earlier one.
        num_shortened: Number of conversations that lost their oldest exchanges, because they were
            too long.
        num_exchanges_dropped: Number of exchanges that they lost: a message of the user with its
            answers.
        num_too_long: Number of conversations that were dropped, because their last exchange is too
            long by itself.
        num_without_end: Number of conversations whose last answer does not end with one of the
            model's `end_token_ids`. A model that is trained on them does not learn to stop.
        counts: For each split, the number of conversations.
        num_tokens: For each split, the number of tokens.
        num_trained: For each split, the number of tokens that are trained on.
    """

    num_rows: int
    num_duplicates: int
    num_shortened: int
    num_exchanges_dropped: int
    num_too_long: int
    num_without_end: int
    counts: dict[str, int]
    num_tokens: dict[str, int]
    num_trained: dict[str, int]

    def __str__(self) -> str:
        lines = [f"conversations read: {self.num_rows}"]
        lines += [
            f"{split}: {count} ({self.num_tokens[split]} tokens, "
            f"{self.num_trained[split]} trained on)"
            for split, count in self.counts.items()
        ]
        lines.append(f"equal to an earlier conversation: {self.num_duplicates}")
        lines.append(
            f"shortened: {self.num_shortened} ({self.num_exchanges_dropped} exchanges dropped)"
        )
        lines.append(f"dropped, last exchange over the length: {self.num_too_long}")
        lines.append(f"without an end token after the answer: {self.num_without_end}")
        return "\n".join(lines)


class ConversationData(NamedTuple):
    """Conversations for training and validation.

    Attributes:
        train: The training part.
        validation: The validation part; None if its fraction is 0.
        report: Counts of conversations and tokens, and of what was too long.
    """

    train: MaskedSequences
    validation: MaskedSequences | None
    report: ConversationReport


class _Encoded(NamedTuple):
    """A conversation as token ids.

    Attributes:
        token_ids: Ids, int32 `(length,)`.
        mask: Bool array `(length,)`, True where a token is trained on.
        num_dropped: Number of exchanges that were dropped.
    """

    token_ids: np.ndarray
    mask: np.ndarray
    num_dropped: int


def conversations(
    source: Any,
    model: Any,
    *,
    sequence_length: int | None = None,
    assistant_only_loss: bool = True,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> ConversationData:
    r"""Read conversations, and make token ids of them for instruction tuning.

    The first row shows the form of all rows:

    - `messages`: a list of `{"role": ..., "content": ...}`, with `tool_calls` and messages of the
      role `tool` where functions are called. A column `tools` has their JSON schemas.
    - `conversations` (ShareGPT): a list of `{"from": ..., "value": ...}`. `from` is `human`, `gpt`,
      `system`, `tool` or another common name; `function_call` has the call as JSON. Columns
      `system` and `tools` are read if they exist.
    - `instruction`, `input` and `output` (Alpaca): one question and one answer. `input` may be
      empty; otherwise it follows `instruction` on a new line. Columns `system` and `history` (a
      list of earlier pairs) are read if they exist.

    In a CSV file, lists are written as JSON.

    The model's chat template makes a text of each conversation; `gk.chat.add_chatml` adds a
    template to a model without one. The loss is computed on the tokens that the assistant writes,
    the end token of each answer included. `ChatTemplate.encode_with_mask` says which tokens these
    are, and `train.runs(0, model.tokenizer)` shows them as text.

    A conversation that is too long loses its oldest exchanges: a message of the user with all its
    answers. The system message stays. If the last exchange alone is too long, the conversation is
    dropped. `report` counts both.

    All checks run before any training. The split draws whole conversations.
    Conversations with equal messages, the answers excepted, are in the same part.

    Args:
        source: A table as in `gk.records.read_rows`: the path of a JSON Lines, JSON, CSV or parquet
            file, a `pandas.DataFrame`, or an iterable of dicts.
        model: A `CausalLM` with a tokenizer and a chat template. Its weights are not used.
        sequence_length: Largest number of input tokens of a row. Default: the model's
            `max_sequence_length`.
        assistant_only_loss: Whether the loss ignores all tokens but the assistant's. If False, all
            tokens are trained on.
        validation_fraction: Fraction of the conversations for validation, in [0, 1).
        seed: Seed of the split.

    Returns:
        A `ConversationData`. `model.fit(data.train, validation_data=data.validation)` trains on it,
        and `data.train.batches(batch_size, seed=0)` makes the dataset that `fit` uses.

    Raises:
        ValueError: An argument is out of range, the model has no tokenizer or chat template, or a
            part is empty. Or a row has another form, no answer, an unknown role, roles out of
            order, or an empty content. Or the template refuses a conversation, or it is unknown
            which tokens are the assistant's. The message gives file and line, and the places of
            further such rows.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.BytePairTokenizer.train("hello", 260)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
        >>> model = gk.chat.add_chatml(gk.GPTCausalLM(config, tokenizer=tokenizer))
        >>> rows = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(10)]
        >>> data = gk.datasets.conversations(rows, model, validation_fraction=0.2)
        >>> for text, is_trained in data.train.runs(0, model.tokenizer):
        ...     print(is_trained, repr(text))
        False '<|im_start|>user\nSay 2.<|im_end|>\n<|im_start|>assistant\n'
        True '2<|im_end|>'
        >>> print(data.report)
        conversations read: 10
        train: 8 (216 tokens, 16 trained on)
        validation: 2 (54 tokens, 4 trained on)
        equal to an earlier conversation: 0
        shortened: 0 (0 exchanges dropped)
        dropped, last exchange over the length: 0
        without an end token after the answer: 0
    """
    check_rate("validation_fraction", validation_fraction)
    check_seed(seed)
    template, tokenizer = _template(model)
    limit = length_limit(model, sequence_length)
    form = None

    def encode(row: Row) -> tuple[ConversationRow, _Encoded | None]:
        nonlocal form
        form = form or form_of(row)
        conversation = conversation_of(row, form)
        return conversation, _encode(conversation, template, tokenizer, limit, assistant_only_loss)

    read, encoded = zip(*encode_rows(source, encode, "conversations"))
    kept = [i for i, found in enumerate(encoded) if found is not None]
    if not kept:
        raise ValueError(
            f"Each of the {len(read)} conversations is too long: its last exchange has more than "
            f"{limit} tokens. Give a larger `sequence_length`, or shorter conversations."
        )
    questions = [_key(read[i], without_answers=True) for i in kept]
    used = [encoded[i] for i in kept]
    parts = {
        name: MaskedSequences(
            tuple(found.token_ids for found in own), tuple(found.mask for found in own)
        )
        for name, own in train_and_validation(
            used, questions, validation_fraction, seed, "conversations with equal questions"
        ).items()
    }
    whole = [_key(conversation) for conversation in read]
    report = ConversationReport(
        num_rows=len(read),
        num_duplicates=len(whole) - len(set(whole)),
        num_shortened=sum(found.num_dropped > 0 for found in used),
        num_exchanges_dropped=sum(found.num_dropped for found in used),
        num_too_long=len(encoded) - len(kept),
        num_without_end=sum(
            not _has_end(found.token_ids, model.end_token_ids, tokenizer) for found in used
        ),
        counts={name: len(part.token_ids) for name, part in parts.items()},
        num_tokens={name: sum(map(len, part.token_ids)) for name, part in parts.items()},
        num_trained={name: part.num_trained for name, part in parts.items()},
    )
    _warn(report, limit, model.end_token_ids)
    return ConversationData(parts["train"], parts.get("validation"), report)


def _template(model: Any) -> tuple[ChatTemplate, Tokenizer]:
    lacking = [
        name for name in ("tokenizer", "chat_template") if getattr(model, name, None) is None
    ]
    if lacking:
        raise ValueError(
            f"`model` must be a CausalLM with a tokenizer and a chat_template; it has no "
            f"{' and no '.join(lacking)}. gk.chat.add_chatml(model) adds a chat template."
        )
    return ChatTemplate(model.chat_template), model.tokenizer


def _encode(
    conversation: ConversationRow, template, tokenizer, limit, assistant_only_loss
) -> _Encoded | None:
    """Return a conversation as ids, without its oldest exchanges if it is too long."""
    system, parts = exchanges(conversation.messages)

    def shortened(start: int) -> _Encoded:
        messages = [*system, *(message for part in parts[start:] for message in part)]
        try:
            return _Encoded(
                *_masked(messages, conversation, template, tokenizer, assistant_only_loss), start
            )
        except ValueError as error:
            raise ValueError(f"{conversation.place}: {error}") from error

    def fits(found: _Encoded) -> bool:
        return limit is None or len(found.token_ids) <= limit + 1  # the last one is only a target

    found = shortened(0)
    if fits(found):
        return found
    # The longer the rest, the more tokens it has.
    start = bisect.bisect_left(
        range(len(parts)), True, lo=1, key=lambda start: fits(shortened(start))
    )
    return shortened(start) if start < len(parts) else None


def _masked(
    messages, conversation, template, tokenizer, assistant_only_loss
) -> tuple[np.ndarray, np.ndarray]:
    if not assistant_only_loss:
        ids = template.encode(messages, tokenizer, False, conversation.tools)
        if len(ids) < 2:
            raise ValueError("the chat template writes fewer than 2 tokens.")
        return np.array(ids, np.int32), np.ones(len(ids), bool)
    ids, mask = template.encode_with_mask(messages, tokenizer, conversation.tools)
    mask = np.array(mask, bool)
    if not mask[1:].any():
        raise ValueError("the chat template writes no text of the assistant.")
    length = np.flatnonzero(mask)[-1] + 1  # no token after the last answer is a target
    return np.array(ids[:length], np.int32), mask[:length]


def _key(conversation: ConversationRow, without_answers: bool = False) -> str:
    """Return a text that is equal for equal conversations, whatever their white space."""
    messages = [
        message
        for message in conversation.messages
        if not (without_answers and message["role"] == "assistant")
    ]
    return json.dumps(list(_normalized(messages)), sort_keys=True, default=str)


def _normalized(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, dict):
        return {name: _normalized(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_normalized(entry) for entry in value]
    return value


def _has_end(token_ids: np.ndarray, end_token_ids: tuple[int, ...], tokenizer: Tokenizer) -> bool:
    """Return whether only white space follows the last end token, if there is one."""
    ends = np.flatnonzero(np.isin(token_ids, end_token_ids))
    return len(ends) > 0 and not tokenizer.decode(token_ids[ends[-1] + 1 :].tolist()).strip()


def _warn(report: ConversationReport, limit: int | None, end_token_ids: tuple[int, ...]) -> None:
    if report.num_shortened or report.num_too_long:
        warnings.warn(
            f"{report.num_shortened} of {report.num_rows} conversations have more than {limit} "
            f"input tokens and lost {report.num_exchanges_dropped} of their oldest exchanges; "
            f"{report.num_too_long} were dropped, because their last exchange is too long.",
            stacklevel=3,
        )
    if report.num_without_end:
        warnings.warn(
            f"{report.num_without_end} conversations do not end with one of the model's "
            f"end_token_ids, {list(end_token_ids)}: the model does not learn to stop. Set "
            "`model.end_token_ids` to the token that the chat template writes after an answer.",
            stacklevel=3,
        )
