"""The command `gpt-keras finetune`."""

import contextlib
import math
import pathlib
import sys
import time
import warnings
from typing import Any, Literal

from .files import check_output, print_written
from .package import gk
from .runs import check_no_run, new_keeper, write_settings
from .task_models import check_no_task, counted

_AGAIN = "gpt-keras finetune --config {settings} MODEL DATA NEW_OUTPUT"

# Default learning rates. Adapters and a new head begin at zero or at random: they need larger steps
# than weights that were trained for long (GPT-1, section 4.1, for all weights).
_LEARNING_RATES = {"adapters": 5e-4, "head": 1e-3, "all": 6.25e-5}

_LONGEST = 512


def finetune(
    model: str,
    data: str,
    output: str,
    *,
    task: Literal["classification"] = "classification",
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    layout: Literal["entailment", "similarity"] | None = None,
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
    pooling: Literal["last", "extract"] = "last",
    dropout: float = 0.1,
    epochs: int = 3,
    batch_size: int = 16,
    sequence_length: int | None = None,
    learning_rate: float | None = None,
    class_weight: Literal["balanced"] | None = None,
    dtype: Literal["float32", "mixed_bfloat16", "mixed_float16"] | None = None,
    seed: int = 0,
) -> None:
    """Fine-tune a language model to classify texts, and save it.

    The data is a table of texts and labels. It is split into parts for training, validation and
    test. After training, precision, recall and F1 on the test are printed. By default only LoRA
    adapters and the classifier's head are trained, which needs little memory. The output directory
    contains the model (adapters included), report.md, run.json and run.yaml. The model is saved
    after each epoch. Ctrl-C stops training and saves the current model.

    For example: gpt-keras finetune smollm2_135m_instruct reviews.csv my_classifier --text review
    --label stars

    Args:
        model: Name of a pretrained model, such as smollm2_135m_instruct; or a directory written by
            gpt-keras train or save_to_preset, a .keras file, a .gguf file, a Hugging Face folder or
            hf://owner/name[@revision].
        data: Table of texts and labels: a .csv, .tsv, .jsonl, .json or .parquet file.
        output: New or empty directory for the trained model.
        task: What to learn. classification predicts one label for each text.
        text: Column of the texts.
        text_pair: Column of second texts, if each label belongs to a pair of texts.
        label: Column of the labels: names or integers.
        layout: Kind of pairs. entailment is for ordered pairs, such as premise and hypothesis;
            similarity is for pairs without order, and reads each pair in both orders. The default
            is entailment. Only with text_pair.
        validation: File with the validation part, if it is not drawn from data. It has the same
            columns and labels.
        test: File with the test part, if it is not drawn from data. It has the same columns and
            labels.
        validation_fraction: Fraction of data that is held out for validation, in [0, 1). The
            default is 0.1, or 0 with validation.
        test_fraction: Fraction of data that is held out for the test, in [0, 1). The default is
            0.1, or 0 with test.
        group: Column whose equal values must stay in one part, such as an author.
        drop_duplicates: Whether to keep one row of rows with the same text and label, and no row of
            a text with several labels. Equal texts are always in the same part.
        lora_rank: Rank of the LoRA adapters; 0 trains all weights of the model instead. The default
            is 8, or 0 with freeze_backbone.
        lora_alpha: Adapters are scaled by lora_alpha / lora_rank. The default is lora_rank.
        target_layer_names: Layers that get an adapter, by name or by regular expression, such as
            query value. The default is query and value. This flag must come after the positional
            arguments.
        freeze_backbone: Whether to train only the head of the classifier.
        pooling: Token whose hidden state the head reads. last is the last token of the text;
            extract adds special tokens around the text, as in GPT-1, which only lora_rank 0 trains.
        dropout: Dropout rate before the head, in [0, 1).
        epochs: Number of passes over the training part.
        batch_size: Number of texts per batch.
        sequence_length: Longest text in tokens, special tokens included; longer texts are cut, and
            counted in the report. The default is 512, or the model's context length if that is
            shorter.
        learning_rate: Peak learning rate, reached after warm-up. A cosine schedule then lowers it
            to a tenth. The default is 5e-4 for adapters, 6.25e-5 for all weights and 1e-3 for the
            head alone.
        class_weight: Weights of the classes in the loss. balanced gives each class the same total
            weight, however many texts it has.
        dtype: Dtype policy of the model. mixed_bfloat16 and mixed_float16 are for GPUs; they keep
            the weights in float32. The default is the policy with which the model was saved, or
            float32.
        seed: Random seed of the whole run: split, order, head, adapters and dropout.
    """
    settings = dict(locals())
    began = time.perf_counter()
    import keras

    from gpt_keras.checks import check_positive_int, check_seed

    # All arguments are checked before training, and the cheap checks come first.
    check_no_run(output, _AGAIN, 'gpt-keras classify {output} "..."')
    check_output(output)
    for name in ("epochs", "batch_size"):
        check_positive_int(name, settings[name])
    check_seed(seed)
    trained, lora_rank = _trained(freeze_backbone, lora_rank, lora_alpha, target_layer_names)
    if layout is not None and text_pair is None:
        raise ValueError(f"`layout` is for pairs: give `text_pair` too, got {layout!r} alone.")
    if pooling == "extract" and trained != "all":
        print(
            "gpt-keras: warning: the special tokens of pooling extract stay random, because only "
            "lora_rank 0 trains them",
            file=sys.stderr,
        )
    check_no_task(model)
    columns = text if text_pair is None else [text, text_pair]
    with _plain_warnings():
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
        _load(model, dtype),
        model,
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
    steps = epochs * math.ceil(len(found.train.labels) / batch_size)
    rate = _LEARNING_RATES[trained] if learning_rate is None else learning_rate
    warmup_steps = min(steps // 10, 100)
    classifier.compile(
        gk.training.adamw(rate, warmup_steps=warmup_steps, total_steps=steps),
    )
    record = gk.callbacks.RunRecord(output, settings, _digests(data, validation, test))
    notice = gk.callbacks.CompileNotice(lambda text: print(text, flush=True))
    keeper = new_keeper(output)

    write_settings(output, settings, _AGAIN)
    print(report)
    print(_describe_trainable(classifier))
    print(f"prepared in {time.perf_counter() - began:.1f} s", flush=True)
    began = time.perf_counter()
    encode = classifier.encode
    validation_data = found.validation and found.validation.batches(batch_size, encode=encode)
    try:
        classifier.fit(
            found.train.batches(batch_size, seed=seed, encode=encode),
            validation_data=validation_data,
            epochs=epochs,
            class_weight=found.class_weights if class_weight == "balanced" else None,
            callbacks=[notice, keras.callbacks.TerminateOnNaN(), record, keeper],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        print(keeper.interrupted(steps), file=sys.stderr)
        raise
    print(f"trained {steps:,} steps in {time.perf_counter() - began:.1f} s")
    if classifier.stop_training:  # TerminateOnNaN sets it
        raise ValueError(
            f"the training stopped at step {keeper.step}, because the loss is not finite, see "
            f"{pathlib.Path(output) / 'report.md'}. Try a lower `learning_rate`, got {rate:g}."
        )
    if held_out is not None:
        name = "validation" if found.test is None else "test"
        print(f"\n{_evaluate(classifier, held_out, name, batch_size, record)}\n")
    print_written(output)
    print(f'to use it: gpt-keras classify {output} "..."')


def _trained(freeze_backbone, lora_rank, lora_alpha, target_layer_names) -> tuple[str, int]:
    """Return the rank, and the trained weights: `"adapters"`, `"head"` or `"all"`."""
    if lora_rank is None:
        lora_rank = 0 if freeze_backbone else 8
    if lora_rank < 0:
        raise ValueError(f"`lora_rank` must be at least 0, got {lora_rank}.")
    if freeze_backbone and lora_rank:
        raise ValueError(
            f"`lora_rank` must be 0 with `freeze_backbone`, which trains only the head, got "
            f"{lora_rank}."
        )
    for name, value in (("lora_alpha", lora_alpha), ("target_layer_names", target_layer_names)):
        if value is not None and not lora_rank:
            raise ValueError(f"`{name}` needs a `lora_rank` above 0, got {value!r} without one.")
    return ("adapters" if lora_rank else "head" if freeze_backbone else "all"), lora_rank


def _load(source: str, dtype: str | None) -> "gk.CausalLM":
    """Load a language model, all of whose weights can be trained."""
    from gpt_keras.models.adapters import adapted_layers

    language_model = gk.CausalLM.from_preset(source, dtype)
    if adapted_layers(language_model):  # they become a part of the model to fine-tune
        language_model.merge_adapter()
    language_model.backbone.trainable = True
    return language_model


def _classifier(language_model, source, pooling, max_sequence_length, **arguments):
    """Return a classifier with the backbone and tokenizer of a language model."""
    from gpt_keras.models.task_inputs import NUM_SPECIAL_IDS

    tokenizer, backbone = language_model.tokenizer, language_model.backbone
    if tokenizer is None:
        raise ValueError(f"`model` must have a tokenizer, but {source!r} has none.")
    if pooling == "extract":
        needed = tokenizer.vocabulary_size + NUM_SPECIAL_IDS
        if backbone.token_embedding.input_dim < needed:
            backbone = backbone.with_vocabulary_size(needed)
    limit = language_model.max_sequence_length
    if max_sequence_length is None:
        max_sequence_length = min(limit or _LONGEST, _LONGEST)
    elif limit is not None and max_sequence_length > limit:
        raise ValueError(
            f"`sequence_length` must be at most {limit}, the model's context length, got "
            f"{max_sequence_length}."
        )
    return gk.GPTClassifier(
        backbone,
        pooling=pooling,
        tokenizer=tokenizer,
        max_sequence_length=max_sequence_length,
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


def _describe_trainable(model) -> str:
    report = gk.finetuning.trainable_report(model)
    return (
        f"trained: {report['trainable']:,} of {report['parameters']:,} parameters "
        f"({report['share']:.2%}), in {counted(report['layers'])}"
    )


def _digests(*files: str | None) -> dict[str, Any]:
    from gpt_keras.datasets.documents import document_digest

    digests = {}
    for name, file in zip(("", "validation_", "test_"), files):
        if file is not None:
            digests[f"{name}file"] = file
            digests[f"{name}sha256"] = document_digest(pathlib.Path(file)).hex()
    return digests


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


@contextlib.contextmanager
def _plain_warnings():
    """Print warnings as lines of the command line, without places in code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: print(
            "gpt-keras: warning:", message, file=sys.stderr
        )
        yield
