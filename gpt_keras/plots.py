"""Matplotlib figures of training and prediction; made without pyplot, returned, never shown.

Every series has its own line style and marker besides its colour, so that a figure can be read in
black and white; the colours are Okabe and Ito's, which colour-blind people tell apart.
"""

import io
from collections.abc import Mapping, Sequence

import keras
import matplotlib.figure
import numpy as np
from keras import ops
from matplotlib import font_manager, ft2font, ticker

from gpt_keras.config import check_positive_int

# A colour, a line style and a marker for each series.
_STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#555555", "linestyle": ":", "marker": "D"},
)

# Fonts made for Chinese come before any other font that happens to have the glyphs.
_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)
_CHINESE_SAMPLE = "詩诗山水，。"  # in traditional and simplified characters


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that a notebook shows even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()


def training(
    history: keras.callbacks.History | Mapping[str, Sequence[float]], validation_freq: int = 1
) -> Figure:
    """Draw training and validation loss against epochs; a second axis reads them as perplexity.

    The training loss of an epoch is the mean over its batches, so it stands in the middle of the
    epoch; the validation loss is measured at the epoch's end, and stands there.

    Args:
        history: what `model.fit` returned, or its `history` dict: `"loss"` and, if there was
            validation data, `"val_loss"`, in nats per token.
        validation_freq: what `model.fit` was given: how many epochs lie between validations.

    Returns:
        The figure.

    Raises:
        ValueError: there is no `"loss"`, or it has no epochs.

    Example:
        >>> import gpt_keras as gk
        >>> figure = gk.plots.training({"loss": [3.0, 2.5], "val_loss": [2.8, 2.6]})
        >>> figure.axes[0].get_ylabel()
        'loss (nats per token)'
    """
    losses = getattr(history, "history", history)
    if not isinstance(losses, Mapping) or not len(losses.get("loss", ())):
        raise ValueError(
            f"`history` must be a Keras History, or its dict, with a 'loss' for at least one "
            f"epoch; got {losses!r}."
        )
    # A History counts epochs from `initial_epoch`.
    epochs = getattr(history, "epoch", None) or range(len(losses["loss"]))
    ends = np.array(epochs) + 1

    figure, axes = _axes("epochs", "loss (nats per token)")
    axes.plot(ends - 0.5, losses["loss"], **_STYLES[0], label="training (mean of the epoch)")
    if len(losses.get("val_loss", ())):
        measured = ends[validation_freq - 1 :: validation_freq]
        if len(measured) != len(losses["val_loss"]):
            raise ValueError(
                f"`history` has {len(losses['val_loss'])} validation losses of {len(ends)} epochs; "
                f"with `validation_freq`={validation_freq} there would be {len(measured)}."
            )
        axes.plot(
            measured,
            losses["val_loss"],
            **_STYLES[1],
            label="validation (at its end)",
        )
    axes.set_xlim(ends[0] - 1, ends[-1] + 0.02 * len(ends))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.legend()

    perplexity = axes.secondary_yaxis("right", functions=(np.exp, _log))
    perplexity.set_ylabel("perplexity")
    # Ticks stand at the same heights as those of the loss.
    low, high = axes.get_ylim()
    heights = [tick for tick in axes.get_yticks() if low <= tick <= high]
    perplexity.set_yticks(np.exp(heights), [_rounded(value) for value in np.exp(heights)])
    return figure


def learning_rate(optimizer: keras.optimizers.Optimizer, num_steps: int) -> Figure:
    """Draw the learning rate that an optimizer uses at each step.

    Args:
        optimizer: a Keras optimizer, such as `gk.training.adamw()` makes.
        num_steps: number of steps to draw.

    Returns:
        The figure.

    Example:
        >>> import gpt_keras as gk
        >>> optimizer = gk.training.adamw(1e-3, warmup_steps=10, total_steps=100)
        >>> gk.plots.learning_rate(optimizer, 100).axes[0].get_xlabel()
        'training steps'
    """
    check_positive_int("num_steps", num_steps)
    rate = optimizer.get_config()["learning_rate"]
    steps = np.arange(num_steps)
    if isinstance(rate, Mapping):
        schedule = keras.optimizers.schedules.deserialize(rate)
        rates = np.array([float(schedule(step)) for step in steps])
    else:
        rates = np.full(num_steps, float(rate))
    figure, axes = _axes("training steps", "learning rate")
    axes.plot(steps, rates, color=_STYLES[0]["color"])
    axes.set_ylim(0, 1.05 * rates.max())
    return figure


def loss_by_position(losses: Mapping[str, np.ndarray]) -> Figure:
    """Draw the mean loss at each position of a window: what more context is worth.

    Args:
        losses: for each label an array `(windows, length)` of losses in nats per token.

    Returns:
        The figure.

    Raises:
        ValueError: there are no losses, or more than four series, or an array has not two
            dimensions.

    Example:
        >>> import gpt_keras as gk
        >>> import numpy as np
        >>> figure = gk.plots.loss_by_position({"GPT": np.ones((2, 8))})
        >>> len(figure.axes[0].lines)
        1
    """
    if not 1 <= len(losses) <= len(_STYLES):
        raise ValueError(f"`losses` must have 1 to {len(_STYLES)} series, got {len(losses)}.")
    figure, axes = _axes("tokens of context", "mean loss (nats per token)")
    for style, (label, values) in zip(_STYLES, losses.items()):
        if np.ndim(values) != 2:
            raise ValueError(
                f"`losses` must hold arrays (windows, length), but {label!r} has shape "
                f"{np.shape(values)}."
            )
        means = np.mean(values, axis=0)
        context = np.arange(1, len(means) + 1)  # a token sees itself
        # A marker at each power of two; in between the line alone, which is dense.
        powers = [i for i in range(len(means)) if (i + 1) & i == 0]
        axes.plot(context, means, **style, markevery=powers, label=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.legend()
    return figure


def next_tokens(model, prompts: str | Sequence[str], count: int = 8) -> Figure:
    """Draw the most likely next tokens after each prompt, with their probabilities.

    Args:
        model: a `CausalLM` with a tokenizer.
        prompts: one text or some, a panel each.
        count: how many tokens to show of each.

    Returns:
        The figure. White space is written as ␣ and ⏎.

    Raises:
        ValueError: the model has no tokenizer, or a prompt is empty.
        RuntimeError: the labels are Chinese and no font here has the glyphs.

    Example:
        >>> import gpt_keras as gk
        >>> config = gk.GPTConfig(vocabulary_size=4, max_sequence_length=16, num_layers=1,
        ...                       num_heads=2, hidden_dim=8)
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
        token_ids = np.array([model.tokenizer.encode(prompt)], "int32")
        probabilities = ops.convert_to_numpy(ops.softmax(model(token_ids)[0, -1]))
        best = np.argsort(-probabilities, kind="stable")[:count]
        names = [_visible(model.tokenizer.decode([i])) for i in best]
        bars = axes.barh(range(len(best)), probabilities[best], color="#56B4E9", edgecolor="black")
        axes.bar_label(bars, [f"{probabilities[i]:.2f}" for i in best], padding=2)
        font = _fonts_for(prompt + "".join(names))
        axes.set_yticks(range(len(best)), names, fontfamily=font)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * probabilities.max())  # room for the numbers
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
        axes.set_xlabel("probability")
        axes.set_title(f"after “{_visible(prompt)}”", fontfamily=font, fontsize="medium")
    return figure


def chinese_font() -> str:
    """Return the name of an installed font that has Chinese glyphs.

    Returns:
        A font family, for `matplotlib.rcParams["font.family"] = ["DejaVu Sans", name]` or the
        argument `fontfamily` of a text.

    Raises:
        RuntimeError: no installed font has them; the message says how to install one.

    Example:
        >>> import gpt_keras as gk
        >>> name = gk.plots.chinese_font()  # doctest: +SKIP
    """
    # matplotlib keeps a list of fonts on disk and does not look again after one is installed.
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                font_manager.fontManager.addfont(path)
            except (RuntimeError, OSError):  # a file that FreeType cannot read
                continue
    entries = sorted(font_manager.fontManager.ttflist, key=_preference)
    for entry in entries:
        if _has_glyphs(entry.fname, _CHINESE_SAMPLE):
            return entry.name
    raise RuntimeError(
        "No installed font has Chinese glyphs: `apt install fonts-noto-cjk` or "
        "`apt install fonts-wqy-microhei`, or the like for your system."
    )


def _preference(entry) -> tuple[int, str]:
    known = entry.name in _CHINESE_FONTS
    return (_CHINESE_FONTS.index(entry.name) if known else len(_CHINESE_FONTS), entry.name)


def _has_glyphs(path: str, text: str) -> bool:
    try:
        glyphs = ft2font.FT2Font(path).get_charmap()
    except (RuntimeError, OSError):
        return False
    return all(ord(character) in glyphs for character in text)


def _fonts_for(text: str) -> list[str]:
    """Fonts for a label; the second is asked for the glyphs that the first lacks."""
    fonts = ["DejaVu Sans"]
    if any("\u2e80" <= character <= "\U0003ffff" for character in text):
        fonts.append(chinese_font())
    return fonts


def _visible(text: str) -> str:
    return text.replace(" ", "␣").replace("\n", "⏎")


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _axes(xlabel: str, ylabel: str):
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def _log(perplexity):
    # matplotlib asks for the inverse at values below 0, too, while it sets up the axis.
    return np.log(np.maximum(perplexity, 1e-12))
