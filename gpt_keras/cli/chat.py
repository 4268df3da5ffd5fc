"""The command for conversations: `gpt-keras chat`."""

import pathlib
import sys

import gpt_keras as gk

_COMMANDS = "/reset forgets what was said, /save FILE writes it down, /quit ends."


def chat(
    model: str,
    *,
    system: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.2,
    top_k: int | None = None,
    top_p: float | None = 0.9,
    seed: int | None = None,
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
        temperature: How daring the choice of tokens is: 0 always takes the most likely one.
        top_k: Draw from this many most likely tokens only; from all unless given.
        top_p: Draw from the most likely tokens whose probabilities sum to this.
        seed: Number from which the draws follow; other ones each time unless given.
    """
    settings = dict(max_new_tokens=max_new_tokens, temperature=temperature)
    settings |= dict(top_k=top_k, top_p=top_p, seed=seed)
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


def _answer(conversation: gk.chat.Conversation, text: str) -> None:
    try:
        for piece in conversation.say(text):
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass  # what was said so far is kept
    except ValueError as error:  # as when the text is too long; the conversation goes on
        print(error, end="")
    print()


def _save(conversation: gk.chat.Conversation, name: str) -> None:
    if not name:
        print("/save needs the name of a file.")
        return
    try:
        conversation.save(name)
        print(f"wrote {pathlib.Path(name)}")
    except OSError as error:
        print(error)
