"""Evaluation of a model on a task."""

import itertools
import os
from pathlib import Path
from typing import Any

from gpt_keras.checks import check_positive_int
from gpt_keras.datasets import PromptTask
from gpt_keras.evaluation.tasks.answer import AnswerTask
from gpt_keras.evaluation.tasks.few_shot import FewShotTask
from gpt_keras.evaluation.tasks.loading import load_task
from gpt_keras.evaluation.tasks.task import EvaluationTask, TaskResult
from gpt_keras.models import CausalLM
from gpt_keras.records import read_rows


def evaluate(
    model: CausalLM,
    task: EvaluationTask | PromptTask | str | os.PathLike,
    source: Any,
    *,
    limit: int | None = None,
    batch_size: int = 8,
    num_examples: int | None = None,
    examples: Any = None,
) -> TaskResult:
    r"""Evaluate a model on a task.

    The model's weights and all random generators stay as they are, and twice gives equal results.

    Args:
        model: A `CausalLM` with a tokenizer, with or without a LoRA adapter.
        task: The task, its name, or its YAML file, as in `gk.evaluation.load_task`. A
            `gk.datasets.PromptTask` becomes a `gk.evaluation.AnswerTask`.
        source: A table as in `gk.records.read_rows`, with the task's columns.
        limit: Number of rows to use, the first ones. Default: all.
        batch_size: Number of rows in a batch.
        num_examples: Number of solved examples before each prompt. Default: that of the task.
        examples: A table with the solved examples; its first rows are used. Default: that of the
            task, or the task's `examples_file` in the folder of `source`.

    Returns:
        A `TaskResult`.

    Raises:
        ValueError: The model has no tokenizer, an argument is out of range, there are too few
            examples, or a row is wrong.
        ImportError: A package of the task is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=tokenizer.vocabulary_size)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> task = gk.evaluation.ChoiceTask(
        ...     name="letters", prompt="{{ text }}", choices="['b', 'b b']", answer="'b'",
        ...     metrics="acc",
        ... )
        >>> print(gk.evaluation.evaluate(model, task, [{"text": "a"}, {"text": "c"}]))
        letters: 2 items, 0 cut on the left
        acc 1.000 ± 0.000
    """
    if not isinstance(model, CausalLM) or model.tokenizer is None:
        raise ValueError(f"`model` must be a CausalLM with a tokenizer, got {model!r}.")
    check_positive_int("batch_size", batch_size)
    if limit is not None:
        check_positive_int("limit", limit)
    task = _with_examples(as_evaluation_task(task), source, num_examples, examples)
    rows = read_rows(source, task.columns)
    found = task.examples(rows if limit is None else itertools.islice(rows, limit))
    records = task.run(model, found, batch_size=batch_size)
    num_cut = sum(bool(record["was_cut"]) for record in records)
    return TaskResult(task.name, task.summarize(records), records, num_cut)


def as_evaluation_task(task: Any) -> EvaluationTask:
    """Return an evaluation task from a task, a `PromptTask`, a name, or a YAML file.

    Args:
        task: As in `evaluate`.

    Raises:
        ValueError: It is something else, or wrong as in `gk.evaluation.load_task`.
    """
    if isinstance(task, EvaluationTask):
        return task
    if isinstance(task, PromptTask):
        return AnswerTask.from_prompt_task(task)
    if isinstance(task, str | os.PathLike):
        return load_task(task)
    raise ValueError(
        "`task` must be an evaluation task such as gk.evaluation.ChoiceTask, a "
        f"gk.datasets.PromptTask, a name or a path; got {task!r}."
    )


def _with_examples(
    task: EvaluationTask, source: Any, num_examples: int | None, examples: Any
) -> EvaluationTask:
    if not isinstance(task, FewShotTask):
        if num_examples is not None or examples is not None:
            raise ValueError(
                f"`num_examples` and `examples` must be None for the task {task.name!r}, which has "
                f"no solved examples; got {num_examples!r} and {examples!r}."
            )
        return task
    task = task.with_examples(num_examples, examples)
    if examples is not None and not task.num_examples:
        raise ValueError("`num_examples` must be at least 1 where `examples` are given, got 0.")
    is_path = isinstance(source, str | os.PathLike)
    if task.num_examples and task.example_table is None and task.examples_file and is_path:
        task = task.with_examples(table=Path(source).parent / task.examples_file)
    return task
