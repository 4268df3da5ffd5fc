"""The task grpo of `gpt-keras finetune`: group relative policy optimization."""

import json
from typing import Any

from .answers import answer, choose_questions, report_answers
from .finetuning_run import (
    PREFERENCE_LEARNING_RATES,
    Run,
    check_adapters,
    describe_files,
    describe_trainable,
    fit,
    load,
    num_steps,
    optimizer,
    print_measuring,
    print_prepared,
    print_use,
    report_scores,
)
from .functions import function_file, load_function
from .package import gk


def finetune_grpo(
    model: str,
    data: str,
    run: Run,
    *,
    reward: str | None = None,
    validation_fraction: float = 0.1,
    lora_rank: int = 8,
    lora_alpha: float | None = None,
    target_layer_names: list[str] | None = None,
    epochs: int = 1,
    batch_size: int = 8,
    learning_rate: float | None = None,
    beta: float = 0.04,
    num_generations: int = 8,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    dtype: str | None = None,
    seed: int = 0,
) -> None:
    """Train a model on rewards of its completions, and print them before and after.

    The keyword arguments are options of the command; `finetune` describes them.
    """
    import keras

    from gpt_keras.checks import check_rate
    from gpt_keras.finetuning.rollouts import training_prompts

    check_adapters(lora_rank, lora_alpha, target_layer_names)
    check_rate("validation_fraction", validation_fraction)
    if reward is None:
        raise ValueError("`reward` must be given: module:function or file.py:function.")
    function = load_function("reward", reward)
    train, validation = _split(read_prompts(data), validation_fraction, seed)
    keras.utils.set_random_seed(seed % 2**32)
    language_model = load(model, dtype)
    if lora_rank:
        language_model.enable_lora(lora_rank, target_layer_names, lora_alpha)
    grpo = gk.finetuning.GRPO(
        language_model,
        function,
        num_generations=num_generations,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        beta=beta,
        seed=seed,
    )
    training_prompts(data, train, language_model, max_new_tokens)  # raises now, not in `fit`
    held_out = validation and training_prompts(data, validation, language_model, max_new_tokens)
    steps = num_steps(len(train), batch_size, epochs)
    rate = PREFERENCE_LEARNING_RATES["adapters" if lora_rank else "all"]
    rate = rate if learning_rate is None else learning_rate
    grpo.compile(optimizer(rate, steps, weight_decay=0.0))
    files = describe_files(data=data, reward=function_file(reward))
    print(f"different prompts: {len(train) + len(validation):,}")
    print(f"train: {len(train):,}\nvalidation: {len(validation):,}")
    print(describe_trainable(language_model))
    print_prepared(run)

    arguments = {}
    if held_out:
        arguments["validation_data"] = validation
        print_measuring()
        scores = grpo.evaluate(validation, batch_size=batch_size, verbose=0, return_dict=True)
        questions = choose_questions(
            language_model, [(row, {}) for row in held_out.rows], max_new_tokens
        )
        before = answer(language_model, questions)
    record = fit(
        grpo,
        train,
        run,
        epochs=epochs,
        steps=steps,
        rate=rate,
        files=files,
        saved=language_model,
        batch_size=batch_size,
        **arguments,
    )
    if held_out:
        report_scores(record, scores, prompts=len(validation))
        report_answers(language_model, questions, before, answer(language_model, questions), record)
    print_use(run, language_model)


def read_prompts(data: str) -> list[Any]:
    """Return the different prompts of a table: all texts, or all lists of messages.

    Args:
        data: File of the table, with the column `prompt`.

    Raises:
        ValueError: There is no prompt, or one is empty or of another kind than the first.
    """
    from gpt_keras.records import read_rows

    prompts = {}
    first = None
    for row in read_rows(data, ["prompt"]):
        prompt = row["prompt"]
        if isinstance(prompt, str) and not row.is_typed and prompt.startswith("[{"):
            # A CSV file has no lists: messages are written as JSON.
            try:
                prompt = json.loads(prompt)
            except json.JSONDecodeError as error:
                raise ValueError(f"{row.place}: `prompt` is broken JSON ({error}).") from error
        is_text = isinstance(prompt, str)
        if not (is_text or isinstance(prompt, list)) or not prompt:
            raise ValueError(
                f"{row.place}: `prompt` must be a text or a list of messages, got {prompt!r:.60}."
            )
        first = is_text if first is None else first
        if is_text != first:
            raise ValueError(
                f"{row.place}: all prompts must be texts, or all lists of messages; the first row "
                f"has {'a text' if first else 'messages'}."
            )
        prompts.setdefault(json.dumps(prompt, sort_keys=True), prompt)
    if not prompts:
        raise ValueError(f"{data} must have rows with prompts, but is empty.")
    return list(prompts.values())


def _split(prompts: list[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Return the prompts for training and for validation."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(prompts))
    count = round(fraction * len(prompts))
    if fraction and not 0 < count < len(prompts):
        raise ValueError(
            f"The {'train' if count else 'validation'} part is empty: `validation_fraction` is "
            f"{fraction:g} of {len(prompts)} different prompts. Change it (0 for no validation "
            "part), or give more prompts."
        )
    held_out = {*order[:count].tolist()}
    return (
        [prompt for i, prompt in enumerate(prompts) if i not in held_out],
        [prompt for i, prompt in enumerate(prompts) if i in held_out],
    )
