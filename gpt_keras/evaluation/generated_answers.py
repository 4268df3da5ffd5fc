"""Answers that a model generates to the prompts of a task, and their scores."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gpt_keras.chat.template import ChatTemplate
from gpt_keras.checks import check_choice, check_positive_int, check_seed
from gpt_keras.datasets import PromptExample, PromptTask
from gpt_keras.evaluation.short_answers import exact_match, token_f1
from gpt_keras.evaluation.text_overlap import RougeScores, bleu, chrf, rouge
from gpt_keras.generation import fold_in
from gpt_keras.generation.text_pieces import cut_at_stop
from gpt_keras.models import CausalLM

# Scores of single answers, whose mean is the score of all.
ANSWER_METRICS: dict[str, Callable[..., dict[str, float]]] = {
    "exact_match": lambda *texts: {"exact_match": exact_match(*texts)},
    "token_f1": lambda *texts: {"token_f1": token_f1(*texts)},
    "rouge": lambda *texts: rouge(*texts)._asdict(),
}

# Scores of a whole corpus, which are no means over the answers.
CORPUS_METRICS: dict[str, Callable[..., float]] = {
    "bleu": lambda *texts: bleu(*texts).score,
    "chrf": chrf,
}

# Names of metrics in a task.
METRICS = (*ANSWER_METRICS, *CORPUS_METRICS)


class Answer(NamedTuple):
    """Answer to one prompt.

    Attributes:
        prompt: The prompt.
        text: The answer, without stop string and without white space at its ends.
        references: The right answers.
        scores: The scores of this answer, for the metrics that are means over the answers:
            `exact_match`, `token_f1`, and the four of `rouge`.
        has_stopped: Whether the answer ended by itself, with an end token or a stop string. False
            if it reached its largest number of tokens.
        place: File and line of the row, or its number.

    Example:
        >>> import gpt_keras as gk
        >>> answer = gk.evaluation.Answer("1 + 2 =", "3", ("3",), {"exact_match": 1.0}, True, "row")
        >>> answer.text in answer.references
        True
    """

    prompt: str
    text: str
    references: tuple[str, ...]
    scores: dict[str, float]
    has_stopped: bool
    place: str


class AnswersResult(NamedTuple):
    """Result of `answers`. `print(result)` shows the scores as text.

    Attributes:
        task: Name of the task.
        scores: Score of each metric: BLEU and chrF from 0 to 100, the others from 0 to 1.
        answers: The answers, in the order of the rows.
        share_stopped: Share of the answers that ended by themselves.
        num_cut: Number of prompts that were too long and lost tokens on the left.

    Example:
        >>> import gpt_keras as gk
        >>> result = gk.evaluation.AnswersResult("sums", {"exact_match": 0.5}, [], 1.0, 0)
        >>> print(result)
        sums: 0 answers, 100.0% stopped by themselves, 0 prompts cut
        exact_match 0.500
    """

    task: str
    scores: dict[str, float]
    answers: list[Answer]
    share_stopped: float
    num_cut: int

    def __str__(self):
        head = (
            f"{self.task}: {len(self.answers)} answers, {self.share_stopped:.1%} stopped by "
            f"themselves, {self.num_cut} prompts cut"
        )
        width = max(map(len, self.scores))
        rows = [
            f"{name:{width}} {score:.{1 if name in CORPUS_METRICS else 3}f}"
            for name, score in self.scores.items()
        ]
        return "\n".join([head, *rows])


def answers(
    model: CausalLM,
    task: PromptTask,
    source: Any,
    *,
    batch_size: int = 16,
    max_new_tokens: int | None = None,
    metrics: Mapping[str, Callable[[list[str], list[list[str]]], float]] | None = None,
    apply_chat_template: bool = False,
    seed: int = 0,
    **settings: Any,
) -> AnswersResult:
    r"""Generate an answer to the prompt of each row of a table, and score the answers.

    Decoding is greedy unless `settings` say otherwise. Prompts of similar length are generated
    together; neither the batches nor the order of the rows changes an answer. A prompt that leaves
    no room for `max_new_tokens` loses its first tokens, as in lm-evaluation-harness.

    Args:
        model: A `CausalLM` with a tokenizer.
        task: The task: templates, metrics, stop strings.
        source: A table as in `gk.records.read_rows`, with the task's columns.
        batch_size: Number of prompts in a batch. The last batch is filled up.
        max_new_tokens: Largest number of tokens of an answer. Default: that of the task.
        metrics: Further metrics by name, beside the metrics of the task. Each is a function of the
            answers and of the references (a list for each answer), and returns a number.
        apply_chat_template: Whether each prompt is sent as a message of the user, in the model's
            chat template.
        seed: Seed of sampling. Each row has its own seed, `gk.generation.fold_in(seed, row)`.
        **settings: Other settings of `generate`, such as `strategy=BeamSearch(4)` or `stop`, which
            replaces the task's.

    Returns:
        An `AnswersResult`.

    Raises:
        ValueError: The model has no tokenizer, or no chat template where one is needed; or a metric
            is unknown. Or the table has no rows, or a row is wrong as in `PromptTask.examples`. Or
            there is no room for `max_new_tokens`, or an argument is wrong as in `generate`.
        TypeError: `generate` has no such setting.
        ImportError: A package of a metric is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> task = gk.datasets.PromptTask(
        ...     name="next letter", prompt="{{ letter }}", target="{{ following }}",
        ...     target_delimiter="", max_new_tokens=1,
        ... )
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("ab")
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=2)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> rows = [{"letter": "a", "following": "b"}, {"letter": "b", "following": "c"}]
        >>> result = gk.evaluation.answers(model, task, rows, choices=["b"])
        >>> result.scores, [answer.text for answer in result.answers]
        ({'exact_match': 0.5}, ['b', 'b'])
    """
    if not isinstance(model, CausalLM) or model.tokenizer is None:
        raise ValueError(f"`model` must be a CausalLM with a tokenizer, got {model!r}.")
    if not isinstance(task, PromptTask):
        raise ValueError(f"`task` must be a gk.datasets.PromptTask, got {task!r}.")
    check_positive_int("batch_size", batch_size)
    check_seed(seed)
    own = _checked_metrics(task, metrics)
    max_new_tokens = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    check_positive_int("max_new_tokens", max_new_tokens)
    examples = list(task.examples(source))
    if not examples:
        raise ValueError("`source` must have rows, but is empty.")
    found, was_cut = generate_answers(
        model,
        task,
        examples,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        apply_chat_template=apply_chat_template,
        seed=seed,
        settings=settings,
    )
    texts = [answer.text for answer in found]
    references = [list(answer.references) for answer in found]
    scores = {
        name: statistics.fmean(answer.scores[name] for answer in found) for name in found[0].scores
    }
    scores |= {
        name: CORPUS_METRICS[name](texts, references)
        for name in task.metrics
        if name in CORPUS_METRICS
    }
    scores |= {name: float(function(texts, references)) for name, function in own.items()}
    return AnswersResult(
        task=task.name,
        scores=scores,
        answers=found,
        share_stopped=statistics.fmean(answer.has_stopped for answer in found),
        num_cut=sum(was_cut),
    )


def generate_answers(
    model: CausalLM,
    task: PromptTask,
    examples: Sequence[PromptExample],
    *,
    batch_size: int,
    max_new_tokens: int,
    apply_chat_template: bool = False,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> tuple[list[Answer], list[bool]]:
    """Generate and score an answer to each example; arguments as in `answers`.

    Args:
        model: A `CausalLM` with a tokenizer.
        task: The task: metrics, stop strings.
        examples: Prompts with their references, at least one.
        batch_size: Number of prompts in a batch.
        max_new_tokens: Largest number of tokens of an answer.
        apply_chat_template: Whether each prompt is a message of the user.
        seed: Seed of sampling.
        settings: Other settings of `generate`.

    Returns:
        The answers, and for each prompt whether it lost tokens on the left.
    """
    prompts = _prompt_ids(model, examples, apply_chat_template)
    prompts, was_cut = _cut(prompts, model.max_sequence_length, max_new_tokens)
    settings = {"temperature": 0, "stop": task.stop} | dict(settings or {})
    found = _generate(model, prompts, batch_size, max_new_tokens, seed, settings)
    answers_found = [
        Answer(
            example.prompt,
            text,
            example.references,
            _scores_of_answer(task, text, list(example.references)),
            has_stopped,
            example.place,
        )
        for example, (text, has_stopped) in zip(examples, found, strict=True)
    ]
    return answers_found, was_cut


def _checked_metrics(task: PromptTask, metrics: Any) -> dict[str, Callable]:
    for name in task.metrics:
        check_choice("metrics", name, METRICS)
    if metrics is None:
        return {}
    taken = {*METRICS, *RougeScores._fields}
    is_right = isinstance(metrics, Mapping) and all(map(callable, metrics.values()))
    if not is_right or any(not isinstance(name, str) or name in taken for name in metrics):
        raise ValueError(
            f"`metrics` must map new names, none of {', '.join(sorted(taken))}, to functions of "
            f"answers and references; got {metrics!r}."
        )
    return dict(metrics)


def _prompt_ids(
    model: CausalLM, examples: Sequence[PromptExample], apply_chat_template: bool
) -> list[list[int]]:
    if not apply_chat_template:
        texts = [example.prompt for example in examples]
        rows = model.tokenizer.encode(texts, add_start_of_text=True)
    else:
        if model.chat_template is None:
            raise ValueError(
                "`apply_chat_template` must be False for a model without a chat template."
            )
        template = ChatTemplate(model.chat_template)
        rows = [
            template.encode([{"role": "user", "content": example.prompt}], model.tokenizer)
            for example in examples
        ]
    for example, row in zip(examples, rows, strict=True):
        if not row:
            raise ValueError(f"{example.place}: the tokenizer encodes the prompt to no ids.")
    return rows


def _cut(
    prompts: list[list[int]], limit: int | None, max_new_tokens: int
) -> tuple[list[list[int]], list[bool]]:
    """Return the prompts with room for new tokens, and which of them were cut."""
    if limit is None:
        return prompts, [False] * len(prompts)
    room = limit - max_new_tokens
    if room < 1:
        raise ValueError(
            f"`max_new_tokens` must be less than the model's max_sequence_length={limit}, got "
            f"{max_new_tokens}."
        )
    return [row[-room:] for row in prompts], [len(row) > room for row in prompts]


def _generate(
    model: CausalLM,
    prompts: list[list[int]],
    batch_size: int,
    max_new_tokens: int,
    seed: int,
    settings: dict[str, Any],
) -> list[tuple[str, bool]]:
    """Return for each prompt the answer, and whether it ended by itself."""
    stop = settings["stop"]
    stop = [stop] if isinstance(stop, str) else list(stop)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    size = min(batch_size, len(prompts))
    found: list[Any] = [None] * len(prompts)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        # XLA compiles again for a batch of another size.
        filled = rows + rows[-1:] * (size - len(rows))
        batch = model.generate_with_scores(
            [prompts[i] for i in filled],
            max_new_tokens=max_new_tokens,
            seed=[int(fold_in(seed, i)) for i in filled],
            **settings,
        )
        for i, continuations in zip(rows, batch):
            token_ids = continuations[0].token_ids
            whole = model.tokenizer.decode(token_ids)
            text = cut_at_stop(whole, 0, stop)
            has_stopped = text != whole or len(token_ids) < max_new_tokens
            found[i] = text.strip(), has_stopped
    return found


def _scores_of_answer(task: PromptTask, text: str, references: list[str]) -> dict[str, float]:
    scores = {}
    for name in task.metrics:
        if name in ANSWER_METRICS:
            scores |= ANSWER_METRICS[name]([text], [references])
    return scores
