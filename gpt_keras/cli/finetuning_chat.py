"""The task chat of `gpt-keras finetune`."""

import itertools

from .answers import answer, choose_questions, report_answers
from .finetuning_run import (
    LEARNING_RATES,
    LONGEST_CONVERSATION,
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
)
from .package import gk


def finetune_chat(
    model: str,
    data: str,
    run: Run,
    *,
    validation_fraction: float = 0.1,
    lora_rank: int = 8,
    lora_alpha: float | None = None,
    target_layer_names: list[str] | None = None,
    epochs: int = 3,
    batch_size: int = 8,
    sequence_length: int | None = None,
    learning_rate: float | None = None,
    max_new_tokens: int | None = None,
    dtype: str | None = None,
    seed: int = 0,
) -> None:
    """Train a model on conversations, and print its answers before and after.

    The keyword arguments are options of the command; `finetune` describes them.
    """
    import keras

    from gpt_keras.checks import check_positive_int

    check_adapters(lora_rank, lora_alpha, target_layer_names)
    if max_new_tokens is not None:
        check_positive_int("max_new_tokens", max_new_tokens)
    check_table(data)
    keras.utils.set_random_seed(seed % 2**32)
    language_model, new_tokens = _with_chat_template(load(model, dtype))
    with plain_warnings():
        found = gk.datasets.conversations(
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
        if new_tokens:
            # The new tokens have equal embeddings, so that a frozen model cannot tell the end of an
            # answer from its beginning.
            language_model.backbone.token_embedding.trainable = True
    steps = num_steps(len(found.train.token_ids), batch_size, epochs)
    rate = LEARNING_RATES["adapters" if lora_rank else "all"]
    rate = rate if learning_rate is None else learning_rate
    language_model.compile(optimizer(rate, steps))
    files = describe_files(data=data)
    print(found.report)
    if new_tokens is not None:
        print(_describe_chatml(new_tokens, lora_rank))
    print(describe_trainable(language_model))
    print_prepared(run)

    validation = None
    lengths = num_lengths(run, steps)
    if found.validation is not None:
        validation = found.validation.batches(batch_size, num_lengths=lengths)
        print_measuring()
        loss_before = language_model.evaluate(validation, verbose=0, return_dict=True)["loss"]
        questions = choose_questions(language_model, _first_turns(found.validation), max_new_tokens)
        before = answer(language_model, questions)
    record = fit(
        language_model,
        found.train.batches(batch_size, seed=seed, num_lengths=lengths),
        run,
        epochs=epochs,
        steps=steps,
        rate=rate,
        files=files,
        validation_data=validation,
    )
    if validation is not None:
        loss = record.record["history"]["val_loss"][-1]
        record.add_result(
            {
                "part": "validation",
                "conversations": len(found.validation.token_ids),
                "trained_tokens": found.validation.num_trained,
                "loss_before": loss_before,
                "loss_after": loss,
            }
        )
        print(
            f"\nheld-out loss per trained token: {loss_before:.4f} before, {loss:.4f} after "
            f"({found.validation.num_trained:,} tokens)"
        )
        report_answers(language_model, questions, before, answer(language_model, questions), record)
    print_use(run, language_model)


def _with_chat_template(language_model):
    """Return a model with a chat template, and the tokens that it got.

    The tokens are None if the model had a template.
    """
    if language_model.chat_template is not None:
        return language_model, None
    known = language_model.tokenizer.special_tokens
    language_model = gk.chat.add_chatml(language_model)
    return language_model, [
        token for token in language_model.tokenizer.special_tokens if token not in known
    ]


def _describe_chatml(new_tokens: list[str], lora_rank: int) -> str:
    text = "the model has no chat template: ChatML was added"
    if new_tokens:
        text += f", with the new tokens {' and '.join(new_tokens)}"
    if new_tokens and lora_rank:
        text += ". The token embeddings are trained beside the adapters"
    return text


def _first_turns(part) -> list[tuple]:
    """Return the ids before the first answer of each conversation, and of the answer."""
    turns = []
    for token_ids, mask in zip(part.token_ids, part.masks):
        start = int(mask.argmax())
        length = sum(1 for _ in itertools.takewhile(bool, mask[start:]))
        turns.append((token_ids[:start], {"reference": token_ids[start : start + length]}))
    return turns
