"""The commands for models: `gpt-keras train | generate | export | info`."""

import pathlib
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import keras

import gpt_keras as gk
from gpt_keras.cli.files import (
    beginning,
    check_output,
    describe_size,
    print_written,
    read_corpus,
)
from gpt_keras.cli.settings import strategy_of, takes_processors
from gpt_keras.config import GPTConfig, check_positive_int, check_rate
from gpt_keras.datasets.checks import check_seed
from gpt_keras.datasets.token_cache import default_cache_dir
from gpt_keras.models.preset_folder import read_config

# What `train` builds unless told otherwise; how many tokens there are, the tokenizer decides.
_SHAPE = {
    "vocabulary_size": 1,
    "max_sequence_length": 128,
    "num_layers": 4,
    "num_heads": 4,
    "hidden_dim": 128,
}

_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


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
    steps: int = 1000,
    learning_rate: float = 1e-3,
    warmup_steps: int | None = None,
    validation_fraction: float = 0.1,
    evaluations: int = 10,
    prompt: str | None = None,
    seed: int = 0,
) -> None:
    """Train a new GPT on text and save it.

    For example: gpt-keras train shakespeare my_model --steps 500

    Args:
        corpus: Text to learn from: shakespeare or tang_poems, which come with the package, or the
            path of a text file, or of a directory, which stands for all .txt files in it.
        output: New or empty directory for the trained model.
        tokenizer: What a token is: byte_pair learns frequent pieces of words from the corpus,
            character takes single characters, gpt2 takes GPT-2's 50,257 pieces of words.
        vocabulary_size: Number of tokens that byte_pair learns; the others have their own.
        preset: Shape of a known model, such as gpt2_small, instead of num_layers, num_heads and
            hidden_dim. Its weights start random.
        num_layers: Number of transformer blocks; 4 unless given.
        num_heads: Number of attention heads in each block; must divide hidden_dim; 4 unless given.
        hidden_dim: Width of the model; 128 unless given.
        sequence_length: Number of tokens that the model sees at once, in training and afterwards;
            the preset's, or 128, unless given.
        dropout: Share of activations set to zero in training, from 0 to below 1, against
            overfitting; the preset's, or 0, unless given.
        batch_size: Number of sequences in each step.
        steps: Number of training steps.
        learning_rate: Highest learning rate, reached after the warm-up; a cosine then takes it
            down to a tenth.
        warmup_steps: Number of first steps, in which the learning rate rises from 0; a tenth of
            steps, at most 100, unless given.
        validation_fraction: Share of the corpus that is kept out of training to measure the loss
            on, from 0 to below 1.
        evaluations: How often to measure the validation loss and show a sample, at even distances;
            the largest number up to this one that divides steps.
        prompt: Text that the samples continue; "" for no samples; the first words of the corpus
            unless given.
        seed: Number from which all that is random follows: same seed, same training.
    """
    began = time.perf_counter()
    # What is wrong with the arguments is found here, before there is any work.
    check_output(output)
    documents = read_corpus(corpus)
    shape = {"num_layers": num_layers, "num_heads": num_heads, "hidden_dim": hidden_dim}
    config = _config(preset, shape, max_sequence_length=sequence_length, dropout=dropout)
    for name, value in (("batch_size", batch_size), ("steps", steps), ("evaluations", evaluations)):
        check_positive_int(name, value)
    check_rate("validation_fraction", validation_fraction)
    check_seed(seed)
    if warmup_steps is None:
        warmup_steps = min(steps // 10, 100)
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"`warmup_steps` must be from 0 to below {steps}, got {warmup_steps!r}.")
    optimizer = gk.training.adamw(learning_rate, warmup_steps=warmup_steps, total_steps=steps)

    keras.utils.set_random_seed(seed % 2**32)
    encoder = _tokenizer(tokenizer, documents, vocabulary_size)
    data, validation = gk.datasets.language_modeling(
        documents,
        encoder,
        sequence_length=config.max_sequence_length,
        batch_size=batch_size,
        validation_fraction=validation_fraction,
        seed=seed,
    )
    config = config.replace(vocabulary_size=encoder.vocabulary_size)
    model = gk.GPTCausalLM(config, tokenizer=encoder)
    model.compile(optimizer=optimizer)
    callbacks = [gk.training.Throughput()]
    if prompt is None:
        prompt = _first_words(documents, config.max_sequence_length // 8 + 1)
    if prompt:
        model.stream(prompt)  # what is wrong with it is said now, not at the first sample
        callbacks.append(gk.training.SampleText(prompt))
    print(f"{len(documents):,} documents; their token ids are kept in {default_cache_dir()}")
    print(f"{encoder.vocabulary_size:,} tokens, {config.num_parameters:,} parameters")
    print(f"prepared in {time.perf_counter() - began:.1f} s", flush=True)

    began = time.perf_counter()
    epochs = max(n for n in range(1, min(evaluations, steps) + 1) if steps % n == 0)
    history = model.fit(
        data.repeat(),
        validation_data=validation,
        epochs=epochs,
        steps_per_epoch=steps // epochs,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    ).history
    print(f"trained {steps:,} steps in {time.perf_counter() - began:.1f} s")
    if validation is not None:
        loss, perplexity = history["val_loss"][-1], history["val_perplexity"][-1]
        print(f"validation loss {loss:.4f}, perplexity {perplexity:.2f}")
    model.save_to_preset(output)
    print_written(output)


@takes_processors()
def generate(
    model: str,
    *prompts: str,
    max_new_tokens: int = 100,
    seed: int | None = None,
    stop: list[str] | None = None,
    time_limit: float | None = None,
    num_beams: int | None = None,
    best_of: int | None = None,
    prompt_lookup: int | None = None,
    draft: str | None = None,
    sliding_window: bool = False,
    scores: bool = False,
    **processors,
) -> None:
    """Continue one or more texts with a trained model.

    For example: gpt-keras generate my_model "Once upon a time" --temperature 0.8

    Args:
        model: Directory that gpt-keras train or save_to_preset wrote, or a .keras file.
        prompts: Texts to continue. A single one is shown as it grows.
        max_new_tokens: How many tokens to add at most.
        seed: Number from which the draws follow: same seed, same text; another text each time
            unless given.
        stop: Texts; the new text ends before the first of them.
        time_limit: Seconds after which no more tokens are added.
        num_beams: Search for the likeliest text with this many beams instead of drawing.
        best_of: Draw this many texts and take the likeliest one.
        prompt_lookup: Guess this many tokens at once from what the text held before: faster where
            it repeats itself; for one prompt.
        draft: A smaller model with the same tokenizer that guesses tokens for the model to check:
            faster where it is often right; for one prompt.
        sliding_window: Whether to go on past the longest text that the model takes, with its last
            part in view.
        scores: Whether to show before each text, and with num_beams or best_of before each of the
            texts that were found, the mean log-probability of a new token.
        **processors: The logits processors, which are off unless given.
    """
    settings = dict(max_new_tokens=max_new_tokens, seed=seed, stop=stop or (), **processors)
    settings |= dict(time_limit=time_limit, sliding_window=sliding_window)
    settings["strategy"] = strategy_of(num_beams, best_of, prompt_lookup, draft)
    language_model = gk.CausalLM.from_preset(model)
    if scores:
        found = language_model.generate_with_scores(list(prompts), **settings)
        texts = [f"{text.score:.4f}\n{text.text}" for texts in found for text in texts]
        print("\n---\n".join(texts))
        return
    if len(prompts) > 1 or not settings["strategy"].streams:
        print("\n---\n".join(language_model.generate(list(prompts), **settings)))
        return
    pieces = language_model.stream(*prompts, **settings)
    print(*prompts, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def export(model: str, directory: str, *, jit_compile: bool = True) -> None:
    """Write a trained model as a SavedModel, which takes strings and returns strings.

    It needs nothing but TensorFlow, or TensorFlow Serving, to run. For example: gpt-keras export
    my_model exported/1

    Args:
        model: Directory that gpt-keras train or save_to_preset wrote, or a .keras file.
        directory: New or empty directory for the SavedModel.
        jit_compile: Whether XLA compiles the step for one token, which is several times faster;
            false for a server without XLA, such as TensorFlow Serving on a CPU.
    """
    began = time.perf_counter()
    check_output(directory)
    gk.export.saved_model(gk.CausalLM.from_preset(model), directory, jit_compile=jit_compile)
    print_written(directory)
    print(f"exported in {time.perf_counter() - began:.1f} s")


def info(name_or_path: str) -> None:
    """Show the size of a model, and what it takes to train and run it, without building it.

    For example: gpt-keras info gpt2_small

    Args:
        name_or_path: Name of a preset, such as gpt2_small; or a directory that gpt-keras train or
            save_to_preset wrote, a .keras file, or a config.json.
    """
    config = _read_config(name_or_path)
    length = config.max_sequence_length
    flops = config.flops_per_token()
    rows = {
        "layers": config.num_layers,
        "heads": f"{config.num_heads} of width {config.head_dim}, "
        f"{config.num_key_value_heads} for keys and values",
        "width": f"{config.hidden_dim:,}, {config.intermediate_dim:,} in the feed-forward",
        "attention": _attention(config),
        "experts": _experts(config),
        "vocabulary": f"{config.vocabulary_size:,} tokens",
        "context": f"{length:,} tokens",
        "parameters": f"{config.num_parameters:,}",
        "FLOPs per token": f"{flops:.3g} to generate, {3 * flops:.3g} to train, at full context",
        "": "".join(f"{dtype:>12}" for dtype in _BYTES),
        "weights": _sizes(size * config.num_parameters for size in _BYTES.values()),
        "AdamW's state": _sizes([2 * _BYTES["float32"] * config.num_parameters]),
        "KV cache, full": _sizes(config.kv_cache_bytes(1, length, dtype) for dtype in _BYTES),
    }
    print(name_or_path)
    for name, value in rows.items():
        if value is not None:
            print(f"  {name:<16}  {value}")


def _config(preset: str | None, shape: Mapping[str, Any], **changes) -> GPTConfig:
    """The preset, or the shape, with the changes that are not None."""
    given = {name: value for name, value in shape.items() if value is not None}
    if preset is not None and given:
        raise ValueError(f"`preset` decides {', '.join(given)}; give one or the other.")
    fields = _SHAPE if preset is None else gk.presets.get(preset).to_dict()
    changes = {name: value for name, value in changes.items() if value is not None}
    return GPTConfig.from_dict({**fields, **given, **changes})


def _tokenizer(kind: str, documents: list[str | pathlib.Path], vocabulary_size: int):
    match kind:
        case "byte_pair":
            return gk.tokenizers.BytePairTokenizer.train(documents, vocabulary_size)
        case "character":
            return gk.tokenizers.CharacterTokenizer.train(documents, end_of_text=True)
        case "gpt2":
            return gk.tokenizers.BytePairTokenizer.gpt2()


def _first_words(documents: list[str | pathlib.Path], num_characters: int) -> str:
    return beginning(documents).strip()[:num_characters].split("\n")[0].strip()


def _read_config(name_or_path: str) -> GPTConfig:
    """The config of a preset, or the one in a file, without making a model."""
    path = pathlib.Path(name_or_path)
    if name_or_path in gk.presets.list():
        return gk.presets.get(name_or_path)
    if not path.exists():
        names = ", ".join(gk.presets.list())
        raise ValueError(f"`name_or_path` must be a path or one of {names}, got {name_or_path!r}.")
    return read_config(path)


def _attention(config: GPTConfig) -> str:
    windows = [config.attention_window(i) for i in range(config.num_layers)]
    banded = [window for window in windows if window is not None]
    if not banded:
        return "to all tokens before, in all layers"
    widths = " or ".join(f"{width:,}" for width in sorted(set(banded)))
    return (
        f"to the last {widths} tokens in {len(banded)} of {len(windows)} layers; "
        "their KV cache keeps all tokens"
    )


def _experts(config: GPTConfig) -> str | None:
    if config.num_experts is None:
        return None
    return (
        f"{config.num_experts}, of which a token gets {config.num_experts_per_token}; "
        "all are computed"
    )


def _sizes(numbers_of_bytes: Iterable[int]) -> str:
    return "".join(f"{describe_size(number):>12}" for number in numbers_of_bytes)
