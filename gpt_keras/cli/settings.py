"""What `generate` and `chat` take beside their own arguments: all that shapes the next token."""

import inspect
import textwrap
from collections.abc import Callable

from .package import gk


def takes_processors(**defaults) -> Callable[[Callable], Callable]:
    """Return a decorator that gives a command an argument for each logits processor.

    The command takes them as `**processors`. `add_processors` names them in its signature and
    docstring, so that the command line offers them; this waits until the command was asked for,
    since the list of processors comes with TensorFlow.

    Args:
        defaults: Values of the processors that are not off unless given.
    """

    def mark(command):
        command.processor_defaults = defaults
        return command

    return mark


def add_processors(command: Callable) -> None:
    """Name the processors in the signature and docstring of a command that takes them."""
    signature = inspect.signature(command)
    *parameters, rest = signature.parameters.values()
    if not hasattr(command, "processor_defaults") or rest.kind is not rest.VAR_KEYWORD:
        return  # it takes none, or was called before
    from gpt_keras.generation import PROCESSORS

    lines = [command.__doc__.rstrip()]
    for name, processor in PROCESSORS.items():
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=command.processor_defaults.get(name),
                annotation=_type_of(processor),
            )
        )
        text = f"{name}: {_help_of(processor)}"
        lines.append(textwrap.fill(text, 100, initial_indent=8 * " ", subsequent_indent=12 * " "))
    command.__doc__ = "\n".join(lines) + "\n    "
    command.__signature__ = signature.replace(parameters=parameters)
    command.__annotations__ |= {part.name: part.annotation for part in parameters}


def _type_of(processor: "gk.generation.processors.Processor"):
    from gpt_keras.generation.settings import Number, SequenceBiases

    match processor.setting:
        case Number(off=off):
            return type(off) | None
        case SequenceBiases():
            return dict[int, float] | None
    return list[str] | None


def _help_of(processor: "gk.generation.processors.Processor") -> str:
    from gpt_keras.generation.settings import SequenceBiases

    if isinstance(processor.setting, SequenceBiases):
        return processor.help.split(";")[0] + """, such as '{"11": -2.5}'."""
    return processor.help


def strategy_of(
    num_beams: int | None = None,
    best_of: int | None = None,
    prompt_lookup: int | None = None,
    draft: str | None = None,
):
    """Return the strategy that arguments of these names stand for."""
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
