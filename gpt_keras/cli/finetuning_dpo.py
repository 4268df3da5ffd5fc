"""The task dpo of `gpt-keras finetune`: direct preference optimization."""

from .answers import answer, choose_questions, report_answers
from .finetuning_run import (
    LONGEST_CONVERSATION,
    PREFERENCE_LEARNING_RATES,
    Run,
    check_adapters,
    check_table,
    describe_files,
    describe_trainable,
    fit,
    load,
    longest_row,
    num_lengths,
    num_steps,
    optimizer,
    plain_warnings,
    print_measuring,
    print_prepared,
    print_use,
    report_scores,
)
from .package import gk


def finetune_dpo(
    model: str,
    data: str,
    run: Run,
    *,
    validation_fraction: float = 0.1,
    lora_rank: int = 8,
    lora_alpha: float | None = None,
    target_layer_names: list[str] | None = None,
    epochs: int = 1,
    batch_size: int = 8,
    sequence_length: int | None = None,
    learning_rate: float | None = None,
    beta: float = 0.1,
    max_new_tokens: int | None = None,
    dtype: str | None = None,
    seed: int = 0,
) -> None:
    """Train a model to prefer chosen answers, and print its answers before and after.

    The keyword arguments are options of the command; `finetune` describes them.
    """
    import keras

    from gpt_keras.checks import check_positive, check_positive_int

    check_adapters(lora_rank, lora_alpha, target_layer_names)
    check_positive("beta", beta)
    if max_new_tokens is not None:
        check_positive_int("max_new_tokens", max_new_tokens)
    check_table(data)
    keras.utils.set_random_seed(seed % 2**32)
    language_model = load(model, dtype)
    with plain_warnings():
        found = gk.datasets.preferences(
            data,
            language_model,
            sequence_length=longest_row(
                sequence_length, language_model.max_sequence_length, LONGEST_CONVERSATION
            ),
            validation_fraction=validation_fraction,
            seed=seed,
        )
    if lora_rank:
        language_model.enable_lora(lora_rank, target_layer_names, lora_alpha)
    steps = num_steps(len(found.train), batch_size, epochs)
    rate = PREFERENCE_LEARNING_RATES["adapters" if lora_rank else "all"]
    rate = rate if learning_rate is None else learning_rate
    dpo = gk.finetuning.DPO(language_model, beta)
    dpo.compile(optimizer(rate, steps, weight_decay=0.0))
    files = describe_files(data=data)
    print(found.report)
    print(describe_trainable(language_model))
    print_prepared(run)

    lengths = num_lengths(run, steps)

    def batches(pairs, **order):
        if not lora_rank:
            pairs = dpo.with_reference(pairs, batch_size)
        return pairs.batches(batch_size, num_lengths=lengths, **order)

    validation = found.validation and batches(found.validation)
    if validation is not None:
        print_measuring()
        scores = dpo.evaluate(validation, verbose=0, return_dict=True)
        questions = choose_questions(language_model, _questions(found.validation), max_new_tokens)
        before = answer(language_model, questions)
    record = fit(
        dpo,
        batches(found.train, seed=seed),
        run,
        epochs=epochs,
        steps=steps,
        rate=rate,
        files=files,
        saved=language_model,
        validation_data=validation,
    )
    if validation is not None:
        report_scores(record, scores, pairs=len(found.validation))
        report_answers(language_model, questions, before, answer(language_model, questions), record)
    print_use(run, language_model)


def _questions(pairs) -> list[tuple]:
    """Return the ids of each prompt, and of both answers."""
    return [
        (prompt, {"chosen": chosen, "rejected": rejected})
        for prompt, chosen, rejected in zip(pairs.prompts, pairs.chosen, pairs.rejected)
    ]
