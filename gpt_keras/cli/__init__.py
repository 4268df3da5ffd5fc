"""The command line `gpt-keras`: train, generate, chat, evaluate, export, ....

Each command is a function in a module of this package. jsonargparse reads the arguments of a
command from the function's signature, and their help texts from its docstring. A command prints
its results.

The modules here import `gpt_keras`, and with it TensorFlow, only inside functions. Therefore
`gpt-keras --help` and errors in arguments appear without delay. The console script
`gpt_keras_command.py`, next to `gpt_keras`, loads this package.
"""

import argparse
import inspect
import itertools
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence

from . import tokenizers
from .classification import classify
from .evaluation import evaluate
from .finetuning import finetune
from .models import explain, export, generate, info
from .package import run_file
from .pretrain import train
from .talk import chat

__all__ = [
    "chat",
    "classify",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "generate",
    "info",
    "main",
    "train",
]

# A dict is a group of commands. The help text of a group is in `_HELP`.
_COMMANDS = {
    "train": train,
    "finetune": finetune,
    "classify": classify,
    "generate": generate,
    "chat": chat,
    "evaluate": evaluate,
    "explain": explain,
    "export": export,
    "info": info,
    "tokenizer": {
        "train": tokenizers.train,
        "encode": tokenizers.encode,
        "decode": tokenizers.decode,
        "compare": tokenizers.compare,
    },
}
_HELP = {
    "": "Train, try, export and measure GPT models.",
    "tokenizer": "Train, try and compare tokenizers.",
}

# These commands also read texts from standard input or a file, so no positional text is required.
_TEXTS_ELSEWHERE = (generate, classify, tokenizers.encode, tokenizers.decode)

_FLAG = r"(?<![\w-])--[a-zA-Z]\w*"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Command-line arguments after `gpt-keras`. Default: `sys.argv[1:]`.

    Returns:
        The exit code: 0 for success, 1 if the output pipe was closed, 2 after an invalid
        argument, 130 after Ctrl-C.

    Example:
        >>> from gpt_keras import cli
        >>> cli.main(["tokenizer", "decode", "gpt2", "15496", "995"])
        Hello world
        0
    """
    arguments = _with_underscores(sys.argv[1:] if arguments is None else arguments)
    arguments = _with_values(arguments)
    try:
        parser = _parser(arguments)
    except ModuleNotFoundError as error:
        if error.name not in ("jsonargparse", "docstring_parser"):
            raise
        return _fail("the command line needs jsonargparse: pip install 'gpt_keras[cli]'")
    try:
        _run(_COMMANDS, parser.parse_args(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("gpt-keras: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `gpt-keras generate ... | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (argparse.ArgumentError, OSError) as error:
        return _fail(error)
    except (ValueError, ImportError) as error:
        if not _is_ours(error):
            raise
        return _fail(error)
    return 0


def _with_underscores(arguments: Sequence[str]) -> list[str]:
    """Return arguments with underscores in flags: `--top-k` becomes `--top_k`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [
        re.sub(r"^--[a-zA-Z][\w-]*", lambda flag: "--" + flag[0][2:].replace("-", "_"), argument)
        for argument in arguments[:end]
    ]
    return [*flags, *arguments[end:]]


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Return arguments with `true` after each switch that has no value: `--resume`.

    A switch is a flag of the type bool, and jsonargparse requires a value. A positional argument
    cannot follow a switch without a value.
    """
    command, switches = _COMMANDS, set()
    for argument in arguments:
        if isinstance(command, dict) and argument in command:
            command = command[argument]
    if not isinstance(command, dict):
        parameters = inspect.signature(command, eval_str=True).parameters.values()
        switches = {f"--{part.name}" for part in parameters if part.annotation is bool}
    found = []
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        found.append(argument)
        if argument in switches and (following is None or following.startswith("-")):
            found.append("true")
    return found


def _parser(arguments: Sequence[str]):
    """Return a parser of all commands.

    Reading signatures takes time, so only the commands named in `arguments` get their arguments.
    """
    import docstring_parser
    import jsonargparse

    class HelpFormatter(jsonargparse.DefaultHelpFormatter):
        """Help without types that users need not see, and with hyphens in flags."""

        def _split_lines(self, text, width):  # never between "gpt-" and "keras"
            return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

        def _fill_text(self, text, width, indent):
            return "\n".join(indent + line for line in self._split_lines(text, width))

        def _expand_help(self, action):
            noise = (
                r" \(type: Optional\[Literal\[.*?\]\](, default: null)?\)"
                r"|type: Literal\[.*?\], | \| null|, default: null| \(default: null\)"
            )
            return re.sub(noise, "", super()._expand_help(action))

        def format_help(self):
            return re.sub(_FLAG, lambda flag: flag[0].replace("_", "-"), super().format_help())

    def new_parser(description, **kwargs):
        return jsonargparse.ArgumentParser(
            description=description, formatter_class=HelpFormatter, exit_on_error=False, **kwargs
        )

    def add_commands(parser, commands):
        subcommands = parser.add_subcommands(metavar="COMMAND")
        for name, command in commands.items():
            if isinstance(command, dict):
                group = new_parser(_HELP[name])
                subcommands.add_subcommand(name, group, help=_HELP[name])
                add_commands(group, command)
                continue
            docs = docstring_parser.parse(command.__doc__)
            subparser = new_parser(f"{docs.short_description} {docs.long_description}")
            config_help = "YAML file with arguments, as --print-config shows them; later ones win."
            subparser.add_argument("--config", action="config", help=config_help)
            if name in arguments:
                _add_arguments(subparser, command, docs)
            subcommands.add_subcommand(name, subparser, help=docs.short_description)

    version = run_file("version.py")["__version__"]
    parser = new_parser(_HELP[""], prog="gpt-keras", version=version)
    add_commands(parser, _COMMANDS)
    return parser


def _add_arguments(parser, command: Callable, docs) -> None:
    """Add a command's arguments.

    jsonargparse adds all except lists, `*args` and positional-only arguments with a default.
    """
    # `eval_str`: annotations are strings in modules that postpone their evaluation.
    ours = {
        name: parameter
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if parameter.kind is parameter.VAR_POSITIONAL
        or _is_optional_positional(parameter)
        or parameter.annotation in (list[str], list[str] | None)
    }
    parser.add_function_arguments(command, as_group=False, as_positional=True, skip={*ours})
    help_of = {doc.arg_name: doc.description for doc in docs.params}
    for name, parameter in ours.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            nargs = "*" if command in _TEXTS_ELSEWHERE else "+"
            parser.add_argument(name, nargs=nargs, help=help_of[name])
        elif _is_optional_positional(parameter):
            parser.add_argument(name, nargs="?", default=parameter.default, help=help_of[name])
        else:
            parser.add_argument(
                f"--{name}", nargs="*", default=parameter.default, help=help_of[name]
            )


def _is_optional_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is not parameter.empty


def _run(commands: dict, settings) -> None:
    command = commands[settings.subcommand]
    settings = settings[settings.subcommand]
    if isinstance(command, dict):
        _run(command, settings)
        return
    values = settings.as_dict()
    del values["config"]
    positional = []
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(values.pop(name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(values.pop(name))
    command(*positional, **values)


def _is_ours(error: BaseException) -> bool:
    """Return whether the package itself raised the error; others may be bugs."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith("gpt_keras")


def _fail(error: object) -> int:
    message, longest = str(error), 4000
    if isinstance(error, argparse.ArgumentError):  # show "corpus" instead of "train.corpus"
        names = "|".join({*_COMMANDS, *_COMMANDS["tokenizer"]})
        message = re.sub(rf"\b({names})\.", "", message)
        longest = 500  # jsonargparse lists all that it tried
    message = re.sub(r"typing\.|<class '(\w+)'>", r"\1", message)
    print(
        "gpt-keras: error:", textwrap.shorten(message, longest, placeholder="..."), file=sys.stderr
    )
    return 2
