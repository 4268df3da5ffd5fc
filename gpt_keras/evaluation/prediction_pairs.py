"""Predicted texts beside their references, and Chinese characters in them."""

import re
from typing import Any

from gpt_keras.texts import as_list_of_texts, as_texts, describe

# Chinese characters, and Japanese kana: languages that are written without spaces.
CHARACTER = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def read_pairs(predictions: Any, references: Any) -> tuple[list[str], list[list[str]]]:
    """Return checked predictions, and a list of references for each of them.

    Args:
        predictions: Texts in any container. A text may be empty, since a model may answer nothing.
        references: For each prediction a text, or a list of texts.

    Returns:
        `(predictions, references)`: a list of texts, and a list of lists of texts.

    Raises:
        ValueError: An argument is one text, holds no text or something else, a reference is empty,
            or the two differ in number.

    Example:
        >>> from gpt_keras.evaluation.prediction_pairs import read_pairs
        >>> read_pairs(["a", ""], ["a", ["b", "c"]])
        (['a', ''], [['a'], ['b', 'c']])
    """
    predictions = as_list_of_texts("predictions", predictions)
    if not predictions:
        raise ValueError("`predictions` must hold at least one text, but is empty.")
    if isinstance(references, list | tuple):
        lists = [_references_of_row(i, given) for i, given in enumerate(references)]
    else:
        lists = [[text] for text in as_list_of_texts("references", references)]
    if len(lists) != len(predictions):
        raise ValueError(
            "`predictions` and `references` must have the same number of entries, got "
            f"{len(predictions)} and {len(lists)}."
        )
    for i, texts in enumerate(lists):
        if not all(text.strip() for text in texts):
            raise ValueError(
                f"`references` must hold texts that are not empty, got {texts!r} as number {i}. "
                "For a question without an answer, write the answer that the model must give, such "
                "as 'unanswerable'."
            )
    return predictions, lists


def _references_of_row(number: int, given: Any) -> list[str]:
    texts = as_texts(f"references[{number}]", given)
    texts = [texts] if isinstance(texts, str) else texts
    if not texts:
        raise ValueError(
            "`references` must hold a text or a list of texts for each prediction, got "
            f"{describe(given)} as number {number}."
        )
    return texts
