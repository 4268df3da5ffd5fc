"""The task classification of `gpt-keras finetune`."""

import sys
import time

from .finetuning_run import (
    LEARNING_RATES,
    Run,
    check_adapters,
    describe_files,
    describe_trainable,
    fit,
    load,
    longest_row,
    num_steps,
    optimizer,
    plain_warnings,
    print_prepared,
    print_use,
)
from .package import gk

_LONGEST = 512


def finetune_classifier(
    model: str,
    data: str,
    run: Run,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    layout: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    validation_fraction: float | None = None,
    test_fraction: float | None = None,
    group: str | None = None,
    drop_duplicates: bool = False,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    target_layer_names: list[str] | None = None,
    freeze_backbone: bool = False,
    pooling: str = "last",
    dropout: float = 0.1,
    epochs: int = 3,
    batch_size: int = 16,
    sequence_length: int | None = None,
    learning_rate: float | None = None,
    class_weight: str | None = None,
    dtype: str | None = None,
    seed: int = 0,
) -> None:
    """Train a classifier on a table of texts and labels, and print its scores.

    The keyword arguments are options of the command; `finetune` describes them.
    """
    import keras

    trained, lora_rank = _trained(freeze_backbone, lora_rank, lora_alpha, target_layer_names)
    if layout is not None and text_pair is None:
        raise ValueError(f"`layout` is for pairs: give `text_pair` too, got {layout!r} alone.")
    if pooling == "extract" and trained != "all":
        print(
            "gpt-keras: warning: the special tokens of pooling extract stay random, because only "
            "lora_rank 0 trains them",
            file=sys.stderr,
        )
    columns = text if text_pair is None else [text, text_pair]
    with plain_warnings():
        found = gk.datasets.classification(
            data,
            text=columns,
            label=label,
            validation=validation,
            test=test,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            group=group,
            drop_duplicates=drop_duplicates,
            seed=seed,
        )
    held_out = found.validation if found.test is None else found.test
    if held_out is not None:
        gk.evaluation.classification_report([0, 1], [0, 1])  # scikit-learn may be missing

    keras.utils.set_random_seed(seed % 2**32)
    classifier = _classifier(
        load(model, dtype),
        class_names=found.class_names,
        layout="classification" if text_pair is None else layout or "entailment",
        pooling=pooling,
        dropout=dropout,
        max_sequence_length=sequence_length,
    )
    if trained == "adapters":
        classifier.enable_lora(lora_rank, target_layer_names, lora_alpha)
    elif trained == "head":
        classifier.backbone.trainable = False
    report = _with_long_rows(found, classifier, 1 if text_pair is None else 2)
    steps = num_steps(len(found.train.labels), batch_size, epochs)
    rate = LEARNING_RATES[trained] if learning_rate is None else learning_rate
    classifier.compile(optimizer(rate, steps))
    files = describe_files(data=data, validation=validation, test=test)
    print(report)
    print(describe_trainable(classifier))
    print_prepared(run)

    encode = classifier.encode
    record = fit(
        classifier,
        found.train.batches(batch_size, seed=seed, encode=encode),
        run,
        epochs=epochs,
        steps=steps,
        rate=rate,
        files=files,
        validation_data=found.validation and found.validation.batches(batch_size, encode=encode),
        class_weight=found.class_weights if class_weight == "balanced" else None,
    )
    if held_out is not None:
        name = "validation" if found.test is None else "test"
        print(f"\n{_evaluate(classifier, held_out, name, batch_size, record)}\n")
    print_use(run)


def _trained(freeze_backbone, lora_rank, lora_alpha, target_layer_names) -> tuple[str, int]:
    """Return the trained weights, `"adapters"`, `"head"` or `"all"`, and the rank."""
    if lora_rank is None:
        lora_rank = 0 if freeze_backbone else 8
    if freeze_backbone and lora_rank > 0:
        raise ValueError(
            f"`lora_rank` must be 0 with `freeze_backbone`, which trains only the head, got "
            f"{lora_rank}."
        )
    check_adapters(lora_rank, lora_alpha, target_layer_names)
    return ("adapters" if lora_rank else "head" if freeze_backbone else "all"), lora_rank


def _classifier(language_model, pooling, max_sequence_length, **arguments):
    """Return a classifier with the backbone and tokenizer of a language model."""
    from gpt_keras.models.task_inputs import NUM_SPECIAL_IDS

    tokenizer, backbone = language_model.tokenizer, language_model.backbone
    if pooling == "extract":
        needed = tokenizer.vocabulary_size + NUM_SPECIAL_IDS
        if backbone.token_embedding.input_dim < needed:
            backbone = backbone.with_vocabulary_size(needed)
    limit = language_model.max_sequence_length
    return gk.GPTClassifier(
        backbone,
        pooling=pooling,
        tokenizer=tokenizer,
        max_sequence_length=longest_row(max_sequence_length, limit, _LONGEST),
        **arguments,
    )


def _with_long_rows(found, classifier, num_parts: int) -> str:
    """Return the report on the data, with the number of rows that the model will cut."""
    import dataclasses

    try:
        room = classifier.markers.room(num_parts, classifier.max_sequence_length)
    except ValueError as error:
        raise ValueError(str(error).replace("`max_length`", "`sequence_length`")) from error
    parts = [part for part in (found.train, found.validation, found.test) if part is not None]
    count = sum(part.num_longer_than(room, classifier.tokenizer) for part in parts)
    return str(dataclasses.replace(found.report, num_too_long=count))


def _evaluate(classifier, part, name: str, batch_size: int, record) -> str:
    """Return the report on a part as text, and add its numbers to the record."""
    began = time.perf_counter()
    texts = part.texts.tolist()
    predicted = [found.label for found in classifier.classify(texts, batch_size)]
    seconds = time.perf_counter() - began
    scores = gk.evaluation.classification_report(part.labels, predicted, classifier.class_names)
    record.add_result(
        {
            "part": name,
            "rows": len(texts),
            "seconds": round(seconds, 1),
            "accuracy": scores.accuracy,
            "macro_f1": scores.macro.f1,
            "classes": {label: row._asdict() for label, row in scores.classes.items()},
            "confusion_matrix": scores.confusion_matrix.tolist(),
        }
    )
    return f"{name}, {len(texts):,} rows in {seconds:.1f} s:\n{scores}"
