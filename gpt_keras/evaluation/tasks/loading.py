"""Evaluation tasks by name, and from YAML files."""

import os
from pathlib import Path

from gpt_keras.datasets.prompt_task import SHIPPED as PROMPT_TASKS
from gpt_keras.datasets.task_files import find_task_file, read_task_file
from gpt_keras.evaluation.tasks.answer import AnswerTask
from gpt_keras.evaluation.tasks.choice import ChoiceTask
from gpt_keras.evaluation.tasks.continuation import ContinuationTask
from gpt_keras.evaluation.tasks.stereotype import StereotypeTask
from gpt_keras.evaluation.tasks.task import EvaluationTask

SHIPPED = Path(__file__).parents[1] / "data" / "tasks"

# The key `kind` of a YAML file chooses the class.
KINDS: dict[str, type[EvaluationTask]] = {
    "answer": AnswerTask,
    "choice": ChoiceTask,
    "continuation": ContinuationTask,
    "stereotype": StereotypeTask,
}


def load_task(source: str | os.PathLike) -> EvaluationTask:
    r"""Load an evaluation task by name, or from a YAML file.

    The key `kind` of the file is `choice`, `continuation`, `stereotype` or `answer`. The other keys
    are the arguments of `gk.evaluation.ChoiceTask`, `ContinuationTask`, `StereotypeTask` or
    `AnswerTask`. A file without
    `kind` is a `gk.datasets.PromptTask`, and becomes an `AnswerTask`.

    Args:
        source: Name of a task of this package, or the path of a file that ends in `.yaml` or
            `.yml`. The names are `piqa`, `openbookqa`, `commonsenseqa`, `boolq`, `arc_easy`,
            `arc_challenge`, `hellaswag`, `lambada`, `blimp`, `ceval`, `crows_pairs`,
            `stereoset`, and the names of `gk.datasets.PromptTask.load`.

    Returns:
        The task.

    Raises:
        ValueError: There is no such task or file; or the file is broken, has an unknown key, lacks
            one, or a value is wrong. The message gives the file and the line.
        ImportError: PyYAML or Jinja2 is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.evaluation.load_task("piqa")
        >>> row = {"goal": "Dry a shirt.", "sol1": "Hang it up.", "sol2": "Sink it.", "label": 0}
        >>> [example] = task.examples([row])
        >>> print(example.prompt + task.target_delimiter + example.choices[example.answer])
        Question: Dry a shirt.
        Answer: Hang it up.
    """
    file = read_task_file(find_task_file(source, PROMPT_TASKS, SHIPPED))
    kind = file.values.get("kind", "answer")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"{file.place('kind')}: `kind` must be one of {', '.join(KINDS)}; got {kind!r}."
        )
    return KINDS[kind].from_file(file)
