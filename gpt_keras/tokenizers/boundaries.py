"""The start-of-text and end-of-text tokens that a `tokenizer.json` declares.

Its post-processor declares them with a template such as `<s> $A`: the token `<s>`, then the text.
A template lists its special tokens by name. This package names them `start_of_text` and
`end_of_text`, so a file can declare a token that its template does not add.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

START, END = "start_of_text", "end_of_text"

# A template has a form for one sequence and a form for a pair. This package never encodes a pair.
_SEQUENCES = {"single": ("A",), "pair": ("A", "B")}


class Boundaries(NamedTuple):
    """The tokens that begin and end a text.

    Attributes:
        start_of_text_id: The id of the token that begins a text, or None.
        end_of_text_id: The id of the token that ends a text, or None.
        adds_start_of_text: True if the model's prompts and training documents begin with
            `start_of_text_id`.
    """

    start_of_text_id: int | None = None
    end_of_text_id: int | None = None
    adds_start_of_text: bool = False


def read_boundaries(post_processor: dict[str, Any] | None) -> Boundaries:
    """Return the boundaries that the post-processor of a `tokenizer.json` declares.

    Tokens named `start_of_text` and `end_of_text` take precedence. Without these names, the
    boundaries are the first token that the template adds before a text and the first after it.

    Args:
        post_processor: The `post_processor` of the file, or None.

    Returns:
        The boundaries. Without a template, both ids are None.

    Raises:
        ValueError: The template adds several tokens before a text, as ChatGLM's does.

    Example:
        >>> from gpt_keras.tokenizers.boundaries import read_boundaries
        >>> read_boundaries({"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]})
        Boundaries(start_of_text_id=0, end_of_text_id=2, adds_start_of_text=True)
    """
    template = _template(post_processor)
    if template is None:
        return Boundaries()
    ids = {name: token["ids"] for name, token in template["special_tokens"].items()}
    before, after = _around(template["single"])
    if len(before) > 1:
        raise ValueError(
            f"The file's post-processor must add at most one token before a text, got {before}."
        )
    start = next((ids[name][0] for name in before if len(ids[name]) == 1), None)
    end = next((ids[name][0] for name in after if len(ids[name]) == 1), None)
    return Boundaries(
        start_of_text_id=ids[START][0] if START in ids else start,
        end_of_text_id=ids[END][0] if END in ids else end,
        adds_start_of_text=start is not None,
    )


def write_boundaries(
    post_processor: dict[str, Any] | None, boundaries: Boundaries, token: Callable[[int], str]
) -> dict[str, Any] | None:
    """Return a post-processor that declares these boundaries.

    Processors other than the template are kept. If the boundaries have an end of text, other
    special tokens that the template adds after a text are kept, too.

    Args:
        post_processor: The `post_processor` of a `tokenizer.json`, or None.
        boundaries: The boundaries to declare.
        token: A function that returns the text of an id.

    Returns:
        A post-processor from which `read_boundaries` returns `boundaries`.
    """
    if read_boundaries(post_processor) == boundaries:
        return post_processor
    old = _template(post_processor)
    template = {"type": "TemplateProcessing", "special_tokens": {}}
    after = []
    if old is not None:
        template["special_tokens"] |= old["special_tokens"]
        # Without an end of text, `read_boundaries` would take the first of these tokens for it.
        if boundaries.end_of_text_id is not None:
            after = [name for name in _around(old["single"])[1] if name != END]
    for name, token_id in ((START, boundaries.start_of_text_id), (END, boundaries.end_of_text_id)):
        template["special_tokens"].pop(name, None)
        if token_id is not None:
            template["special_tokens"][name] = {
                "id": name,
                "ids": [token_id],
                "tokens": [token(token_id)],
            }
    for form, sequences in _SEQUENCES.items():
        template[form] = []
        for type_id, sequence in enumerate(sequences):
            if boundaries.adds_start_of_text:
                template[form].append(_piece("SpecialToken", START, type_id))
            template[form].append(_piece("Sequence", sequence, type_id))
            template[form] += [_piece("SpecialToken", name, type_id) for name in after]
    return _with_template(post_processor, template)


def _template(post_processor: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the template of a post-processor or of a sequence of them, or None."""
    kind = post_processor["type"] if post_processor else None
    if kind == "TemplateProcessing":
        return post_processor
    if kind == "Sequence":
        return next(filter(None, map(_template, post_processor["processors"])), None)
    # Two fixed templates: `cls`, the text, `sep`.
    if kind in ("BertProcessing", "RobertaProcessing"):
        return {
            "single": [
                _piece("SpecialToken", "cls", 0),
                _piece("Sequence", "A", 0),
                _piece("SpecialToken", "sep", 0),
            ],
            "special_tokens": {
                name: {
                    "id": name,
                    "ids": [post_processor[name][1]],
                    "tokens": [post_processor[name][0]],
                }
                for name in ("cls", "sep")
            },
        }
    return None


def _with_template(post_processor, template):
    """Return the post-processor with this template instead of its own, if any."""
    if post_processor is None or _template(post_processor) is post_processor:
        return template
    is_sequence = post_processor["type"] == "Sequence"
    parts = post_processor["processors"] if is_sequence else [post_processor]
    others = [part for part in parts if _template(part) is None]
    return {"type": "Sequence", "processors": [*others, template]} if others else template


def _around(pieces: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the names of a template's special tokens before and after the text."""
    names = [piece.get("SpecialToken", {}).get("id") for piece in pieces]
    place = names.index(None) if None in names else len(names)
    return names[:place], [name for name in names[place + 1 :] if name]


def _piece(kind: str, name: str, type_id: int) -> dict[str, Any]:
    return {kind: {"id": name, "type_id": type_id}}
