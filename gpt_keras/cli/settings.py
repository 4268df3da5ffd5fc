"""Command-line arguments for logits processors and decoding strategies."""

import inspect
import pathlib
import textwrap
from collections.abc import Callable

from .package import gk, run_file


def takes_processors(**defaults) -> Callable[[Callable], Callable]:
    """Return a decorator that gives a command one argument per logits processor.

    The command receives them as `**processors`. The decorator replaces `**processors` in the
    command's signature and docstring by their names, so that the command line offers each one.

    Args:
        **defaults: Default values by name. All other processors are off by default.
    """

    def name_processors(command: Callable) -> Callable:
        signature = inspect.signature(command)
        *parameters, _ = signature.parameters.values()
        lines = [command.__doc__.rstrip()]
        for name, (kind, text) in run_file("generation/processor_help.py")["SETTINGS"].items():
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name),
                    annotation=kind | None,
                )
            )
            if name == "logit_bias":  # a JSON key cannot be a sequence of ids
                text = text.split(";")[0] + """, such as '{"11": -2.5}'."""
            text = f"{name}: {text}"
            indents = {"initial_indent": 8 * " ", "subsequent_indent": 12 * " "}
            lines.append(textwrap.fill(text, 100, **indents))
        command.__doc__ = "\n".join(lines) + "\n    "
        command.__signature__ = signature.replace(parameters=parameters)
        command.__annotations__ |= {part.name: part.annotation for part in parameters}
        return command

    return name_processors


def load_language_model(model: str, adapter: str | None) -> "gk.CausalLM":
    """Load a language model, with a LoRA adapter if there is one.

    Args:
        model: The `model` argument of the command.
        adapter: Folder of the adapter, or None.
    """
    if adapter is not None and not pathlib.Path(adapter).is_dir():
        raise ValueError(
            f"`adapter` must be the folder of a LoRA adapter, got {adapter!r}, which is no folder."
        )
    loaded = gk.CausalLM.from_preset(model)
    if adapter is not None:
        loaded.load_adapter(adapter)
    return loaded


def strategy_of(
    num_beams: int | None = None,
    best_of: int | None = None,
    prompt_lookup: int | None = None,
    draft: str | None = None,
):
    """Return the decoding strategy that the command's arguments choose."""
    given = dict(num_beams=num_beams, best_of=best_of, prompt_lookup=prompt_lookup, draft=draft)
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"Give one of {', '.join(f'`{name}`' for name in given)}, not several.")
    match given:
        case {"num_beams": number}:
            return gk.generation.BeamSearch(number)
        case {"best_of": number}:
            return gk.generation.BestOf(number)
        case {"prompt_lookup": number}:
            return gk.generation.PromptLookup(number)
        case {"draft": source}:
            return gk.generation.DraftModel(gk.CausalLM.from_preset(source))
    return gk.generation.Sampling()
