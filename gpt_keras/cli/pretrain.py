"""The command that trains: `gpt-keras train`."""

import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Literal

from .files import beginning, check_output, print_written, read_corpus
from .package import gk

_SETTINGS = "run.yaml"
_RECORD = "run.json"


def train(
    corpus: str,
    output: str,
    *,
    tokenizer: Literal["byte_pair", "character", "gpt2"] = "byte_pair",
    vocabulary_size: int = 4096,
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
    seed: int = 0,
) -> None:
    """Train a new GPT on text and save it, with a report on the training.

    For example: gpt-keras train shakespeare my_model --steps 500

    The output gets, besides the model, report.md, run.json and run.yaml. To train the same again:
    gpt-keras train --config my_model/run.yaml shakespeare another_model. After each evaluation the
    model is saved. Ctrl-C ends the training and saves the model as it is then.

    Args:
        corpus: Text to learn from: shakespeare or tang_poems, which come with the package, or the
            path of a text file, or of a directory, which stands for all .txt and .md files in it.
        output: New or empty directory for the trained model.
        tokenizer: What a token is: byte_pair learns frequent pieces of words from the corpus,
            character takes single characters, gpt2 takes GPT-2's 50,257 pieces of words.
        vocabulary_size: Number of tokens that byte_pair learns; the others have their own.
        preset: Shape of a known model, such as gpt2_small, instead of num_layers, num_heads and
            hidden_dim, which are for a modern decoder. Its weights start random.
        num_layers: Number of transformer blocks; 4 unless given.
        num_heads: Number of attention heads in each block; must divide hidden_dim; 4 unless given.
        hidden_dim: Width of the model; 128 unless given.
        sequence_length: Number of tokens that the model sees at once, in training and afterwards;
            the preset's, or 128, unless given.
        dropout: Share of activations set to zero in training, from 0 to below 1, against
            overfitting; the preset's, or 0, unless given.
        batch_size: Number of sequences in a batch.
        accumulate: Number of batches in each step; more than 1 for steps on more sequences than
            fit into memory.
        steps: Number of training steps.
        optimizer: Muon for the matrices of the blocks with adamw for the rest, or adamw for all.
        learning_rate: Highest learning rate, reached after the warm-up; a cosine then takes it
            down, to 0 with muon and to a tenth with adamw. 0.02 and 0.001 unless given.
        warmup_steps: Number of first steps, in which the learning rate rises from 0; a tenth of
            steps, at most 100, unless given.
        dtype: What the layers compute in; the weights are float32. mixed_bfloat16 and
            mixed_float16 are for GPUs.
        rematerialize: Whether to compute what is inside the blocks twice instead of keeping it:
            much less memory, and a third slower.
        skip_above: A batch whose gradients are so many times larger than usual, or not finite, is
            left out.
        stop_above: Training stops at a loss that is so many times as high as usual; at one that
            is not finite it always does, unless the batch is left out.
        validation_fraction: Share of the corpus that is kept out of training to measure the loss
            on, from 0 to below 1.
        evaluations: How often to measure the validation loss and show a sample, at even distances;
            the largest number up to this one that divides steps.
        prompt: Text that the samples continue; "" for no samples; the first words of the corpus
            unless given.
        tensorboard: Whether to write what TensorBoard shows, to a directory tensorboard in output.
        keep_line_ends: Whether the line ends of Windows stay as they are in files, instead of
            becoming those of Unix.
        seed: Number from which all that is random follows: same seed, same training.
    """
    settings = dict(locals())
    began = time.perf_counter()
    import keras

    from gpt_keras.cache import check_cache_dir, default_cache_dir
    from gpt_keras.checks import check_positive_int, check_rate, check_seed

    # What is wrong with the arguments is found here, before there is any work.
    _check_no_run(pathlib.Path(output))
    check_output(output)
    check_cache_dir(default_cache_dir())
    documents = read_corpus(corpus)
    shape = {"num_layers": num_layers, "num_heads": num_heads, "hidden_dim": hidden_dim}
    config = _config(preset, shape, max_sequence_length=sequence_length, dropout=dropout)
    for name in ("batch_size", "accumulate", "steps", "evaluations"):
        check_positive_int(name, settings[name])
    check_rate("validation_fraction", validation_fraction)
    check_seed(seed)
    if warmup_steps is None:
        warmup_steps = min(steps // 10, 100)
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"`warmup_steps` must be from 0 to below {steps}, got {warmup_steps!r}.")
    make_optimizer = {"adamw": gk.training.adamw, "muon": gk.training.muon}[optimizer]
    new_optimizer = make_optimizer(
        **({} if learning_rate is None else {"learning_rate": learning_rate}),
        warmup_steps=warmup_steps,
        total_steps=steps,
        skip_above=skip_above,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    watch = gk.callbacks.LossWatch(stop_above)

    keras.utils.set_random_seed(seed % 2**32)
    encoder = _tokenizer(tokenizer, documents, vocabulary_size, keep_line_ends)
    data, validation = gk.datasets.language_modeling(
        documents,
        encoder,
        sequence_length=config.max_sequence_length,
        batch_size=batch_size,
        validation_fraction=validation_fraction,
        seed=seed,
        keep_line_ends=keep_line_ends,
    )
    config = config.replace(vocabulary_size=encoder.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=encoder, dtype=dtype, rematerialize=rematerialize)
    model.compile(optimizer=new_optimizer)
    notice = gk.callbacks.CompileNotice(lambda text: print(text, flush=True))
    callbacks, samples = [notice, gk.callbacks.Throughput(), watch], None
    if prompt is None:
        prompt = _first_words(documents, config.max_sequence_length // 8 + 1)
    if prompt:
        model.stream(prompt)  # what is wrong with it is said now, not at the first sample
        samples = gk.callbacks.SampleText(prompt)
        callbacks.append(samples)
    digest = {
        "corpus": corpus,
        "documents": len(documents),
        "sha256": gk.datasets.digest(documents),
    }
    callbacks.append(gk.callbacks.RunRecord(output, settings, digest, samples, watch))
    if tensorboard:
        board = gk.callbacks.TensorBoard(
            pathlib.Path(output) / "tensorboard", samples=samples, attention_text=prompt or None
        )
        callbacks.append(board)
    _write_settings(output, settings)
    print(f"{len(documents):,} documents; their token ids are kept in {default_cache_dir()}")
    print(f"{encoder.vocabulary_size:,} tokens, {config.num_parameters:,} parameters")
    print(f"prepared in {time.perf_counter() - began:.1f} s", flush=True)

    began = time.perf_counter()
    epochs = max(n for n in range(1, min(evaluations, steps) + 1) if steps % n == 0)
    keeper = _new_keeper(pathlib.Path(output), accumulate)
    try:
        history = model.fit(
            data.repeat(),
            validation_data=validation,
            epochs=epochs,
            steps_per_epoch=steps // epochs * accumulate,
            callbacks=[*callbacks, keeper],
            verbose=1 if sys.stdout.isatty() else 2,
        ).history
    except KeyboardInterrupt:
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
    print_written(output)


def _check_no_run(output: pathlib.Path) -> None:
    """Say how to go on where an interrupted run left its files, instead of only refusing them."""
    try:
        record = json.loads((output / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if record.get("finished", True):
        return
    use = "There is no model in it."
    if (output / "config.json").exists():
        use = f'Its model can be used: gpt-keras generate {output} "...".'
    raise ValueError(
        f"`output` {str(output)!r} holds a training that did not finish. {use} To train from the "
        f"beginning, delete it, or name another output: "
        f"gpt-keras train --config {output / _SETTINGS} CORPUS NEW_OUTPUT"
    )


def _new_keeper(output: pathlib.Path, accumulate: int):
    """Return a callback that saves the model after each evaluation, and when it is interrupted."""
    import keras

    from gpt_keras.callbacks.progress import BatchCounter

    class ModelKeeper(keras.callbacks.Callback):
        saved_step = 0
        _counter = BatchCounter()

        @property
        def step(self):
            return self._counter.total // accumulate

        def on_epoch_begin(self, epoch, logs=None):
            self._counter.begin_epoch()

        def on_train_batch_end(self, batch, logs=None):
            self._counter.end(batch)

        def on_epoch_end(self, epoch, logs=None):
            if not self.model.stop_training:  # the loss is none that anybody wants to keep
                self._save()

        def interrupted(self, steps: int) -> str:
            """Save what there is, and return what to tell the user."""
            if self.step == 0:
                # Nothing was learned. Without these files the same command can be given again.
                for name in (_SETTINGS, _RECORD, "report.md"):
                    (output / name).unlink(missing_ok=True)
                return "gpt-keras: nothing was trained yet, and nothing is kept"
            if self.step > self.saved_step:
                self._save()
            return (
                f"gpt-keras: {output} holds the model after {self.saved_step:,} of {steps:,} steps"
            )

        def _save(self):
            _save(self.model, output)
            self.saved_step = self.step

    return ModelKeeper()


def _write_settings(output: str, settings: Mapping[str, Any]) -> None:
    import yaml  # comes with jsonargparse

    from gpt_keras.atomic import atomic_file

    with atomic_file(pathlib.Path(output) / _SETTINGS) as file:
        file.write_text(
            "# Trains the same again: gpt-keras train --config THIS_FILE CORPUS NEW_OUTPUT\n"
            + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )


def _save(model: "gk.CausalLM", output: pathlib.Path) -> None:
    """Put the model's files next to those of the run; the config, without which none is, last."""
    with tempfile.TemporaryDirectory(dir=output) as folder:
        model.save_to_preset(pathlib.Path(folder) / "model")
        files = (pathlib.Path(folder) / "model").iterdir()
        for file in sorted(files, key=lambda file: file.name == "config.json"):
            os.replace(file, output / file.name)


def _config(preset: str | None, shape: Mapping[str, Any], **changes) -> "gk.GPTConfig":
    """Return the preset, or the shape, with the changes that are not None."""
    given = {name: value for name, value in shape.items() if value is not None}
    if preset is not None and given:
        raise ValueError(f"`preset` decides {', '.join(given)}; give one or the other.")
    changes = {name: value for name, value in changes.items() if value is not None}
    from gpt_keras.presets.nano import nano

    if preset is None:
        return nano(**given | changes)
    return gk.GPTConfig.from_dict(gk.presets.get(preset).to_dict() | changes)


def _tokenizer(
    kind: str, documents: list[str | pathlib.Path], vocabulary_size: int, keep_line_ends: bool
):
    settings = {"keep_line_ends": keep_line_ends}
    match kind:
        case "byte_pair":
            return gk.tokenizers.BytePairTokenizer.train(documents, vocabulary_size, **settings)
        case "character":
            return gk.tokenizers.CharacterTokenizer.train(documents, end_of_text=True, **settings)
        case "gpt2":
            return gk.tokenizers.BytePairTokenizer.gpt2()


def _first_words(documents: list[str | pathlib.Path], num_characters: int) -> str:
    return beginning(documents).strip()[:num_characters].split("\n")[0].strip()
