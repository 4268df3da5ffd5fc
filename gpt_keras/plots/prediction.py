"""Figures of next-token predictions."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from gpt_keras.checks import check_positive_int
from gpt_keras.plots.figure import Figure
from gpt_keras.plots.fonts import token_labels


def next_tokens(model, prompts: str | Sequence[str], count: int = 8) -> Figure:
    """Draw the most likely next tokens after each prompt, with their probabilities.

    Args:
        model: A `CausalLM` with a tokenizer.
        prompts: One or more texts. Each becomes a panel.
        count: Number of tokens to show for each prompt.

    Returns:
        The figure. A space is drawn as ␣, a line end as ⏎.

    Raises:
        ValueError: The model has no tokenizer, there is no prompt or an empty one, or `count` is
            not a positive integer.
        RuntimeError: A label is Chinese and no installed font has Chinese glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=4)
        >>> model = gk.GPTCausalLM(config, tokenizer=gk.tokenizers.CharacterTokenizer("abc "))
        >>> figure = gk.plots.next_tokens(model, ["ab", "ca"], count=3)
        >>> [len(axes.patches) for axes in figure.axes]
        [3, 3]
    """
    check_positive_int("count", count)
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if model.tokenizer is None:
        raise ValueError("`model` must have a tokenizer, but has none.")
    if not prompts or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise ValueError(f"`prompts` must be texts that are not empty, got {prompts!r}.")
    figure = Figure(figsize=(3.4 * len(prompts), 0.5 + 0.3 * count), layout="constrained")
    for axes, prompt in zip(figure.subplots(1, len(prompts), squeeze=False)[0], prompts):
        token_ids = np.array([model.tokenizer.encode(prompt, add_start_of_text=True)], "int32")
        # The embedding may have more rows than the tokenizer has ids. As in generation, the
        # additional rows are ignored.
        logits = model(token_ids)[0, -1, : model.tokenizer.vocabulary_size]
        probabilities = ops.convert_to_numpy(ops.softmax(logits))
        best = np.argsort(-probabilities, kind="stable")[:count]
        texts = [model.tokenizer.decode([i]) for i in best]
        (shown, *names), fonts = token_labels([prompt, *texts])
        bars = axes.barh(range(len(best)), probabilities[best], color="#56B4E9", edgecolor="black")
        axes.bar_label(bars, [f"{probabilities[i]:.2f}" for i in best], padding=2)
        axes.set_yticks(range(len(best)), names, fontfamily=fonts)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * probabilities.max())  # room for the numbers
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
        axes.set_xlabel("probability")
        axes.set_title(f"after “{shown}”", fontfamily=fonts, fontsize="medium", parse_math=False)
    return figure
