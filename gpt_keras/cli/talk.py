"""The command for conversations: `gpt-keras chat`."""

import pathlib
import sys

from .package import gk
from .settings import strategy_of, takes_processors

_COMMANDS = "/reset forgets what was said, /save FILE writes it down, /quit ends."


@takes_processors(temperature=0.2, top_p=0.9)
def chat(
    model: str,
    *,
    system: str | None = None,
    max_new_tokens: int = 256,
    seed: int | None = None,
    stop: list[str] | None = None,
    time_limit: float | None = None,
    prompt_lookup: int | None = None,
    draft: str | None = None,
    sliding_window: bool = False,
    **processors,
) -> None:
    """Talk with a model that was trained to chat.

    For example: gpt-keras chat smollm2_135m_instruct. What you type is answered, with everything
    that was said before in mind; Ctrl-C stops an answer, Ctrl-D or /quit ends the conversation,
    /reset forgets it, /save FILE writes it down as JSON.

    Args:
        model: Name of a pretrained model, such as smollm2_135m_instruct; or a .gguf file, a folder
            or hf://owner/name[@revision] with a model whose files say how a conversation is
            written.
        system: What the model is told before the conversation; what its makers chose unless given.
        max_new_tokens: How long an answer may get, in tokens.
        seed: Number from which the draws follow; other ones each time unless given.
        stop: Texts; an answer ends before the first of them.
        time_limit: Seconds after which an answer ends.
        prompt_lookup: Guess this many tokens at once from what was said before: faster where an
            answer repeats much of it.
        draft: A smaller model with the same tokenizer that guesses tokens for the model to check:
            faster where it is often right.
        sliding_window: Whether an answer may go on past the longest text that the model takes, with
            its last part in view.
        **processors: The logits processors.
    """
    settings = dict(max_new_tokens=max_new_tokens, seed=seed, stop=stop or (), **processors)
    settings |= dict(time_limit=time_limit, sliding_window=sliding_window)
    settings["strategy"] = strategy_of(prompt_lookup=prompt_lookup, draft=draft)
    conversation = gk.chat.Conversation(gk.CausalLM.from_preset(model), system, **settings)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print("Preparing ...", end="\r", flush=True)
        conversation.warm_up()
        print(_COMMANDS)
    while (text := _read(is_terminal)) is not None:
        command, _, argument = text.partition(" ")
        if command == "/quit":
            return
        if command == "/reset":
            conversation.reset()
        elif command == "/save":
            _save(conversation, argument.strip())
        elif command.startswith("/"):
            print(f"There is no {command}. {_COMMANDS}")
        elif text:
            _answer(conversation, text)


def _read(is_terminal: bool) -> str | None:
    """The next line; None at the end of the input."""
    try:
        return input("> " if is_terminal else "").strip()
    except EOFError:
        return None


def _answer(conversation: "gk.chat.Conversation", text: str) -> None:
    try:
        for piece in conversation.say(text):
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass  # what was said so far is kept
    except ValueError as error:  # as when the text is too long; the conversation goes on
        print(error, end="")
    print()


def _save(conversation: "gk.chat.Conversation", name: str) -> None:
    if not name:
        print("/save needs the name of a file.")
        return
    try:
        conversation.save(name)
        print(f"wrote {pathlib.Path(name)}")
    except OSError as error:
        print(error)
