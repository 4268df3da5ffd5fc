"""What `generate` and `chat` take beside their own arguments: all that shapes the next token."""

import inspect
import textwrap
from collections.abc import Callable

import gpt_keras as gk
from gpt_keras.generation import PROCESSORS
from gpt_keras.generation.processors import Processor
from gpt_keras.generation.settings import Number, SequenceBiases


def takes_processors(**defaults) -> Callable[[Callable], Callable]:
    """Returns a decorator that gives a command an argument for each logits processor.

    The command takes them as `**processors`; its signature and docstring name them, so that the
    command line offers them.

    Args:
        defaults: Values of those that are not off unless given.
    """

    def extend(command):
        signature = inspect.signature(command)
        *parameters, rest = signature.parameters.values()
        if rest.kind is not rest.VAR_KEYWORD:
            raise TypeError(f"{command.__name__} must end in **processors.")
        lines = [command.__doc__.rstrip()]
        for name, processor in PROCESSORS.items():
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name),
                    annotation=_type_of(processor),
                )
            )
            text = f"{name}: {_help_of(processor)}"
            lines.append(
                textwrap.fill(text, 100, initial_indent=8 * " ", subsequent_indent=12 * " ")
            )
        command.__doc__ = "\n".join(lines) + "\n    "
        command.__signature__ = signature.replace(parameters=parameters)
        command.__annotations__ |= {part.name: part.annotation for part in parameters}
        return command

    return extend


def _type_of(processor: Processor):
    match processor.setting:
        case Number(off=off):
            return type(off) | None
        case SequenceBiases():
            return dict[int, float] | None
    return list[str] | None


def _help_of(processor: Processor) -> str:
    if isinstance(processor.setting, SequenceBiases):
        return processor.help.split(";")[0] + """, such as '{"11": -2.5}'."""
    return processor.help


def strategy_of(
    num_beams: int | None = None,
    best_of: int | None = None,
    prompt_lookup: int | None = None,
    draft: str | None = None,
):
    """Returns the strategy that arguments of these names stand for."""
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
