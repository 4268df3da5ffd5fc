"""Commands for trained models: generate, explain, export, info."""

import pathlib
import time
from collections.abc import Iterable

from .files import (
    check_output,
    check_writable,
    describe_size,
    print_written,
    read_prompts,
)
from .package import gk
from .settings import load_language_model, strategy_of, takes_processors
from .task_models import describe_adapter, describe_task

_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@takes_processors()
def generate(
    model: str,
    *prompts: str,
    prompts_file: str | None = None,
    adapter: str | None = None,
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
    """Generate text: continue one or more prompts with a trained model.

    For example: gpt-keras generate my_model "Once upon a time" --temperature 0.8

    Args:
        model: Directory written by gpt-keras train or save_to_preset, or a .keras file.
        prompts: Texts to continue. The text of a single prompt is printed while it is generated.
        prompts_file: Text file with more prompts, one per line. Use - to read standard input.
        adapter: Folder of a LoRA adapter for this model, written by save_adapter or by PEFT.
        max_new_tokens: Maximum number of tokens to generate.
        seed: Random seed. The same seed gives the same text. By default, each run gives another
            text.
        stop: Stop strings. Generation ends at the first of them; it is not printed.
        time_limit: Time limit in seconds. Generation stops when it is reached.
        num_beams: Number of beams. Uses beam search instead of sampling.
        best_of: Number of texts to sample. Only the one with the highest log-probability per token
            is printed.
        prompt_lookup: Speculative decoding by prompt lookup, with this many proposed tokens per
            step. Faster if the text repeats itself; for one prompt only.
        draft: Speculative decoding with this draft model, a smaller model with the same tokenizer.
            Faster if its proposals are often right; for one prompt only.
        sliding_window: Whether to continue beyond the model's context length. Each token then
            attends only to the most recent ones.
        scores: Whether to print a score before each text: the mean log-probability of its new
            tokens. With num_beams or best_of, all candidates are printed, best first.
        **processors: The logits processors. All are off by default.
    """
    prompts = [*prompts, *(read_prompts(prompts_file) if prompts_file else ())]
    if not prompts:
        raise ValueError("`prompts` must be given, as arguments or in `prompts_file`.")
    settings = dict(max_new_tokens=max_new_tokens, seed=seed, stop=stop or (), **processors)
    settings |= dict(time_limit=time_limit, sliding_window=sliding_window)
    settings["strategy"] = strategy_of(num_beams, best_of, prompt_lookup, draft)
    language_model = load_language_model(model, adapter)
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


def explain(model: str, text: str, output: str = "explanation.html") -> None:
    """Write an HTML page that shows how a model processes a text.

    The page shows the attention of each head, the prediction after each layer (logit lens), and the
    contribution of each token to the prediction (attribution). For example: gpt-keras explain
    my_model "To be, or not to be"

    Args:
        model: Directory written by gpt-keras train or save_to_preset, or a .keras file.
        text: Text to explain, at most 128 tokens.
        output: New .html file. The page works offline.
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
    """Export a trained model as a SavedModel from strings to strings.

    The SavedModel contains the tokenizer and runs in TensorFlow or TensorFlow Serving, without
    gpt_keras. A language model generates text; a classifier returns labels and probabilities. For
    example: gpt-keras export my_model exported/1

    Args:
        model: Directory written by gpt-keras train, gpt-keras finetune or save_to_preset, or a
            .keras file.
        directory: New or empty directory for the SavedModel.
        jit_compile: Whether to compile the generation step with XLA, which makes it several times
            faster. Use false for a server without XLA, such as TensorFlow Serving on a CPU. A
            classifier is never compiled.
    """
    began = time.perf_counter()
    check_output(directory)
    gk.export.saved_model(gk.convert.load(model), directory, jit_compile=jit_compile)
    print_written(directory)
    print(f"exported in {time.perf_counter() - began:.1f} s")


def info(name_or_path: str) -> None:
    """Show a model's shape, size, FLOPs, memory and adapters without building it.

    For example: gpt-keras info gpt2_small

    Args:
        name_or_path: Name of a preset, such as gpt2_small; or a directory written by gpt-keras
            train, gpt-keras finetune or save_to_preset, a .keras file, a Hugging Face folder, a
            .gguf file, a config.json, or the folder of a LoRA adapter.
    """
    adapter = describe_adapter(name_or_path)
    if adapter is not None:
        _print_rows(name_or_path, adapter)
        return
    config = _read_config(name_or_path)
    length = config.max_sequence_length
    flops = config.flops_per_token()
    rows = describe_task(name_or_path) | {
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
    _print_rows(name_or_path, rows)


def _print_rows(title: str, rows: dict[str, str | None]) -> None:
    print(title)
    for name, value in rows.items():
        if value is not None:
            print(f"  {name:<16}  {value}")


def _read_config(name_or_path: str) -> "gk.GPTConfig":
    """Return the config of a preset or of saved files, without building a model."""
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
