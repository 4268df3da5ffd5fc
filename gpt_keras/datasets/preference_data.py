"""Preferences as pairs of token ids for `DPO`, split by prompt."""

import dataclasses
import json
import warnings
from typing import Any, NamedTuple

import numpy as np

from gpt_keras.chat.template import ChatTemplate
from gpt_keras.checks import check_positive_int, check_rate, check_seed
from gpt_keras.datasets.preference_pairs import PreferencePairs
from gpt_keras.datasets.preference_rows import Preference, exchanges, preference_of
from gpt_keras.datasets.splits import draw_splits, units_of
from gpt_keras.records import read_rows

_SHOWN_PLACES = 5


@dataclasses.dataclass(frozen=True)
class PreferenceReport:
    """Counts of what `gk.datasets.preferences` found.

    `print(report)` shows them as text.

    Attributes:
        num_rows: Number of rows that were read.
        num_prompts: Number of different prompts.
        num_duplicates: Number of rows that equal an earlier one.
        num_contradictions: Number of rows that an earlier row contradicts: the same prompt, with
            `chosen` and `rejected` exchanged.
        num_shortened: Number of prompts that lost their beginning, because they were too long.
        num_without_end: Number of answers that do not end with one of the model's `end_token_ids`.
            The preference does not include that they stop.
        counts: For each split, the number of pairs.
    """

    num_rows: int
    num_prompts: int
    num_duplicates: int
    num_contradictions: int
    num_shortened: int
    num_without_end: int
    counts: dict[str, int]

    def __str__(self) -> str:
        lines = [f"pairs read: {self.num_rows} ({self.num_prompts} prompts)"]
        lines += [f"{split}: {count}" for split, count in self.counts.items()]
        lines.append(f"equal to an earlier pair: {self.num_duplicates}")
        lines.append(f"contradicting an earlier pair: {self.num_contradictions}")
        lines.append(f"prompts over the length (shortened): {self.num_shortened}")
        lines.append(f"answers without an end token: {self.num_without_end}")
        return "\n".join(lines)


class PreferenceData(NamedTuple):
    """Preferences for training and validation.

    Attributes:
        train: The training part.
        validation: The validation part; None if its fraction is 0.
        report: Counts of rows and prompts, and of what was too long.
    """

    train: PreferencePairs
    validation: PreferencePairs | None
    report: PreferenceReport


class _Encoded(NamedTuple):
    """A pair as token ids; `is_shortened` if the prompt lost its beginning."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    is_shortened: bool


def preferences(
    source: Any,
    model: Any,
    *,
    sequence_length: int | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> PreferenceData:
    r"""Read prompts with a chosen and a rejected answer, and make token ids of them.

    The columns are the names of trl: `prompt`, `chosen` and `rejected`. Each row has one of these
    forms:

    - Three texts. The answers directly follow the prompt, so a space between them must be in one of
      them. An end token is added to the answers.
    - `prompt` is a list of messages, dicts of `role` and `content`; `chosen` and `rejected` are
      lists of messages of the assistant, usually one.
    - `chosen` and `rejected` are whole conversations. The messages that both begin with are the
      prompt. A column `prompt` is not needed; it may be a text that is one of these messages.
    - `prompt` is a text, and the answers are messages: the prompt is a message of the user.

    In a CSV file, lists are written as JSON. A column `tools` has JSON schemas of functions.

    The model's chat template makes texts of messages. The prompt is rendered with the generation
    prompt, as `generate` receives it. An answer is the text that the template writes after the
    prompt, up to the end token. Prompt and answer are encoded apart, as in generation.

    A prompt that is too long loses its beginning: tokens of a text, or the oldest exchanges of
    messages. The system message stays. `report` counts these prompts.

    All checks run before any training. Pairs with the same prompt are in the same part.

    Args:
        source: A table as in `gk.records.read_rows`: the path of a JSON Lines, JSON, CSV or parquet
            file, a `pandas.DataFrame`, or an iterable of dicts.
        model: A `CausalLM` with a tokenizer, and with a chat template if there are messages. Its
            weights are not used.
        sequence_length: Largest number of input tokens of a row, prompt and answer together.
            Default: the model's `max_sequence_length`.
        validation_fraction: Fraction of the pairs for validation, in [0, 1).
        seed: Seed of the split.

    Returns:
        A `PreferenceData`. `DPO.fit` takes its parts.

    Raises:
        ValueError: An argument is out of range, the model has no tokenizer or chat template, or a
            part is empty. Or a row lacks its prompt, an answer is empty or does not fit, both
            answers are equal, a message has the wrong role, or the template refuses a conversation.
            The message gives file and line, and the places of further such rows.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("0123456789+= ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=14)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> rows = [{"prompt": f"{i}+1=", "chosen": f"{i + 1}", "rejected": "0"} for i in range(9)]
        >>> data = gk.datasets.preferences(rows, model, validation_fraction=0.2)
        >>> data.train.texts(0, tokenizer)
        ('0+1=', '1<|endoftext|>', '0<|endoftext|>')
        >>> data.report.counts
        {'train': 7, 'validation': 2}
    """
    check_rate("validation_fraction", validation_fraction)
    check_seed(seed)
    if getattr(model, "tokenizer", None) is None:
        raise ValueError("`model` must be a CausalLM with a tokenizer, got one without.")
    limit = model.max_sequence_length
    if sequence_length is not None:
        check_positive_int("sequence_length", sequence_length)
        if limit is not None and sequence_length > limit:
            raise ValueError(
                f"`sequence_length` must be at most {limit}, the model's max_sequence_length; got "
                f"{sequence_length}."
            )
        limit = sequence_length
    read, encoded = _encode_all(source, model, limit)

    prompts = [_key(preference.prompt) for preference in read]
    fractions = [1 - validation_fraction, validation_fraction]
    splits = draw_splits(np.zeros(len(read), np.int64), units_of(prompts), fractions, seed)
    parts = {}
    for number, (name, fraction) in enumerate(zip(("train", "validation"), fractions)):
        own = [pair for pair, split in zip(encoded, splits) if split == number]
        if fraction and not own:
            raise ValueError(
                f"The {name} part is empty: its fraction is {fraction:g} of {len(read)} pairs, of "
                "which those with equal prompts stay together. Change `validation_fraction` (0 for "
                "no validation part), or give more pairs."
            )
        if fraction:
            columns = zip(*((pair.prompt, pair.chosen, pair.rejected) for pair in own))
            parts[name] = PreferencePairs(
                *(tuple(np.array(ids, np.int32) for ids in column) for column in columns)
            )
    seen, num_duplicates, num_contradictions = set(), 0, 0
    for prompt, preference in zip(prompts, read):
        answers = _key(preference.chosen), _key(preference.rejected)
        num_duplicates += (prompt, *answers) in seen
        num_contradictions += (prompt, *answers[::-1]) in seen
        seen.add((prompt, *answers))
    report = PreferenceReport(
        num_rows=len(read),
        num_prompts=len(set(prompts)),
        num_duplicates=num_duplicates,
        num_contradictions=num_contradictions,
        num_shortened=sum(pair.is_shortened for pair in encoded),
        num_without_end=sum(
            answer[-1] not in model.end_token_ids
            for pair in encoded
            for answer in (pair.chosen, pair.rejected)
        ),
        counts={name: len(part) for name, part in parts.items()},
    )
    _warn(report, limit)
    return PreferenceData(parts["train"], parts.get("validation"), report)


def _encode_all(source, model, limit) -> tuple[list[Preference], list[_Encoded]]:
    """Read and encode all pairs.

    Raises:
        ValueError: Rows are wrong: the error of the first, with the places of the others.
    """
    template = None if model.chat_template is None else ChatTemplate(model.chat_template)
    read, encoded, wrong = [], [], []
    for row in read_rows(source):
        try:
            preference = preference_of(row)
            read.append(preference)
            encoded.append(_encode(preference, model, template, limit))
        except ValueError as error:
            wrong.append((row.place, error))
    if wrong:
        places = [place for place, _ in wrong[1:]]
        more = ""
        if places:
            more = f" {len(places)} more rows have errors: {'; '.join(places[:_SHOWN_PLACES])}"
            more += "; ..." if len(places) > _SHOWN_PLACES else "."
        raise ValueError(f"{wrong[0][1]}{more}") from wrong[0][1]
    if not read:
        raise ValueError("`source` must have pairs, but is empty.")
    return read, encoded


def _encode(preference: Preference, model, template, limit) -> _Encoded:
    try:
        if isinstance(preference.prompt, str):
            return _encode_texts(preference, model, limit)
        if template is None:
            raise ValueError(
                "the row has messages, but the model has no chat_template. Set one, or give texts."
            )
        return _encode_messages(preference, model, template, limit)
    except ValueError as error:
        raise ValueError(f"{preference.place}: {error}") from error


def _encode_texts(preference, model, limit) -> _Encoded:
    tokenizer = model.tokenizer
    prompt = tokenizer.encode(preference.prompt)
    end = list(model.end_token_ids[:1])
    answers = []
    for answer in (preference.chosen, preference.rejected):
        # As in generation, no token spans the end of the prompt. `encode_parts` adds no space at
        # the beginning of the answer, which `encode` of some tokenizers would do.
        both = tokenizer.encode_parts([preference.prompt, answer])
        answers.append([*both[len(prompt) :], *end])
    start = [*tokenizer.prompt_start]
    _check_answers(answers)
    room = _room(answers, limit)
    if room is None or len(start) + len(prompt) <= room:
        return _Encoded([*start, *prompt], *answers, False)
    if room < len(start) + 1:
        raise _too_long(answers, len(start) + 1, limit)
    return _Encoded([*start, *prompt[len(prompt) - room + len(start) :]], *answers, True)


def _encode_messages(preference, model, template, limit) -> _Encoded:
    tokenizer, tools = model.tokenizer, preference.tools
    first, rest = exchanges(preference.prompt)
    for start in range(len(rest)):
        messages = [*first, *(message for exchange in rest[start:] for message in exchange)]
        prompt = template.encode(messages, tokenizer, tools=tools)
        answers = [
            _answer(prompt, [*messages, *answer], template, model, tools)
            for answer in (preference.chosen, preference.rejected)
        ]
        _check_answers(answers)
        room = _room(answers, limit)
        if room is None or len(prompt) <= room:
            return _Encoded(prompt, *answers, start > 0)
    raise _too_long(answers, len(prompt), limit)


def _answer(prompt, messages, template, model, tools) -> list[int]:
    """Return the ids that the template writes after the prompt, up to the end token."""
    whole = template.encode(messages, model.tokenizer, add_generation_prompt=False, tools=tools)
    if whole[: len(prompt)] != prompt:
        raise ValueError(
            "the chat template writes the prompt in another way when an answer follows, so it is "
            "unknown where the answer begins. Give the rows as texts."
        )
    answer = whole[len(prompt) :]
    ends = [i for i, token_id in enumerate(answer) if token_id in model.end_token_ids]
    # Templates write a line end after the end token, which no answer of `generate` has.
    return answer[: ends[-1] + 1] if ends else answer


def _check_answers(answers) -> None:
    for name, answer in zip(("chosen", "rejected"), answers):
        if not answer:
            raise ValueError(f"`{name}` must have an answer, but has no tokens.")
    if answers[0] == answers[1]:
        raise ValueError("`chosen` and `rejected` must differ, but have equal tokens.")


def _room(answers, limit) -> int | None:
    """Return the largest number of tokens of the prompt."""
    if limit is None:
        return None
    return limit + 1 - max(map(len, answers))  # the last token is only a target


def _too_long(answers, num_prompt, limit) -> ValueError:
    return ValueError(
        f"the answers must fit into sequence_length={limit}: they have {len(answers[0])} and "
        f"{len(answers[1])} tokens, and the shortest prompt has {num_prompt}. Remove the row, or "
        "give a larger `sequence_length`."
    )


def _key(value) -> str:
    """Return a text that is equal for equal prompts and answers."""
    return json.dumps(value, sort_keys=True, default=str)


def _warn(report: PreferenceReport, limit) -> None:
    if report.num_contradictions:
        warnings.warn(
            f"{report.num_contradictions} of {report.num_rows} pairs contradict an earlier pair: "
            "the same prompt, with `chosen` and `rejected` exchanged.",
            stacklevel=3,
        )
    if report.num_shortened:
        warnings.warn(
            f"{report.num_shortened} of {report.num_rows} prompts lost their beginning: prompt and "
            f"answer have more than sequence_length={limit} tokens.",
            stacklevel=3,
        )
