"""The commands for trained models: `gpt-keras generate | evaluate | explain | export | info`."""

import pathlib
import time
from collections.abc import Iterable

from .files import (
    check_output,
    check_writable,
    describe_size,
    print_written,
    read_corpus,
    read_prompts,
)
from .package import gk
from .settings import strategy_of, takes_processors

_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@takes_processors()
def generate(
    model: str,
    *prompts: str,
    prompts_file: str | None = None,
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
        prompts_file: Text file with more prompts, one in each line; - reads standard input.
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
    prompts = [*prompts, *(read_prompts(prompts_file) if prompts_file else ())]
    if not prompts:
        raise ValueError("`prompts` must be given, as arguments or in `prompts_file`.")
    settings = dict(max_new_tokens=max_new_tokens, seed=seed, stop=stop or (), **processors)
    settings |= dict(time_limit=time_limit, sliding_window=sliding_window)
    settings["strategy"] = strategy_of(num_beams, best_of, prompt_lookup, draft)
    language_model = gk.CausalLM.from_preset(model)
    if scores:
        found = language_model.generate_with_scores(prompts, **settings)
        texts = [f"{text.score:.4f}\n{text.text}" for texts in found for text in texts]
        print("\n---\n".join(texts))
        return
    if len(prompts) > 1 or not settings["strategy"].streams:
        print("\n---\n".join(language_model.generate(prompts, **settings)))
        return
    pieces = language_model.stream(*prompts, **settings)
    print(*prompts, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def evaluate(
    model: str,
    corpus: str,
    *,
    stride: int | None = None,
    batch_size: int = 8,
    keep_line_ends: bool = False,
) -> None:
    """Measure how well a model predicts text: its perplexity, each token scored once.

    For example: gpt-keras evaluate my_model new_text.txt

    Args:
        model: Directory that gpt-keras train or save_to_preset wrote, or a .keras file.
        corpus: Text that the model was not trained on: the path of a text file, or of a directory,
            which stands for all .txt and .md files in it, each a document; or shakespeare or
            tang_poems, which come with the package.
        stride: A long document is cut into windows that begin this many tokens apart. Fewer than
            the model's context give each token more context, and take longer; as many as the
            context unless given.
        batch_size: Number of windows that are computed together.
        keep_line_ends: Whether the line ends of Windows stay as they are in files, instead of
            becoming those of Unix; as in the training.
    """
    documents = read_corpus(corpus)
    found = gk.evaluation.perplexity(
        gk.CausalLM.from_preset(model),
        documents,
        stride=stride,
        batch_size=batch_size,
        keep_line_ends=keep_line_ends,
    )
    print(f"perplexity          {found.perplexity:.4f}")
    print(f"loss                {found.loss:.4f} nats per token")
    print(f"bits per character  {found.bits_per_character:.4f}")
    print(f"bits per byte       {found.bits_per_byte:.4f}")
    print(f"tokens              {found.num_tokens:,} in {len(documents):,} documents")


def explain(model: str, text: str, output: str = "explanation.html") -> None:
    """Write a page for a browser that shows what a model makes of a text.

    It shows attention by head, what each layer would predict, and which tokens the prediction rests
    on. For example: gpt-keras explain my_model "To be, or not to be"

    Args:
        model: Directory that gpt-keras train or save_to_preset wrote, or a .keras file.
        text: The text, of at most 128 tokens.
        output: New file for the page, whose name ends in .html. It needs no network.
    """
    from gpt_keras.atomic import atomic_file

    path = pathlib.Path(output)
    if path.suffix != ".html":
        raise ValueError(f"`output` must end in .html, got {output!r}.")
    if path.exists():
        raise ValueError(f"`output` must be a new file, but {output!r} exists already.")
    check_writable(output)
    name = pathlib.Path(model).absolute().name
    page = gk.interpretation.explanation_page(gk.CausalLM.from_preset(model), text, name)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print_written(output)


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
            save_to_preset wrote, a .keras file, a Hugging Face folder, a .gguf file, or a
            config.json.
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


def _read_config(name_or_path: str) -> "gk.GPTConfig":
    """The config of a preset, or the one in a file, without making a model."""
    path = pathlib.Path(name_or_path)
    if name_or_path in gk.presets.names():
        return gk.presets.get(name_or_path)
    if not path.exists():
        names = ", ".join(gk.presets.names())
        raise ValueError(f"`name_or_path` must be a path or one of {names}, got {name_or_path!r}.")
    return gk.convert.read_config(path)


def _attention(config: "gk.GPTConfig") -> str:
    windows = [config.attention_window(i) for i in range(config.num_layers)]
    banded = [window for window in windows if window is not None]
    if not banded:
        return "to all tokens before, in all layers"
    widths = " or ".join(f"{width:,}" for width in sorted(set(banded)))
    return (
        f"to the last {widths} tokens in {len(banded)} of {len(windows)} layers; "
        "their KV cache keeps all tokens"
    )


def _experts(config: "gk.GPTConfig") -> str | None:
    if config.num_experts is None:
        return None
    return (
        f"{config.num_experts}, of which a token gets {config.num_experts_per_token}; "
        "all are computed"
    )


def _sizes(numbers_of_bytes: Iterable[int]) -> str:
    return "".join(f"{describe_size(number):>12}" for number in numbers_of_bytes)
