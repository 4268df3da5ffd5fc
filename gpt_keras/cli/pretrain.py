"""The command `gpt-keras train`."""

import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

from .files import beginning, check_output, print_written, read_corpus
from .package import gk
from .runs import (
    CHECKPOINTS,
    check_no_run,
    interrupted_settings,
    new_checkpoint,
    new_keeper,
    read_plan,
    write_plan,
    write_settings,
)

# Default learning rates of a new model.
_LEARNING_RATES = {"muon": 0.02, "adamw": 0.001}

# Default length of the sequences on which a loaded model is trained.
_LENGTH = 128

_AGAIN = "gpt-keras train --config {settings} CORPUS NEW_OUTPUT"


def train(
    corpus: str,
    output: str,
    *,
    init: str | None = None,
    tokenizer: Literal["byte_pair", "character", "gpt2"] | None = None,
    vocabulary_size: int | None = None,
    preset: str | None = None,
    num_layers: int | None = None,
    num_heads: int | None = None,
    hidden_dim: int | None = None,
    sequence_length: int | None = None,
    dropout: float | None = None,
    batch_size: int = 16,
    accumulate: int = 1,
    steps: int = 1000,
    optimizer: Literal["muon", "adamw"] = "muon",
    learning_rate: float | None = None,
    warmup_steps: int | None = None,
    dtype: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32",
    rematerialize: bool = False,
    skip_above: float | None = None,
    stop_above: float | None = None,
    validation_fraction: float = 0.1,
    evaluations: int = 10,
    prompt: str | None = None,
    tensorboard: bool = False,
    keep_line_ends: bool = False,
    field: str = "text",
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Train a new GPT on text, or go on with a trained one, and save it with a report.

    The output directory contains the model, report.md, run.json and run.yaml. To repeat a run:
    gpt-keras train --config my_model/run.yaml shakespeare another_model. The model is saved after
    each evaluation. Ctrl-C stops training and saves the current model. The same command with
    --resume continues an interrupted training exactly, as if it had not been interrupted.

    For example: gpt-keras train shakespeare my_model --steps 500

    Args:
        corpus: Training text: a bundled corpus (shakespeare or tang_poems), a text file, a table
            (.jsonl, .json, .csv, .tsv or .parquet) with a text in each row, or a directory of
            these. Files may be compressed by gzip (.txt.gz, .jsonl.gz).
        output: New or empty directory for the trained model.
        init: Trained model to go on with, instead of a new one with random weights. Its tokenizer
            and its shape are kept, so the flags that set them must be left out. A name of a
            pretrained model, a directory, a .keras or .gguf file, or hf://owner/name[@revision].
        tokenizer: Kind of tokenizer. byte_pair trains a byte-level BPE tokenizer on the corpus,
            character has one token per character, gpt2 is GPT-2's BPE tokenizer with 50,257 tokens.
            The default is byte_pair.
        vocabulary_size: Vocabulary size of byte_pair. The other tokenizers ignore it. The default
            is 4096.
        preset: Architecture of a known model, such as gpt2_small, with random weights. Cannot be
            combined with num_layers, num_heads or hidden_dim; these set the size of a modern
            decoder.
        num_layers: Number of transformer blocks. The default is 4.
        num_heads: Number of attention heads per block; must divide hidden_dim. The default is 4.
        hidden_dim: Width of the model. The default is 128.
        sequence_length: Context length in tokens, in training and generation. The default is the
            preset's, or 128. With init, the length of the sequences in training alone; the default
            is 128, or the model's context length if that is shorter.
        dropout: Dropout rate in [0, 1). The default is the preset's, or 0.
        batch_size: Number of sequences per batch.
        accumulate: Number of batches per training step (gradient accumulation). Values above 1 give
            steps on more sequences than fit into memory at once.
        steps: Number of training steps.
        optimizer: Optimizer. muon uses Muon for the weight matrices of the blocks and AdamW for the
            other weights; adamw uses AdamW for all weights.
        learning_rate: Peak learning rate, reached after warm-up. A cosine schedule then lowers it,
            to 0 with muon and to a tenth with adamw. The default is 0.02 with muon and 0.001 with
            adamw, and a tenth of that with init.
        warmup_steps: Number of warm-up steps, in which the learning rate rises from 0. The default
            is a tenth of steps, but at most 100.
        dtype: Dtype policy. mixed_bfloat16 and mixed_float16 are for GPUs; they keep the weights in
            float32.
        rematerialize: Whether to recompute the activations inside the blocks in the backward pass
            (gradient checkpointing). Needs much less memory and is about a third slower.
        skip_above: Threshold for skipping batches. A batch is skipped if its gradient norm is more
            than this many times the running mean, or not finite.
        stop_above: Threshold for stopping. Training stops if the loss of a batch is more than this
            many times its running mean. It always stops if the loss of a batch that is not skipped
            is not finite.
        validation_fraction: Fraction of the corpus that is held out for validation, in [0, 1).
        evaluations: Number of evaluations, at equal intervals. Each measures the validation loss
            and prints a sample. The largest number up to this one that divides steps is used.
        prompt: Prompt of the samples, or "" for no samples. The default is the beginning of the
            corpus.
        tensorboard: Whether to write TensorBoard logs to the directory tensorboard in output.
        keep_line_ends: Whether to keep CRLF and CR line ends in files instead of converting them
            to LF.
        field: Column of the text, if corpus is a table.
        seed: Random seed of the whole run. The same seed gives the same training.
        resume: Whether to continue the training in output, from its newest checkpoint. The other
            arguments must be as before, but steps may be larger. The learning-rate schedule then
            follows the new number of steps.
    """
    settings = dict(locals())
    del settings["resume"]
    began = time.perf_counter()
    import keras

    from gpt_keras.cache import check_cache_dir, default_cache_dir
    from gpt_keras.checks import check_positive_int, check_rate, check_seed
    from gpt_keras.corpus import digest_and_count

    # All arguments are checked here, so that an error appears before any long work.
    before = settings
    if resume:
        before = interrupted_settings(output, settings, ("steps",))
    else:
        check_no_run(output, _AGAIN, 'gpt-keras generate {output} "..."')
        check_output(output)
    check_cache_dir(default_cache_dir())
    texts = read_corpus(corpus, field)
    reading = {"keep_line_ends": keep_line_ends, "field": field}
    shape = {"num_layers": num_layers, "num_heads": num_heads, "hidden_dim": hidden_dim}
    if init is None:
        config = _config(preset, shape, max_sequence_length=sequence_length, dropout=dropout)
    else:
        names = ("tokenizer", "vocabulary_size", "preset", *shape, "dropout")
        _check_none_given(init, {name: settings[name] for name in names})
        if sequence_length is not None:
            check_positive_int("sequence_length", sequence_length)
    for name in ("batch_size", "accumulate", "steps", "evaluations"):
        check_positive_int(name, settings[name])
    check_rate("validation_fraction", validation_fraction)
    check_seed(seed)
    plan = {
        "interval": steps // _num_evaluations(steps, evaluations),
        "warmup_steps": min(steps // 10, 100) if warmup_steps is None else warmup_steps,
    }
    if resume:
        plan = read_plan(output, plan)
        if steps % plan["interval"] or steps < before["steps"]:
            raise ValueError(
                f"`steps` must be a multiple of {plan['interval']}, the steps between two "
                f"evaluations, and at least {before['steps']} to continue the training in "
                f"{output!r}; got {steps}."
            )
    epochs, warmup_steps = steps // plan["interval"], plan["warmup_steps"]
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"`warmup_steps` must be from 0 to below {steps}, got {warmup_steps!r}.")
    make_optimizer = {"adamw": gk.training.adamw, "muon": gk.training.muon}[optimizer]
    if learning_rate is None and init is not None:
        learning_rate = _LEARNING_RATES[optimizer] / 10
    new_optimizer = make_optimizer(
        **({} if learning_rate is None else {"learning_rate": learning_rate}),
        warmup_steps=warmup_steps,
        total_steps=steps,
        skip_above=skip_above,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    watch = gk.callbacks.LossWatch(stop_above)

    keras.utils.set_random_seed(seed % 2**32)
    if init is None:
        encoder = _tokenizer(tokenizer, texts, vocabulary_size, reading)
        length = config.max_sequence_length
    else:
        model = _load(init, dtype, rematerialize)
        encoder = model.tokenizer
        length = _sequence_length(sequence_length, model.max_sequence_length)
    data, validation = gk.datasets.language_modeling(
        texts,
        encoder,
        sequence_length=length,
        batch_size=batch_size,
        validation_fraction=validation_fraction,
        seed=seed,
        **reading,
    )
    if init is None:
        config = config.replace(vocabulary_size=encoder.vocabulary_size)
        model = gk.GPTCausalLM(config, tokenizer=encoder, dtype=dtype, rematerialize=rematerialize)
    model.compile(optimizer=new_optimizer)
    notice = gk.callbacks.CompileNotice(lambda text: print(text, flush=True))
    callbacks, samples = [notice, gk.callbacks.Throughput(), watch], None
    if prompt is None:
        prompt = _first_words(beginning(texts, field), length // 8 + 1)
    if prompt:
        model.stream(prompt)  # raises for an invalid prompt now instead of at the first sample
        samples = gk.callbacks.SampleText(prompt)
        callbacks.append(samples)
    digest, num_documents = digest_and_count(texts, field)
    described = {"corpus": corpus, "documents": num_documents, "sha256": digest}
    callbacks.append(gk.callbacks.RunRecord(output, settings, described, samples, watch))
    if tensorboard:
        board = gk.callbacks.TensorBoard(
            pathlib.Path(output) / "tensorboard", samples=samples, attention_text=prompt or None
        )
        callbacks.append(board)
    write_settings(output, settings, _AGAIN)
    write_plan(output, plan)
    print(f"{num_documents:,} documents; their token ids are kept in {default_cache_dir()}")
    print(f"{encoder.vocabulary_size:,} tokens, {model.count_params():,} parameters")
    print(f"prepared in {time.perf_counter() - began:.1f} s", flush=True)

    began = time.perf_counter()
    keeper = new_keeper(output, accumulate)
    try:
        history = model.fit(
            data.repeat(),
            validation_data=validation,
            epochs=epochs,
            steps_per_epoch=steps // epochs * accumulate,
            callbacks=[*callbacks, keeper, new_checkpoint(output)],
            verbose=1 if sys.stdout.isatty() else 2,
        ).history
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        print(keeper.interrupted(steps), file=sys.stderr)
        raise
    print(f"trained {steps:,} steps in {time.perf_counter() - began:.1f} s")
    if watch.incidents and watch.incidents[-1]["action"] == "stopped":
        kept = "no model was saved"
        if keeper.saved_step:
            kept = f"the model of step {keeper.saved_step:,}, the last evaluation, was saved"
        raise ValueError(
            f"the training stopped at step {watch.incidents[-1]['step']}, see "
            f"{pathlib.Path(output) / 'report.md'}; {kept}."
        )
    if validation is not None:
        loss, perplexity = history["val_loss"][-1], history["val_perplexity"][-1]
        print(f"validation loss {loss:.4f}, perplexity {perplexity:.2f}")
    print_written(output, CHECKPOINTS)


def _num_evaluations(steps: int, most: int) -> int:
    """Return the largest number up to `most` that divides `steps`."""
    return max(n for n in range(1, min(most, steps) + 1) if steps % n == 0)


def _config(preset: str | None, shape: Mapping[str, Any], **changes) -> "gk.GPTConfig":
    """Return the preset's config, or one of this shape, with the given changes."""
    given = {name: value for name, value in shape.items() if value is not None}
    if preset is not None and given:
        raise ValueError(f"`preset` decides {', '.join(given)}; give one or the other.")
    changes = {name: value for name, value in changes.items() if value is not None}
    from gpt_keras.presets.nano import nano

    if preset is None:
        return nano(**given | changes)
    return gk.GPTConfig.from_dict(gk.presets.get(preset).to_dict() | changes)


def _check_none_given(init: str, settings: Mapping[str, Any]) -> None:
    """Check that no flag is given that the model of `init` decides."""
    given = [f"`{name}`" for name, value in settings.items() if value is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)} must be left out with `init`: the model {init!r} decides."
        )


def _load(init: str, dtype: str, rematerialize: bool) -> "gk.CausalLM":
    """Load the model with which the training begins."""
    model = gk.CausalLM.from_preset(init, dtype)
    if model.tokenizer is None:
        raise ValueError(f"`init` must be a model with a tokenizer, but {init!r} has none.")
    if rematerialize and not hasattr(model.backbone, "rematerialize"):
        raise ValueError(f"`rematerialize` must be false: the model {init!r} has no blocks.")
    if rematerialize:
        model.backbone.rematerialize = True
    return model


def _sequence_length(given: int | None, limit: int | None) -> int:
    """Return the length of the sequences on which a loaded model is trained."""
    if given is None:
        return _LENGTH if limit is None else min(_LENGTH, limit)
    if limit is not None and given > limit:
        raise ValueError(
            f"`sequence_length` must be at most {limit}, the context length of the model of "
            f"`init`, got {given}."
        )
    return given


def _tokenizer(
    kind: str | None,
    texts: list[str] | list[pathlib.Path],
    vocabulary_size: int | None,
    reading: Mapping[str, Any],
):
    match kind:
        case "byte_pair" | None:
            size = 4096 if vocabulary_size is None else vocabulary_size
            return gk.tokenizers.BytePairTokenizer.train(texts, size, **reading)
        case "character":
            return gk.tokenizers.CharacterTokenizer.train(texts, end_of_text=True, **reading)
        case "gpt2":
            return gk.tokenizers.BytePairTokenizer.gpt2()


def _first_words(text: str, num_characters: int) -> str:
    return text.strip()[:num_characters].split("\n")[0].strip()
