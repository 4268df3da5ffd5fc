# %% [markdown]
# # 13. Looking inside
#
# Time on 2 CPU cores: about 3 minutes, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapters 4 and 5: attention, and the
# blocks that a GPT is made of.

# %%
import importlib.util
import pathlib
import subprocess
import sys

# The library is on no public index yet, so it is installed from a checkout of its repository.
# On Colab, clone or upload the repository first and put its folder here.
CHECKOUT = pathlib.Path("..")

if importlib.util.find_spec("gpt_keras") is None:
    had_keras = "keras" in sys.modules
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", str(CHECKOUT)], check=True)
    importlib.invalidate_caches()
    if had_keras:
        print("Keras was imported before it was updated: restart the kernel, then run on.")

# %%
import os

import keras
import matplotlib.pyplot as plt
import numpy as np

import gpt_keras as gk
from gpt_keras import interpretation
from gpt_keras.presets.nano import nano

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# A GPT is often called a black box. It is a box of which you have every number. At the end of the
# chapter you will be able to
#
# - read what the model would say after each of its layers, the *logit lens*;
# - take out a head or a layer and measure what is lost, *ablation*;
# - exchange what a part computes for what it computes on another text, *patching*;
# - say on which tokens a prediction rests, *attribution*, and check that the parts add up;
# - watch *induction heads* appear in a model that you train, and show that they do the work.
#
# ## The idea
#
# Chapter 5 built a block as two sums: `x = x + attention(norm(x))`, then
# `x = x + feed_forward(norm(x))`. So there is one vector for each token, the *residual stream*,
# that runs from the embedding to the output. No part ever replaces it. Each reads it, and adds
# something to it.

# %%
figure, axes = plt.subplots(figsize=(9, 2.4), layout="constrained")
axes.annotate("", (9.6, 1), (0, 1), arrowprops={"arrowstyle": "-|>", "linewidth": 3})
parts = ["attention", "feed-\nforward", "attention", "feed-\nforward"]
for i, part in enumerate(parts):
    left = 1.2 + 1.9 * i
    axes.add_patch(plt.Rectangle((left, 1.7), 1.1, 0.8, facecolor="#DDDDDD", edgecolor="black"))
    axes.text(left + 0.55, 2.1, part, ha="center", va="center")
    axes.annotate("", (left + 0.15, 1.7), (left - 0.25, 1.02), arrowprops={"arrowstyle": "->"})
    axes.annotate("", (left + 1.35, 1.02), (left + 0.95, 1.7), arrowprops={"arrowstyle": "->"})
    axes.text(left + 1.33, 1.3, "+", fontsize=14)
for x, label in ((0.1, "embedding"), (4.85, "after block 0"), (8.7, "after block 1")):
    axes.plot([x, x], [0.75, 1.0], color="black", linestyle=":")
    axes.text(x, 0.5, label, ha="center" if x > 1 else "left")
axes.text(9.7, 1, "logits", va="center")
axes.set_xlim(0, 10.6)
axes.set_ylim(0.3, 2.7)
axes.axis("off")
plt.show()

# %% [markdown]
# Every tool of this chapter follows from the picture. Cut the stream early and send it to the
# output: the logit lens. Leave one addition out: ablation. Put in one from another text: patching.
# Ask how much the output changes with each token's start of the stream: attribution.
#
# ## By hand
#
# A stream of two numbers and a vocabulary of three tokens. The *unembedding* has a row for each
# token; its product with the stream gives the logits. (The norm before it is left out here.)

# %%
vocabulary = ["cat", "sat", "mat"]
unembedding = np.array([[2.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
embedding = np.array([1.5, 0.2])  # the last token of the text is "cat"
added = {"attention": np.array([-0.5, 0.3]), "feed-forward": np.array([-0.8, 1.1])}


def probabilities(stream):
    """The softmax of the logits of a stream."""
    exponentials = np.exp(unembedding @ stream)
    return exponentials / exponentials.sum()


stream = embedding
print("embedding         ", dict(zip(vocabulary, probabilities(stream).round(2).tolist())))
for part, change in added.items():
    stream = stream + change
    print(f"after {part:12}", dict(zip(vocabulary, probabilities(stream).round(2).tolist())))

# %% [markdown]
# That is a logit lens: the model began with the token it had seen and was led, addition by
# addition, to another one. *Ablation* leaves one addition out and looks at the loss, here for the
# target `sat`:

# %%
loss = -np.log(probabilities(stream)[1])
for part, change in added.items():
    without = -np.log(probabilities(stream - change)[1])
    print(f"without {part:12} loss {loss:.3f} -> {without:.3f}, change {without - loss:+.3f}")

# %% [markdown]
# And *attribution*. Take a function of two inputs in place of a model, $f(a, b) = 3a + a b$, at
# $a = 2$, $b = 1$. The gradient times the input treats it as if it were straight; *integrated
# gradients* walks from a baseline, here 0, to the input and takes the mean of the gradients on the
# way. Only its parts add up to what the function really gained.

# %%
point = np.array([2.0, 1.0])


def function(x):
    """3 a + a b."""
    return 3 * x[0] + x[0] * x[1]


def gradient(x):
    """The derivatives of the function by a and by b."""
    return np.array([3 + x[1], x[0]])


way = [(step + 0.5) / 100 * point for step in range(100)]
integrated = np.mean([gradient(x) for x in way], axis=0) * point
print("gradient times input:", gradient(point) * point, "sum", (gradient(point) * point).sum())
print("integrated gradients:", integrated.round(6), "sum", integrated.sum().round(6))
print("what there is to explain:", function(point) - function(0 * point))

# %% [markdown]
# ## The formula
#
# Let $x_0$ be the stream of a token after the embedding, $x_l$ after block $l$, $W$ the unembedding
# and $\mathrm{norm}$ the model's final norm.
#
# - Logit lens: $\mathrm{softmax}(W\, \mathrm{norm}(x_l))$ for each $l$.
# - Ablation of a part with output $h$: $\Delta L = L(h \leftarrow \bar h) - L$, where $\bar h$ is 0
#   or the part's mean output.
# - Patching: $\Delta L = L(h \leftarrow h') - L$, where $h'$ is what the part gives for another
#   text.
# - Gradient times input, for the logit $z$ of a target and the start $e_i$ of token $i$'s stream:
#   $\nabla_{e_i} z \cdot e_i$.
# - Integrated gradients, with a baseline $b_i$:
#   $(e_i - b_i) \cdot \int_0^1 \nabla_{e_i} z\bigl(b + t (e - b)\bigr)\, dt$. Over all tokens
#   they sum to $z(e) - z(b)$.
# - Induction score of a head, on $n$ random tokens given twice: the mean of the attention
#   $A_{t,\, t - n + 1}$ over the second half. At a token it looks at what *followed* the same
#   token.
#
# ## The class
#
# All of it is in `gk.interpretation`: arrays out, Keras models in. First the lens, checked by hand
# on a small model with random weights: stream, norm, product.

# %%
config = nano(32, vocabulary_size=50, max_sequence_length=32, num_layers=2, num_heads=4)
gpt = gk.GPT(config)
ids = np.random.default_rng(0).integers(50, size=(1, 10))
streams = interpretation.residual_stream(gpt, ids)
print("streams:", streams.shape, "= (layers + 1, texts, tokens, width)")

rms = np.sqrt((streams**2).mean(axis=-1, keepdims=True) + config.norm_epsilon)
normed = streams / rms * keras.ops.convert_to_numpy(gpt.final_norm.scale)
by_hand = normed @ interpretation.token_embeddings(gpt).T
np.testing.assert_allclose(interpretation.logit_lens(gpt, ids), by_hand, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(gpt(ids), by_hand[-1], rtol=1e-4, atol=1e-5)
print("the lens is what we made by hand, and its last row is the model's output")

# %% [markdown]
# Then ablation. A head's output goes through its own rows of the output projection, so a model in
# which these rows are zero is a model without the head.

# %%
found = interpretation.head_ablation(gpt, ids, replacement="zero")


def loss_of(model):
    """The mean loss of the tokens after the first."""
    losses = keras.losses.sparse_categorical_crossentropy(
        ids[:, 1:], model(ids[:, :-1]), from_logits=True
    )
    return float(np.mean(losses))


kept = loss_of(gpt)
projection = gpt.blocks[1].attention.output_projection.kernel
rows = keras.ops.convert_to_numpy(projection)
without = rows.copy()
without[2 * 8 : 3 * 8] = 0  # head 2, whose width is 8
projection.assign(without)
np.testing.assert_allclose(found[1, 2], loss_of(gpt) - kept, atol=1e-5)
projection.assign(rows)
print("change in loss without each head (rows: layers):\n", found.round(5))

# %% [markdown]
# ## On real text
#
# **A model that must copy.** The smallest thing that a GPT does and a table of counts cannot:
# continue a pattern that it has never seen. The training text is random tokens, given again after
# 8 to 24 of them. Nothing helps but to find the place where the present token stood before, and to
# look what came next. (`nano` is a small model with the modern parts of chapter 8, and `muon` an
# optimizer that learns faster than AdamW at this size; neither matters for what follows.)

# %%
SIZE = 40


def repeated(number, generator):
    """Rows of random tokens that begin again after a period, another one in each row."""
    rows = []
    for _ in range(number):
        once = generator.integers(SIZE, size=generator.integers(8, 25))
        rows.append(np.resize(once, 49))
    return np.array(rows)


print(repeated(1, np.random.default_rng(1))[0])


# %%
class InductionScores(keras.callbacks.Callback):
    """Keeps the induction score of each head after every so many batches."""

    def __init__(self, every):
        super().__init__()
        self.every, self.batches, self.scores, self.sums = every, [], [], []

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.every == 0:
            self.batches.append(batch)
            self.sums.append(logs["loss"] * (batch + 1))  # Keras gives the mean so far
            self.scores.append(interpretation.induction_scores(self.model, length=20))


# %%
steps = 40 if FAST else 1200
keras.utils.set_random_seed(0)
config = nano(64, vocabulary_size=SIZE, max_sequence_length=64, num_layers=2, num_heads=4)
copier = gk.GPTCausalLM(config)
optimizer = gk.training.muon(2e-2, warmup_steps=steps // 20, total_steps=steps)
copier.compile(optimizer, weighted_metrics=[], jit_compile=not FAST)
rows = repeated(32 * steps, np.random.default_rng(0))
watch = InductionScores(every=20)
copier.fit(rows[:, :-1], rows[:, 1:], batch_size=32, shuffle=False, verbose=0, callbacks=[watch])
scores = interpretation.induction_scores(copier, length=20)
print("induction score of each head (rows: layers):\n", scores.round(2))

# %% [markdown]
# Some heads of the last layer give most of their attention to exactly one place: the token after
# the last occurrence of the present one. Nobody told them to. They are *induction heads*. Do they
# do the work? On tokens that the model has never seen in this order, its loss on the first round is
# that of a guess, $\ln 40$, and on the second round next to nothing.

# %%
twice = np.tile(np.random.default_rng(7).integers(SIZE, size=(16, 20)), 2)
losses = keras.losses.sparse_categorical_crossentropy(
    twice[:, 1:], copier(twice[:, :-1]), from_logits=True
)
by_position = np.array(losses).mean(axis=0)
print(f"ln {SIZE} = {np.log(SIZE):.2f}")
print(
    f"loss in the first round {by_position[:19].mean():.2f}, second {by_position[20:].mean():.3f}"
)

# %% [markdown]
# **Ablation.** The change in loss over both rounds without each head. What counts is not only the
# induction heads: without the head of the first layer that looks at the token just before, they
# have nothing to match with. (Layer 0 may have another head that is needed, and hardly looks there:
# what it does, these two tables do not tell.)

# %%
changes = interpretation.head_ablation(copier, twice)
print("change in loss without each head (rows: layers):\n", changes.round(2))
back = interpretation.attention_weights(copier, twice)[:, :, :, np.arange(1, 40), np.arange(39)]
print("attention to the token just before:\n", back.mean(axis=(1, 3)).round(2))

# %% [markdown]
# **Patching.** Two texts that differ in one token: `... 5 17 ...` and `... 5 23 ...`, both begun
# again up to the 5. The first must be continued with 17, the second with 23. Bring pieces of the
# second run into the first, and see which make 23 likely.

# %%
once = np.random.default_rng(3).permutation(np.setdiff1d(np.arange(SIZE), [5, 17, 23]))[:12]
once[[4, 5]] = [5, 17]
text = np.concatenate([once, once[:5]])
other = text.copy()
other[5] = 23
for name, ids in (("text: ", text), ("other:", other)):
    chances = keras.ops.convert_to_numpy(keras.ops.softmax(copier(ids[None])[0, -1]))
    print(f"{name} {ids}, then 17 with {chances[17]:.3f}, 23 with {chances[23]:.3f}")
by_layer = interpretation.layer_patching(copier, text, other, target=23)
by_head = interpretation.head_patching(copier, text, other, target=23)
print("change in the loss of 23, by head (rows: layers):\n", by_head.round(2))

# %% [markdown]
# A head of either layer, alone, makes 23 many times as likely: $e^3$ is 20. This need not be the
# order of the ablation. That asks which heads the copying *needs*, this which of them *carry* the
# one token that differs.
#
# **Chinese poems.** A model with a real text to read, small enough to train in a minute.

# %%
poems = gk.datasets.corpora.load("tang_poems")
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
train, validation = gk.datasets.language_modeling(
    poems, hanzi, sequence_length=64, batch_size=8, seed=0
)
poem_steps = 20 if FAST else 150
config = nano(128, vocabulary_size=hanzi.vocabulary_size, max_sequence_length=64, num_layers=3)
poet = gk.GPTCausalLM(config, tokenizer=hanzi)
poet.compile(
    gk.training.muon(1e-2, warmup_steps=poem_steps // 20, total_steps=poem_steps),
    jit_compile=not FAST,
)
poet.fit(train.repeat(), steps_per_epoch=poem_steps, verbose=0)
print(f"loss on poems that were held out: {poet.evaluate(validation, verbose=0)[0]:.3f}")

# %% [markdown]
# Which characters speak for what comes next? Three answers to one question. Integrated gradients
# must add up, and `gk.interpretation` raises an error where they do not; occlusion puts the token
# for the end of a text in the place of each character, one at a time.

# %%
verse = "白日依山盡"
verse_ids = hanzi.encode(verse)
parts = {
    "gradient times input": interpretation.gradient_times_input(poet, verse_ids),
    "integrated gradients": interpretation.integrated_gradients(poet, verse_ids),
    "occlusion": interpretation.occlusion(poet, verse_ids),
}
logits = np.array(poet(np.array([verse_ids])))[0, -1]
nothing = np.array(poet(np.full((1, len(verse)), hanzi.end_of_text_id)))[0, -1]
target = int(logits.argmax())
print(f"after {verse} comes {hanzi.decode([target])}")
print(f"logit {logits[target]:.2f}, after a text of nothing {nothing[target]:.2f}")
for method, values in parts.items():
    print(f"{method:21}", dict(zip(verse, values.round(2).tolist())), f"sum {values.sum():.2f}")

# %% [markdown]
# **For the browser.** `gpt-keras explain MODEL "text"` writes one page with attention by head, lens
# and attribution to click through; in Python it is one function.

# %%
page = interpretation.explanation_page(poet, verse, "a poet")
pathlib.Path("explanation.html").write_text(page, encoding="utf-8")
print(f"explanation.html: {len(page.encode()) / 1024:.0f} KiB, to be opened in any browser")

# %% [markdown]
# ## Look
#
# **The moment it understood.** The loss sinks slowly, then falls at once; the scores
# of the heads of layer 1 rise in the same batches. This sudden turn was seen in models of many
# sizes, if they had more than one layer. (The first round of each row remains a guess, so the loss
# cannot come near 0.)

# %%
figure, (upper, lower) = plt.subplots(2, 1, figsize=(6.4, 5), sharex=True, layout="constrained")
upper.plot(watch.batches[1:], np.diff(watch.sums) / watch.every, color="black")
upper.axhline(np.log(SIZE), color="black", linestyle=":", label="a guess")
upper.set_ylabel("loss (nats per token)")
upper.legend()
history = np.array(watch.scores)
for head in range(4):
    style = ["-", "--", "-.", ":"][head]
    lower.plot(watch.batches, history[:, 1, head], style, color="#0072B2", label=f"1.{head}")
    lower.plot(watch.batches, history[:, 0, head], style, color="#999999", linewidth=0.8)
lower.set_ylabel("induction score")
lower.set_xlabel("training batch")
title = "layer.head (those of layer 0 in grey)"
figure.legend(*lower.get_legend_handles_labels(), title=title, loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# **What the strongest of them sees.** Ten tokens given twice. In the second half, the dark cells
# lie on one line: each token attends to the one after its first occurrence.

# %%
shown = np.tile(np.random.default_rng(9).permutation(SIZE)[:10], 2)
weights = interpretation.attention_weights(copier, shown[None])[:, 0]
layer, head = np.unravel_index(scores.argmax(), scores.shape)
figure = gk.plots.attention(weights[layer, head][None], [str(i) for i in shown])
figure.axes[0].set_title(f"layer {layer}, head {head}")
figure

# %% [markdown]
# **What is lost without each head,** as a table: darker is more.

# %%
gk.plots.by_head(changes, "change in loss (nats per token)")

# %% [markdown]
# **Where the answer is.** The column is the token whose stream is exchanged after the layer. After
# layer 0 the news is still at the token that differs, 17; after layer 1 it has moved to the last
# token, the second 5, where the answer is given.

# %%
gk.plots.by_token(by_layer, [str(i) for i in text], "change in the loss of 23 (nats)")

# %% [markdown]
# **The lens on a verse.** With tied embeddings, the first row mostly repeats its own column: the
# stream still *is* the embedding of the token. The layers turn it from what was into what will be.

# %%
if chinese:
    lens = interpretation.logit_lens(poet, np.array([verse_ids]))[:, 0]
    names = [hanzi.decode([i]) for i in range(hanzi.vocabulary_size)]
    display(gk.plots.logit_lens(lens[..., : len(names)], list(verse), names))  # noqa: F821

# %% [markdown]
# **Attribution,** the three methods side by side.

# %%
if chinese:
    values = np.stack(list(parts.values()))
    figure = gk.plots.attribution(values, list(verse), hanzi.decode([target]))
    for axes, method in zip(figure.axes, parts):
        axes.set_title(method, fontsize="medium")
    display(figure)  # noqa: F821

# %% [markdown]
# ## What goes wrong
#
# **Attention taken for importance.** A head can look at a token and take nothing from it: what is
# taken is the value, not the weight. Compare, for the last token of the verse, the mean attention
# that each character gets with what occlusion says.

# %%
looks = interpretation.attention_weights(poet, np.array([verse_ids]))[:, 0, :, -1].mean(axis=(0, 1))
print("attention:", dict(zip(verse, looks.astype(float).round(2).tolist())))
print("occlusion:", dict(zip(verse, parts["occlusion"].round(2).tolist())))
order = np.corrcoef(looks, np.abs(parts["occlusion"]))[0, 1]
print(f"correlation of the attention with the size of the effect: {order:.2f}")

# %% [markdown]
# **Zeros are no absence.** A stream has never been without the mean of a head's output; zeros take
# away that mean as well, and can hurt for that reason alone. Replace by the mean where you ask what
# a head *tells* the model.

# %%
zeros = interpretation.head_ablation(copier, twice, replacement="zero")
print("by zeros, minus by the mean:\n", (zeros - changes).round(3))

# %% [markdown]
# **The gradient at one point.** It says what a very small change would do, not what it took to come
# here. So the sum of its parts misses what there is to explain, while the integrated gradients,
# which ask all along the way, hit it. Occlusion need not add up either: where any one of five
# characters is enough to spoil the prediction, each of them gets the whole of it.

# %%
difference = logits[target] - nothing[target]
for method, values in parts.items():
    print(f"{method:21} explains {values.sum():6.2f} of {difference:.2f}")
np.testing.assert_allclose(parts["integrated gradients"].sum(), difference, rtol=0.05, atol=0.05)

# %% [markdown]
# **One text.** All that was said of the poet holds for one verse. A claim about a *model* needs
# many texts, and such as were chosen before looking.
#
# ## Exercises
#
# 1. *Easy.* Compute the induction scores of the copier with 10 and with 30 tokens given twice. Why
#    does it do worse with 30? Look at the periods of its training text.
# 2. *Easy.* Take out both of the strongest induction heads at once. `interpretation.run(model, ids,
#    edit)` gives the model's logits and on the way calls your `edit(point, layer, value)`: at the
#    point `"heads"` the value is `(texts, tokens, heads, head_dim)`, and what `edit` returns goes
#    on in its place (None changes nothing). Is the damage the sum of the two?
# 3. *Medium.* Train the copier with one layer in place of two. Can it do the task? Explain the
#    result with what layer 0 is needed for.
# 4. *Open.* The poet puts a comma after the five characters of 白日依山盡. Which of its heads
#    counts? Form a guess from attention maps, then test it by ablation.
#
# Solutions: `solutions/13_looking_inside.ipynb`.
#
# ## Further reading
#
# - Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits": the residual stream as
#   a channel that all parts share, and why two layers are needed.
# - Olsson et al. 2022, "In-context Learning and Induction Heads": the sudden turn, in large models.
# - nostalgebraist 2020, "interpreting GPT: the logit lens".
# - Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", sections 2 and 3.
# - Michel et al. 2019, "Are Sixteen Heads Really Better than One?", section 3.
# - Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 2: patching.
# - Jain and Wallace 2019, "Attention is not Explanation", section 4.
