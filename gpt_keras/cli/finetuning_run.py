"""A run of `gpt-keras finetune`: the steps that all tasks share."""

import contextlib
import math
import pathlib
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from .files import print_written
from .package import gk
from .runs import CHECKPOINTS, new_checkpoint, new_keeper, read_plan, write_plan, write_settings
from .task_models import counted

AGAIN = "gpt-keras finetune --config {settings} MODEL DATA NEW_OUTPUT"

# Default learning rates. Adapters and a new head begin at zero or at random: they need larger steps
# than weights that were trained for long (GPT-1, section 4.1, for all weights).
LEARNING_RATES = {"adapters": 5e-4, "head": 1e-3, "all": 6.25e-5}

# As in `DPO` and `GRPO`: 1e-6 is the learning rate of both papers.
PREFERENCE_LEARNING_RATES = {"adapters": 1e-5, "all": 1e-6}

# Default of the largest number of tokens of a conversation or a preference.
LONGEST_CONVERSATION = 1024


class Run(NamedTuple):
    """A run of the command.

    Attributes:
        output: Directory of the run.
        settings: Value of each option of the task.
        began: Time of the start, of `time.perf_counter`.
    """

    output: str
    settings: Mapping[str, Any]
    began: float


def check_adapters(lora_rank: int, lora_alpha, target_layer_names) -> None:
    """Check the options of the adapters, before a model is loaded."""
    if lora_rank < 0:
        raise ValueError(f"`lora_rank` must be at least 0, got {lora_rank}.")
    for name, value in (("lora_alpha", lora_alpha), ("target_layer_names", target_layer_names)):
        if value is not None and not lora_rank:
            raise ValueError(f"`{name}` needs a `lora_rank` above 0, got {value!r} without one.")


def check_table(data: str) -> None:
    """Check that a table can be read at all, before a model is loaded."""
    from gpt_keras.records import read_rows

    next(read_rows(data), None)


def load(source: str, dtype: str | None) -> "gk.CausalLM":
    """Load a language model, all of whose weights can be trained."""
    from gpt_keras.models.adapters import adapted_layers

    language_model = gk.CausalLM.from_preset(source, dtype)
    if language_model.tokenizer is None:
        raise ValueError(f"`model` must have a tokenizer, but {source!r} has none.")
    if adapted_layers(language_model):  # they become a part of the model to fine-tune
        language_model.merge_adapter()
    language_model.backbone.trainable = True
    return language_model


def longest_row(sequence_length: int | None, limit: int | None, default: int) -> int:
    """Return the largest number of tokens of a row.

    Args:
        sequence_length: The option of the command.
        limit: Context length of the model; None for no limit.
        default: Length without the option.
    """
    if sequence_length is None:
        return min(limit or default, default)
    if limit is not None and sequence_length > limit:
        raise ValueError(
            f"`sequence_length` must be at most {limit}, the model's context length, got "
            f"{sequence_length}."
        )
    return sequence_length


def optimizer(rate: float, steps: int, **settings):
    """Return AdamW for a number of steps."""
    warmup_steps = min(steps // 10, 100)
    return gk.training.adamw(rate, warmup_steps=warmup_steps, total_steps=steps, **settings)


def num_lengths(run: Run, steps: int) -> int:
    """Return a number of batch lengths that is worth the time of XLA.

    A training that continues with more steps keeps its number.
    """
    steps = read_plan(run.output, {"steps": steps})["steps"]
    return max(1, min(4, steps // 100))


def describe_trainable(model) -> str:
    """Return the number of trained parameters and their layers as text."""
    report = gk.finetuning.trainable_report(model)
    return (
        f"trained: {report['trainable']:,} of {report['parameters']:,} parameters "
        f"({report['share']:.2%}), in {counted(report['layers'])}"
    )


def describe_files(**files: str | None) -> dict[str, Any]:
    """Return names and SHA-256 of files for the record.

    Args:
        **files: Paths by the name of their part. The name of the main file is `data`.
    """
    from gpt_keras.file_bytes import file_sha256

    found = {}
    for name, file in files.items():
        if file is not None:
            prefix = "" if name == "data" else f"{name}_"
            found[f"{prefix}file"] = file
            found[f"{prefix}sha256"] = file_sha256(pathlib.Path(file))
    return found


def fit(
    model,
    data,
    run: Run,
    *,
    epochs: int,
    steps: int,
    rate: float,
    files: dict[str, Any],
    saved=None,
    **arguments,
) -> "gk.callbacks.RunRecord":
    """Train a compiled model, and save it after each epoch.

    Args:
        model: The model whose `fit` trains.
        data: The training data.
        run: The run.
        epochs: Number of passes over the data.
        steps: Number of steps in all.
        rate: Peak learning rate.
        files: Result of `describe_files`.
        saved: The model to save. Default: `model`.
        **arguments: Further arguments of `fit`.

    Returns:
        The record, to which results can be added.

    Raises:
        ValueError: The loss is not finite.
    """
    import keras

    record = gk.callbacks.RunRecord(run.output, run.settings, files)
    notice = gk.callbacks.CompileNotice(lambda text: print(text, flush=True))
    keeper = new_keeper(run.output, model=saved)
    checkpoint = new_checkpoint(run.output)
    write_settings(run.output, run.settings, AGAIN)
    write_plan(run.output, {"steps": steps})
    began = time.perf_counter()
    try:
        model.fit(
            data,
            epochs=epochs,
            callbacks=[notice, keras.callbacks.TerminateOnNaN(), record, keeper, checkpoint],
            verbose=1 if sys.stdout.isatty() else 2,
            **arguments,
        )
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        print(keeper.interrupted(steps), file=sys.stderr)
        raise
    print(f"trained {steps:,} steps in {time.perf_counter() - began:.1f} s", flush=True)
    if model.stop_training:  # TerminateOnNaN sets it
        raise ValueError(
            f"the training stopped at step {keeper.step}, because the loss is not finite, see "
            f"{pathlib.Path(run.output) / 'report.md'}. Try a lower `learning_rate`, got {rate:g}."
        )
    return record


def report_scores(record, before: Mapping[str, float], **counts: int) -> None:
    """Print the held-out scores before and after, and add them to the record.

    Args:
        record: The result of `fit`, which measured the held-out part after each epoch.
        before: Scores before training.
        **counts: Size of the held-out part, by its unit.
    """
    history = record.record["history"]
    after = {name: history[f"val_{name}"][-1] for name in before}
    record.add_result({"part": "validation", **counts, "before": dict(before), "after": after})
    print(f"\nheld-out {', '.join(f'{unit}: {count:,}' for unit, count in counts.items())}")
    print(f"  {'':<22}{'before':>10}{'after':>10}")
    for name in before:
        print(f"  {name:<22}{before[name]:10.4f}{after[name]:10.4f}")


def print_prepared(run: Run) -> None:
    """Print the duration of the preparation."""
    print(f"prepared in {time.perf_counter() - run.began:.1f} s", flush=True)


def print_measuring() -> None:
    """Print a notice before the model is measured for the first time."""
    print("measuring the held-out part before training ...", flush=True)


def print_use(run: Run, model=None) -> None:
    """Print the written files, and the command that uses the model."""
    print_written(run.output, CHECKPOINTS)
    if model is None:
        use = f'classify {run.output} "..."'
    elif model.chat_template is not None:
        use = f"chat {run.output}"
    else:
        use = f'generate {run.output} "..."'
    print(f"to use it: gpt-keras {use}")


def num_steps(num_rows: int, batch_size: int, epochs: int) -> int:
    """Return the number of steps of a training."""
    return epochs * math.ceil(num_rows / batch_size)


@contextlib.contextmanager
def plain_warnings():
    """Print warnings as lines of the command line, without places in code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: print(
            "gpt-keras: warning:", message, file=sys.stderr
        )
        yield
