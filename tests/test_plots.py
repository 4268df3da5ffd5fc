"""The figures hold the numbers that they were given, and say what they are."""

import contextlib
import re

import keras
import matplotlib.colors
import matplotlib.figure
import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib import font_manager
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras import plots
from gpt_keras.tokenizers import BytePairTokenizer, CharacterTokenizer, GPT1Tokenizer

HISTORY = {"loss": [3.0, 2.5, 2.2], "val_loss": [2.8, 2.6, 2.7]}


def test_training_draws_both_losses():
    figure = plots.training(HISTORY)
    training, validation = figure.axes[0].lines
    np.testing.assert_allclose(training.get_xdata(), [0.5, 1.5, 2.5])
    np.testing.assert_allclose(training.get_ydata(), HISTORY["loss"])
    np.testing.assert_allclose(validation.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(validation.get_ydata(), HISTORY["val_loss"])
    assert figure.axes[0].get_xlabel() == "epochs"
    assert figure.axes[0].get_ylabel() == "loss (nats per token)"


def test_training_lines_differ_without_colour():
    lines = plots.training(HISTORY).axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == 2
    assert len({line.get_marker() for line in lines}) == 2


def test_training_has_perplexity_at_the_heights_of_the_loss():
    axes = plots.training(HISTORY).axes[0]
    (perplexity,) = axes.child_axes
    assert perplexity.get_ylabel() == "perplexity"
    low, high = axes.get_ylim()
    expected = [np.exp(tick) for tick in axes.get_yticks() if low <= tick <= high]
    np.testing.assert_allclose(perplexity.get_yticks(), expected)


def test_training_takes_a_history_that_went_on():
    history = keras.callbacks.History()
    history.history, history.epoch = HISTORY, [4, 5, 6]
    training, validation = plots.training(history).axes[0].lines
    np.testing.assert_allclose(training.get_xdata(), [4.5, 5.5, 6.5])
    np.testing.assert_allclose(validation.get_xdata(), [5, 6, 7])


def test_training_puts_rare_validation_at_its_epochs():
    lines = (
        plots.training({"loss": [4, 3, 2, 1, 1], "val_loss": [3, 2]}, validation_freq=2)
        .axes[0]
        .lines
    )
    np.testing.assert_allclose(lines[1].get_xdata(), [2, 4])


def test_training_without_validation():
    assert len(plots.training({"loss": [1.0]}).axes[0].lines) == 1


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"val_loss": [1.0]}, [1.0, 2.0]])
def test_training_refuses_what_is_not_a_history(history):
    with pytest.raises(ValueError, match="history"):
        plots.training(history)


def test_learning_rate_is_what_the_optimizer_uses():
    optimizer = gk.training.adamw(1e-3, warmup_steps=5, total_steps=20)
    axes = plots.learning_rate(optimizer, 20).axes[0]
    used = []
    for step in range(20):
        optimizer.iterations.assign(step)
        used.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(axes.lines[0].get_ydata(), used, rtol=1e-6)
    assert axes.get_xlabel() == "training steps"
    assert axes.get_ylabel() == "learning rate"


def test_learning_rate_may_be_constant():
    axes = plots.learning_rate(keras.optimizers.SGD(0.25), 3).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.25] * 3)


def test_loss_by_position_is_the_mean_over_windows():
    losses = np.arange(6.0).reshape(2, 3)
    figure = plots.loss_by_position({"a": losses, "b": 2 * losses})
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1.5, 2.5, 3.5])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [3, 5, 7])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert axes.get_ylabel() == "mean loss (nats per token)"


@pytest.mark.parametrize(
    "losses", [{}, {"a": [1.0, 2.0]}, {str(i): np.ones((2, 3)) for i in range(6)}]
)
def test_loss_by_position_refuses_other_shapes(losses):
    with pytest.raises(ValueError, match="losses"):
        plots.loss_by_position(losses)


def test_next_tokens_draws_the_probabilities(spread_model):
    axes = plots.next_tokens(spread_model, "hello", count=4).axes[0]
    token_ids = np.array([spread_model.tokenizer.encode("hello")])
    logits = spread_model.predict(token_ids, verbose=0)[0, -1].astype("float64")
    probabilities = np.exp(logits) / np.exp(logits).sum()
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(widths, np.sort(probabilities)[:-5:-1], rtol=1e-4)
    names = [label.get_text() for label in axes.get_yticklabels()]
    expected = [spread_model.tokenizer.decode([i]) for i in np.argsort(-probabilities)[:4]]
    assert names == [name.replace(" ", "␣") for name in expected]
    assert "hello" in axes.get_title()


def test_next_tokens_are_those_of_the_tokenizer_written_as_they_are():
    tokenizer = CharacterTokenizer("$ab")
    model = gk.GPTCausalLM(tiny_config(), tokenizer=tokenizer)  # has 32 ids
    axes = plots.next_tokens(model, "$a$b", count=8).axes[0]
    names = axes.get_yticklabels()
    assert sorted(name.get_text() for name in names) == ["$", "a", "b"]
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1)
    assert not any(text.get_parse_math() for text in (axes.title, *names))


@pytest.mark.parametrize(
    ("draw", "losses"),
    [
        (plots.training, {"loss": [3.0, 2.0, 1.0, 2.0], "val_loss": [3.0, 1.0, 3.0, 1.0]}),
        (plots.loss_by_position, {str(i): np.ones((2, 8)) + i for i in range(5)}),
    ],
)
def test_legends_lie_over_no_curve(draw, losses):
    figure = draw(losses)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].bbox)
    assert figure.bbox.fully_containsx(legend.get_window_extent().x0)
    assert figure.bbox.fully_containsy(legend.get_window_extent().y1)


@pytest.mark.parametrize("prompts", ["", [], ["a", ""]])
def test_next_tokens_refuses_empty_prompts(spread_model, prompts):
    with pytest.raises(ValueError, match="prompts"):
        plots.next_tokens(spread_model, prompts)


def test_figures_are_matplotlibs_and_show_themselves():
    figure = plots.training(HISTORY)
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def gpt2():
    return BytePairTokenizer.gpt2()


def boxes(axes):
    return [text.get_text() for text in axes.texts]


def read_back(labels):
    """The text that labels stand for."""
    text = "".join(labels).replace("␣", " ").replace("⏎", "\n").replace("⇥", "\t")
    data = re.sub(
        "‹U[+]([0-9A-F]+)›", lambda code_point: chr(int(code_point[1], 16)), text
    ).encode()
    pattern = "‹([0-9A-F]+)›".encode()
    return re.sub(pattern, lambda run: bytes.fromhex(run[1].decode()), data).decode()


TEXTS = [
    "The quick brown fox,\n\n  12,345\tit's $5 and $6.",
    "Hi 👋🏽 ok\u200b \x00 ½",
    "a" * 300,
    "word " * 100,
]
CHINESE = ["春眠不覺曉，\n處處聞啼鳥。", "李白 wrote 靜夜思 in 726"]


@pytest.mark.parametrize("text", TEXTS + CHINESE)
def test_tokenization_joined_is_the_text(gpt2, text):
    if text in CHINESE:
        skip_without_chinese_font()
    characters = CharacterTokenizer.train(text)
    figure = plots.tokenization(text, {"GPT-2": gpt2, "characters": characters})
    assert len(figure.axes) == 2
    for axes, tokenizer, name in zip(figure.axes, (gpt2, characters), ("GPT-2", "characters")):
        count = len(tokenizer.encode(text))
        assert read_back(boxes(axes)) == text
        assert len(axes.texts) == len(axes.patches) == count
        assert axes.get_title(loc="left") == f"{name}: {count:,} tokens"
    figure._repr_png_()


def test_tokenization_shows_what_the_tokenizer_sees():
    tokenizer = GPT1Tokenizer.train("low lower lowest", 30)
    (axes,) = plots.tokenization("LOW lower", {"GPT-1": tokenizer}).axes
    assert read_back(boxes(axes)) == "low lower"


def test_tokenization_stays_inside_the_figure_and_boxes_apart(gpt2):
    text = "some words of a line, " * 8 + "\nand one\n" + "-" * 64
    for tokenizer in (gpt2, CharacterTokenizer.train(text)):
        figure = plots.tokenization(text, {"one": tokenizer})
        figure.draw_without_rendering()
        axes = figure.axes[0]
        places = [patch.get_window_extent() for patch in axes.patches]
        for place, label in zip(places, axes.texts):
            written = label.get_window_extent()
            assert figure.bbox.x0 <= place.x0 <= written.x0 + 1
            assert written.x1 - 1 <= place.x1 <= figure.bbox.x1
            assert place.y0 >= figure.bbox.y0
        for (left, label), right in zip(zip(places, boxes(axes)), places[1:]):
            same_line = left.y0 == right.y0
            assert same_line == (right.x0 > left.x1)
            assert not (same_line and label.endswith("⏎"))


def test_tokenization_marks_parts_of_characters_and_what_has_no_glyph(gpt2):
    (axes,) = plots.tokenization("é👋e\u0301", {"GPT-2": gpt2}).axes
    assert boxes(axes) == ["é", "‹F09F91›", "‹8B›", "e", "‹CC›", "‹81›"]
    styles = [patch.get_linestyle() for patch in axes.patches]
    assert [style == styles[0] for style in styles] == [True, False, False, True, False, False]
    (axes,) = plots.tokenization("👋e\u0301", {"": CharacterTokenizer.train("👋e\u0301")}).axes
    assert boxes(axes) == ["‹U+1F44B›", "e", "◌\u0301"]


def test_tokenization_is_readable_in_black_and_white(gpt2):
    (axes,) = plots.tokenization("one two three four five six seven", {"": gpt2}).axes
    red_green_blue = [matplotlib.colors.to_rgb(patch.get_facecolor()) for patch in axes.patches]
    greys = [np.dot(colour, [0.299, 0.587, 0.114]) for colour in red_green_blue]
    assert min(greys) > 0.65  # the text on it is black
    assert min(np.abs(np.diff(greys))) > 0.1
    assert {patch.get_edgecolor() for patch in axes.patches} == {(0, 0, 0, 1)}


@pytest.mark.parametrize(
    ("text", "tokenizers", "message"),
    [
        ("", {"a": CharacterTokenizer("a")}, "`text`"),
        (b"a", {"a": CharacterTokenizer("a")}, "`text`"),
        (
            "a" * 2001,
            {"a": CharacterTokenizer("a")},
            "at most 2,000 tokens, but has 2,001 with .* 'a'",
        ),
        ("b", {"a": CharacterTokenizer("a")}, "does not know"),
        ("a", {}, "`tokenizers`"),
        ("a", [CharacterTokenizer("a")], "`tokenizers`"),
    ],
)
def test_tokenization_refuses(text, tokenizers, message):
    with pytest.raises(ValueError, match=message):
        plots.tokenization(text, tokenizers)


def test_tokenization_without_a_chinese_font(gpt2, without_chinese_fonts):
    with pytest.raises(RuntimeError, match="apt install fonts-noto-cjk"):
        plots.tokenization("不", {"GPT-2": gpt2})
    plots.tokenization("é 👋", {"GPT-2": gpt2})


def skip_without_chinese_font():
    try:
        plots.chinese_font()
    except RuntimeError:
        pytest.skip("no Chinese font is installed here")


def test_chinese_font_has_the_glyphs(recwarn):
    skip_without_chinese_font()
    figure = plots.Figure()
    figure.text(0.1, 0.5, "春眠不覺曉", fontfamily=plots.chinese_font())
    figure._repr_png_()
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_use_chinese_font_is_for_figures_of_pyplot_too(recwarn):
    skip_without_chinese_font()
    with matplotlib.rc_context():
        assert plots.use_chinese_font() is True
        figure, axes = matplotlib.pyplot.subplots()
        axes.set_title("春眠不覺曉 abc")
        figure.draw_without_rendering()
        matplotlib.pyplot.close(figure)
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_use_chinese_font_without_one_changes_nothing(without_chinese_fonts):
    before = dict(matplotlib.rcParams)
    with pytest.warns(UserWarning, match="apt install fonts-noto-cjk"):
        assert plots.use_chinese_font() is False
    assert dict(matplotlib.rcParams) == before


@pytest.fixture
def without_chinese_fonts(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    monkeypatch.setattr(
        font_manager.fontManager,
        "ttflist",
        [e for e in font_manager.fontManager.ttflist if e.name == "DejaVu Sans"],
    )


def test_chinese_font_says_how_to_get_one(without_chinese_fonts):
    with pytest.raises(RuntimeError, match="apt install fonts-noto-cjk"):
        plots.chinese_font()


def test_attention_draws_the_weights_of_each_head():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4, 3))  # rows sum to 1
    figure = plots.attention(weights, ["to", " be\n", "$x$"])
    panels = figure.axes[:8]
    for panel, expected in zip(panels, weights.reshape(8, 3, 3), strict=True):
        (image,) = panel.images
        np.testing.assert_allclose(image.get_array(), expected)
        assert image.get_clim() == (0, 1)
    assert [panel.get_title() for panel in panels[3:5]] == ["layer 0, head 3", "layer 1, head 0"]
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == ["to", "␣be⏎", "$x$"]
    lightness = matplotlib.colors.rgb_to_hsv(panels[0].images[0].cmap([0.0, 1.0])[:, :3])[:, 2]
    assert lightness[0] > 0.95 > 0.05 > lightness[1]


@pytest.mark.parametrize(
    ("shape", "tokens", "message"),
    [
        ((2, 3, 3), ["a", "b"], r"weights.*2, got shape \(1, 2, 3, 3\)"),
        ((3, 3), ["a", "b", "c"], "weights"),
        ((0, 1, 1), ["a"], "weights"),
        ((1, 65, 65), ["a"] * 65, "tokens.*64.*65"),
    ],
)
def test_attention_refuses(shape, tokens, message):
    with pytest.raises(ValueError, match=message):
        plots.attention(np.zeros(shape), tokens)


def test_scaling_law_draws_what_was_measured_and_what_is_left_over():
    law = gk.evaluation.PowerLaw(1.5, 20.0, 0.3)
    sizes = np.array([1e3, 1e4, 1e5])
    losses = law(sizes) + np.array([0.01, -0.02, 0.0])
    above, below = plots.scaling_law(sizes, losses, law).axes
    np.testing.assert_allclose(above.lines[1].get_xdata(), sizes)
    np.testing.assert_allclose(above.lines[1].get_ydata(), losses)
    line = above.lines[0]
    np.testing.assert_allclose(line.get_ydata(), law(line.get_xdata()))
    np.testing.assert_allclose(below.lines[1].get_ydata(), [0.01, -0.02, 0.0], atol=1e-12)
    assert above.get_xscale() == "log"


def test_tables_by_layer_have_each_number():
    values = np.array([[0.5, -0.25, 0.0], [1.25, -2.0, 0.125]])
    for figure in (
        plots.by_head(values, "loss"),
        plots.by_token(values, ["a", "$x$", " "], "loss"),
    ):
        axes = figure.axes[0]
        found = [float(text.get_text().replace("−", "-")) for text in axes.texts]
        np.testing.assert_allclose(np.reshape(found, (2, 3)), values, atol=0.051)
        np.testing.assert_allclose(axes.images[0].get_array(), np.abs(values))
        # Dark cells have white numbers.
        assert [text.get_color() for text in axes.texts].count("white") == 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "$x$", "␣"]
    small = plots.by_head(np.array([[0.0123, -0.0004]]), "loss").axes[0]
    assert [text.get_text() for text in small.texts] == ["0.0123", "−0.0004"]
    nearly = plots.by_head(np.array([[5.0, -0.04]]), "loss").axes[0]
    assert [text.get_text() for text in nearly.texts] == ["5.0", "0.0"]


def test_characters_stand_upright_below_their_columns():
    skip_without_chinese_font()
    for tokens, rotation in (("春眠不", 0), (["春眠", "不覺曉"], 90)):
        size = len(tokens)
        for figure in (
            plots.attention(np.eye(size)[None], tokens),
            plots.by_token(np.eye(size), tokens, "loss"),
            plots.logit_lens(np.zeros((2, size, 3)), tokens, ["a", "b", "c"]),
        ):
            for label in figure.axes[0].get_xticklabels():
                assert label.get_rotation() == rotation


def test_logit_lens_writes_the_likeliest_token_in_each_cell():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)) * 3
    vocabulary = ["a", " b", "山", "\n", "e"]
    axes = plots.logit_lens(logits, ["山", "高", "a", " "], vocabulary).axes[0]
    names = ["a", "␣b", "山", "⏎", "e"]
    expected = [names[i] for i in logits.argmax(axis=-1).ravel()]
    assert [text.get_text() for text in axes.texts] == expected
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), probabilities.max(axis=-1))
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["embedding", "layer 0", "layer 1"]


def test_attribution_tells_for_from_against_without_colour():
    scores = np.array([[0.5, -0.25, 0.0], [1.0, 2.0, -3.0]])
    figure = plots.attribution(scores, ["a", "b", "c"], "山")
    assert len(figure.axes) == 2
    for axes, values in zip(figure.axes, scores, strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], values)
        assert [bool(bar.get_hatch()) for bar in axes.patches] == (values < 0).tolist()
    assert figure.axes[0].get_xlabel() == "part in the logit of “山”"


def test_embeddings_have_their_names():
    points = np.array([[0.0, 1.0], [2.0, 3.0]])
    axes = plots.embeddings(points, ["山", "$"], np.array([0.6, 0.2])).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), points)
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("山", (0, 1)), ("$", (2, 3))]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.by_head(np.zeros(3), "loss"),
        lambda: plots.by_head(np.full((1, 1), np.nan), "loss"),
        lambda: plots.by_head(np.zeros((1, 65)), "loss"),
        lambda: plots.by_token(np.zeros((2, 2)), ["a"], "loss"),
        lambda: plots.logit_lens(np.zeros((2, 2, 3)), ["a", "b"], ["a", "b"]),
        lambda: plots.attribution(np.zeros(2), ["a"], "b"),
        lambda: plots.embeddings(np.zeros((2, 3)), ["a", "b"], np.ones(2)),
        lambda: plots.embeddings(np.zeros((2, 2)), ["a"], np.ones(2)),
    ],
)
def test_figures_of_the_inside_refuse_other_shapes(draw):
    with pytest.raises(ValueError, match="must be"):
        draw()


def test_a_font_of_placeholders_is_no_chinese_font():
    """matplotlib 3.11 ships one that claims every character."""
    with contextlib.suppress(RuntimeError):  # no other font has the glyphs
        assert not plots.chinese_font().startswith("Last Resort")
