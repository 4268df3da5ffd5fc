"""The command `gpt-keras chat`."""

import pathlib
import sys

from .package import gk
from .settings import load_language_model, strategy_of, takes_processors

_COMMANDS = "/reset forgets the conversation, /save FILE saves it as JSON, /quit ends it."


@takes_processors(temperature=0.2, top_p=0.9)
def chat(
    model: str,
    *,
    system: str | None = None,
    adapter: str | None = None,
    max_new_tokens: int = 256,
    seed: int | None = None,
    stop: list[str] | None = None,
    time_limit: float | None = None,
    prompt_lookup: int | None = None,
    draft: str | None = None,
    sliding_window: bool = False,
    **processors,
) -> None:
    """Chat with an instruction-tuned model.

    Type a message to get an answer; the model sees the conversation so far. Ctrl-C stops an answer,
    Ctrl-D or /quit ends the conversation, /reset forgets it, /save FILE saves it as JSON.

    For example: gpt-keras chat smollm2_135m_instruct

    Args:
        model: Name of a pretrained model, such as smollm2_135m_instruct; or a .gguf file, a model
            folder or hf://owner/name[@revision]. The model's files must contain a chat template.
        system: System prompt. By default, the chat template decides.
        adapter: Folder of a LoRA adapter for this model, written by save_adapter or by PEFT.
        max_new_tokens: Maximum number of tokens in an answer.
        seed: Random seed. By default, each run gives other answers.
        stop: Stop strings. An answer ends at the first of them; it is not printed.
        time_limit: Time limit of an answer, in seconds.
        prompt_lookup: Speculative decoding by prompt lookup, with this many proposed tokens per
            step. Faster if answers repeat parts of the conversation.
        draft: Speculative decoding with this draft model, a smaller model with the same tokenizer.
            Faster if its proposals are often right.
        sliding_window: Whether an answer may continue beyond the model's context length. Each token
            then attends only to the most recent ones.
        **processors: The logits processors.
    """
    settings = dict(max_new_tokens=max_new_tokens, seed=seed, stop=stop or (), **processors)
    settings |= dict(time_limit=time_limit, sliding_window=sliding_window)
    settings["strategy"] = strategy_of(prompt_lookup=prompt_lookup, draft=draft)
    language_model = load_language_model(model, adapter)
    conversation = gk.chat.Conversation(language_model, system, **settings)
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
    """Return the next line of input, or None at its end."""
    try:
        return input("> " if is_terminal else "").strip()
    except EOFError:
        return None


def _answer(conversation: "gk.chat.Conversation", text: str) -> None:
    try:
        for piece in conversation.say(text):
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass  # the conversation keeps the answer as far as it was printed
    except ValueError as error:  # for example, the text is too long; the conversation continues
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
