"""Answers of a language model to held-out questions, before and after training."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

# Number of held-out questions that the model answers, and of the answers that are printed.
_NUM_QUESTIONS, _NUM_SHOWN = 16, 3
_SHOWN_CHARACTERS = 160

_LEAST_NEW_TOKENS, _MOST_NEW_TOKENS = 32, 256


class Questions(NamedTuple):
    """Held-out questions with right answers.

    Attributes:
        prompts: For each question, the token ids of the prompt.
        references: For each question, named right answers as text.
        max_new_tokens: Largest number of tokens of an answer.
        num_long: Number of questions that leave no room for an answer, and are not asked.
    """

    prompts: list[list[int]]
    references: list[dict[str, str]]
    max_new_tokens: int
    num_long: int


class Answers(NamedTuple):
    """Answers to questions.

    Attributes:
        texts: The answers.
        share_stopped: Share of the answers that ended by themselves.
        seconds: Duration.
    """

    texts: list[str]
    share_stopped: float
    seconds: float


def choose_questions(
    model,
    rows: Sequence[tuple[Sequence[int], dict[str, Sequence[int]]]],
    max_new_tokens: int | None,
) -> Questions:
    """Return questions, evenly from all rows, that leave room for an answer.

    Args:
        model: The model.
        rows: For each question, the ids of the prompt, and of named right answers.
        max_new_tokens: Largest number of tokens of an answer; None for twice the longest right
            answer of the chosen questions.
    """
    limit = model.max_sequence_length
    rows = list({tuple(map(int, row[0])): row for row in rows if len(row[0])}.values())
    rows = rows[:: max(1, len(rows) // _NUM_QUESTIONS)][:_NUM_QUESTIONS]
    if max_new_tokens is None:
        longest = max((len(ids) for _, right in rows for ids in right.values()), default=0)
        max_new_tokens = min(max(2 * longest, _LEAST_NEW_TOKENS), _MOST_NEW_TOKENS)
    if limit is not None:
        max_new_tokens = min(max_new_tokens, limit // 2)
        kept = [row for row in rows if len(row[0]) + max_new_tokens <= limit]
    else:
        kept = rows
    decode, ends = model.tokenizer.decode, model.end_token_ids
    return Questions(
        prompts=[list(map(int, prompt)) for prompt, _ in kept],
        references=[
            {name: decode([int(i) for i in ids if i not in ends]) for name, ids in right.items()}
            for _, right in kept
        ],
        max_new_tokens=max_new_tokens,
        num_long=len(rows) - len(kept),
    )


def answer(model, questions: Questions) -> Answers | None:
    """Return the answers of a model by greedy decoding; None without questions."""
    if not questions.prompts:
        return None
    began = time.perf_counter()
    found = model.generate_with_scores(
        questions.prompts, max_new_tokens=questions.max_new_tokens, temperature=0
    )
    found = [continuations[0].token_ids for continuations in found]
    return Answers(
        texts=[model.tokenizer.decode(ids) for ids in found],
        # An end token is not a part of the ids.
        share_stopped=statistics.fmean(len(ids) < questions.max_new_tokens for ids in found),
        seconds=time.perf_counter() - began,
    )


def _samples(model, questions: Questions, before: Answers, after: Answers) -> list[dict[str, str]]:
    """Return prompts with right answers and the answers before and after training."""
    return [
        {"prompt": model.tokenizer.decode(prompt), **right, "before": old, "after": new}
        for prompt, right, old, new in zip(
            questions.prompts, questions.references, before.texts, after.texts, strict=True
        )
    ]


def _shown(samples: Sequence[dict[str, Any]]) -> str:
    """Return the first samples as text, each entry in one line."""
    blocks = []
    for sample in samples[:_NUM_SHOWN]:
        width = max(map(len, sample))
        lines = [f"{name:>{width}}  {_short(text, name)}" for name, text in sample.items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _short(text: str, name: str) -> str:
    text = " ".join(text.split())
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    if name == "prompt":  # its end is the question
        return "..." + text[3 - _SHOWN_CHARACTERS :]
    return text[: _SHOWN_CHARACTERS - 3] + "..."


def report_answers(
    model, questions: Questions, before: Answers | None, after: Answers | None, record
) -> None:
    """Print the answers before and after training, and add them to the record."""
    if questions.num_long:
        print(f"questions that leave no room for an answer, not asked: {questions.num_long}")
    if before is None:
        return
    found = _samples(model, questions, before, after)
    count = len(found)
    record.add_result(
        {
            "questions": count,
            "max_new_tokens": questions.max_new_tokens,
            "stopped_before": before.share_stopped,
            "stopped_after": after.share_stopped,
        }
    )
    record.add_samples(found)
    print(
        f"answers that stop by themselves within {questions.max_new_tokens} tokens: "
        f"{round(before.share_stopped * count)} of {count} before, "
        f"{round(after.share_stopped * count)} after"
    )
    print(f"\n{_shown(found)}\n")
