# %% [markdown]
# # 4. Attention
#
# Time on 2 CPU cores: about 3 minutes, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapter 0, and from chapter 3 that a
# token is a vector and that its position is added to it.

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
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(10)
keras.utils.set_random_seed(0)
np.set_printoptions(precision=3, suppress=True)
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# - Compute attention with a pencil: queries, keys, values, the mask, the softmax, the weighted sum.
# - Say why the scores are divided by $\sqrt{d_k}$, and measure what happens if they are not.
# - Read and set the weights of `gk.layers.CausalMultiHeadAttention`, and get its numbers by hand.
# - Look at what each head of a trained model attends to, in English and in Chinese.
# - Say what attention costs, and recognise four mistakes by what they do to the numbers.
#
# ## The idea
#
# What is a *bank*? In `the river bank` it is land beside water, in `the savings bank` it is a house
# with money. The word alone does not tell; the word before it does. Chinese has the same: 行 is "to
# walk" in 步行 and "a firm" in 銀行, where it is even read differently (*xíng* and *háng*). A model
# that turns each token into a vector, as in chapter 3, gives `bank` the same vector in both.
# *Attention* is how a token asks the others what it means here. It works like looking something up
# in a dictionary, only softly:
#
# - each token puts out a *key*: what it has to offer;
# - each token has a *query*: what it is looking for;
# - each token carries a *value*: what it hands over when it is asked.
#
# A query is compared with all keys. A dictionary would return the value of the one key that fits;
# attention returns a mean of all the values, with more weight where the key fits better. The
# picture shows the weights for the last token of each text, as thick as they are large. The left
# ones are those that we are about to compute, the right ones are made up.

# %%
examples = [["the", "river", "bank"], ["他", "步", "行"] if chinese else ["he", "walks", "on"]]
figure, panels = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
for axes, tokens, weights in zip(panels, examples, [(0.01, 0.88, 0.11), (0.1, 0.7, 0.2)]):
    for place, (token, weight) in enumerate(zip(tokens, weights)):
        axes.plot([2, place], [1, 0], color="#0072B2", linewidth=1 + 14 * weight, alpha=0.7)
        axes.text(place, -0.12, token, ha="center", va="top", fontsize=15)
        axes.text(place, -0.5, f"{weight:.2f}", ha="center", va="top", fontsize=11)
    axes.text(2, 1.12, tokens[-1], ha="center", va="bottom", fontsize=15)
    axes.set_xlim(-0.5, 2.6)
    axes.set_ylim(-0.8, 1.45)
    axes.set_yticks([-0.6, 0, 1], ["weights", "keys, values", "query"])
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
plt.show()

# %% [markdown]
# ## By hand
#
# Four tokens, `the river bank floods`, each a vector of four numbers. In a trained model nobody
# knows what a single number means; here we choose: how much the token is an article, how much it
# has to do with water, how much with money, and how unclear it is by itself.

# %%
tokens = ["the", "river", "bank", "floods"]
x = np.array(
    [  # article, water, money, unclear
        [1.0, 0.0, 0.0, 0.0],  # the
        [0.0, 1.0, 0.0, 0.0],  # river
        [0.0, 0.5, 0.5, 1.0],  # bank
        [0.0, 0.8, 0.0, 0.4],  # floods
    ]
)

# %% [markdown]
# Three matrices make queries, keys and values of the tokens. They are what training finds; we set
# them. Who is unclear asks for a topic (first number of the query); water and money are topics
# (first number of the key), and who is unclear itself is a poor one. The values are the topics.

# %%
w_query = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
w_key = np.array([[0.0, 1.0], [2.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
w_value = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
query, key, value = x @ w_query, x @ w_key, x @ w_value
for name, row_q, row_k, row_v in zip(tokens, query, key, value):
    print(f"{name:>7}: query {row_q}   key {row_k}   value {row_v}")

# %% [markdown]
# **Scores.** The dot product of each query with each key, large where they point the same way, is
# divided by the square root of $d_k$, the width of queries and keys, here $\sqrt 2$. Read the row
# of `bank`: it fits `river` best.


# %%
def show(matrix, rows=tokens, columns=tokens):
    """Print a matrix with the names of its rows and columns."""
    print(" " * 8 + "".join(f"{name:>8}" for name in columns))
    for name, row in zip(rows, matrix):
        print(f"{name:>8}" + "".join(f"{number:8.2f}" for number in row))


scores = query @ key.T / np.sqrt(2)
show(scores)

# %% [markdown]
# **Mask.** A language model predicts the next token, so no token may see one that comes later.
# `bank` would learn from `floods` what it is, but when the model writes, `floods` is not there yet.
# Scores above the diagonal become $-\infty$; this is the *causal mask*.

# %%
later = np.triu(np.ones((4, 4), dtype=bool), k=1)
masked = np.where(later, -np.inf, scores)
show(masked)

# %% [markdown]
# **Softmax.** Each row becomes weights that sum to 1, as in chapter 0, and $e^{-\infty} = 0$. `the`
# sees itself alone. `river` asked for nothing, so its scores are equal, and so are its weights.


# %%
def softmax(scores, axis=-1):
    """Exponentials divided by their sum; the largest is taken off first, lest they overflow."""
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


weights = softmax(masked)
show(weights)
print("sums of the rows:", weights.sum(axis=-1))

# %% [markdown]
# **Weighted sum.** The output of a token is the sum of the values, each times its weight. The value
# of `bank` alone was half water, half money. Now it is nearly all water. Put `savings` in the place
# of `river`, and it is nearly all money.


# %%
def attend(query, key, value):
    """Causal attention of one head: its weights and its output."""
    scores = query @ key.T / np.sqrt(query.shape[-1])
    later = np.triu(np.ones(scores.shape, dtype=bool), k=1)
    weights = softmax(np.where(later, -np.inf, scores))
    return weights, weights @ value


_, output = attend(query, key, value)
savings = x.copy()
savings[1] = [0.0, 0.0, 1.0, 0.0]
_, other = attend(savings @ w_query, savings @ w_key, savings @ w_value)
print("             water  money")
print("bank alone: ", value[2])
print("river bank: ", output[2])
print("savings bank:", other[2])
assert min(output[2, 0], other[2, 1]) > 0.9

# %% [markdown]
# **Why divide by $\sqrt{d_k}$?** Take queries and keys of independent random numbers with mean 0
# and variance 1. Each of the $d_k$ products in the dot product adds a variance of 1, so the dot
# product has variance $d_k$. In a softmax such scores are extreme: the largest takes all. Worse, a
# softmax that is saturated has next to no gradient, so what is wrong cannot be mended. The
# derivative of weight $i$ by score $j$ is $a_i(\delta_{ij} - a_j)$, where $\delta_{ij}$ is 1 for
# $i = j$ and 0 elsewhere; we print the size of that matrix, for 16 keys.

# %%
random = np.random.default_rng(0)
scaling = []
for width in (4, 16, 64, 256, 1024):
    queries, keys = random.normal(size=(2, 500, 16, width))
    dots = (queries[:, :1] * keys).sum(axis=-1)  # 500 times one query and 16 keys
    row = [width, dots.var()]
    for divisor in (1.0, np.sqrt(width)):
        a = softmax(dots / divisor)
        jacobian = a[:, :, None] * (np.eye(16) - a[:, None, :])
        row += [a.max(axis=-1).mean(), np.sqrt((jacobian**2).sum(axis=(1, 2))).mean()]
    scaling.append(row)
print("               not divided              divided by sqrt(d_k)")
print(" d_k variance  largest weight gradient  largest weight gradient")
for row in scaling:
    print("{:4} {:8.1f} {:15.3f} {:8.4f} {:15.3f} {:8.4f}".format(*row))
np.testing.assert_allclose([row[1] / row[0] for row in scaling], 1.0, rtol=0.1)

# %% [markdown]
# The variance is $d_k$, near enough. Without the division the largest of 16 weights goes to 1 and
# the gradient goes to 0, as heads get wider; with it neither changes.
#
# **Many heads.** One softmax gives one mean: a token that needs a topic *and* a verb would get a
# blend. So attention is done several times side by side, by *heads*, each with queries, keys and
# values of its own. In code a head is a slice: one wide product makes the queries of all heads, and
# head $h$ takes columns $h d_k$ to $(h + 1) d_k$. What the heads return is joined again and goes
# through one more matrix. Our second head gets random weights, and so does that matrix.

# %%
random = np.random.default_rng(1)
kernels = [
    np.concatenate([of_first_head, random.normal(size=(4, 2))], axis=1)
    for of_first_head in (w_query, w_key, w_value)
]
w_output = random.normal(size=(4, 4))


def attend_with_heads(x, w_query, w_key, w_value, w_output, num_heads):
    """Causal attention with many heads, each a slice of the columns."""
    query, key, value = x @ w_query, x @ w_key, x @ w_value
    width = query.shape[-1] // num_heads
    heads = []
    for head in range(num_heads):
        columns = slice(head * width, (head + 1) * width)
        heads.append(attend(query[:, columns], key[:, columns], value[:, columns])[1])
    return np.concatenate(heads, axis=-1) @ w_output, np.concatenate(heads, axis=-1)


by_hand, joined = attend_with_heads(x, *kernels, w_output, num_heads=2)
print("what the two heads return, joined:")
show(joined, columns=["water", "money", "?", "?"])
print("after the output matrix:")
show(by_hand, columns=["?"] * 4)

# %% [markdown]
# ## The formula
#
# Let $X$ be the tokens of a text, a matrix of $T$ rows (one for each token) and $d$ columns. Head
# $h$ of $H$ has matrices $W^Q_h$, $W^K_h$ of size $d \times d_k$ and $W^V_h$ of size $d \times
# d_v$; nearly always $d_k = d_v = d / H$. With $Q_h = X W^Q_h$, $K_h = X W^K_h$, $V_h = X W^V_h$:
#
# $$A_h = \operatorname{softmax}\left( \frac{Q_h K_h^\top}{\sqrt{d_k}} + M \right) \qquad
#   M_{ij} = \begin{cases} 0 & j \le i \\ -\infty & j > i \end{cases} \qquad
#   Y = \bigl[ A_1 V_1, \dots, A_H V_H \bigr] W^O$$
#
# The softmax goes along each row: $A_h$, the *attention weights*, is a matrix of $T \times T$
# numbers, its row $i$ says how much token $i$ takes of each token $j$, and the row sums to 1. The
# square root stands *inside* the softmax, and the weights multiply $V_h$, not $X$. $W^O$ is of size
# $H d_v \times d$. In GPT each of the four products has a bias besides.
#
# **Cost.** A product of an $m \times n$ with an $n \times p$ matrix takes $2mnp$ operations. For
# $T$ tokens the four projections take $8 T d^2$, and the two products with $T \times T$ matrices,
# $Q K^\top$ and $A V$, take $4 T^2 d$ for all heads together. Twice the length is four times the
# second number, and four times the memory for $A$. More heads cost no more operations: there are
# $H$ of them, each $H$ times narrower. But each has an $A$ of its own, so they do cost memory.
#
# ## The class
#
# `gk.layers.CausalMultiHeadAttention` is a Keras layer. Its kernels are those of all heads side by
# side, in the attributes `query`, `key`, `value` and `output_projection`. We set them to ours, and
# it must give what we computed.

# %%
layer = gk.layers.CausalMultiHeadAttention(num_heads=2, use_bias=False)
layer.build((None, 4, 4))
for projection, kernel in zip((layer.query, layer.key, layer.value), kernels):
    projection.kernel.assign(kernel)
layer.output_projection.kernel.assign(w_output)
print("kernels:", [tuple(kernel.shape) for kernel in layer.trainable_variables])
made = np.array(layer(x[None]))[0]  # the layer takes a batch of texts
show(made, columns=["?"] * 4)
np.testing.assert_allclose(made, by_hand, rtol=1e-5, atol=1e-6)

made_weights = np.array(layer.attention_weights(x[None]))[0, 0]
print("weights of head 0:")
show(made_weights)
np.testing.assert_allclose(made_weights, weights, rtol=1e-5, atol=1e-6)

# %% [markdown]
# **Causal.** Change the last token into something quite different. The outputs of the tokens before
# it must stay the same, to the last digit. The gradient says so, too: the output at `bank` does not
# depend on `floods`.

# %%
changed = x.copy()
changed[3] = [5.0, -5.0, 5.0, -5.0]
difference = np.abs(np.array(layer(changed[None]))[0] - made).max(axis=-1)
print("change of the outputs:", dict(zip(tokens, difference.round(3).tolist())))
assert (difference[:3] == 0).tolist() == [True] * 3

inputs = tf.constant(x[None], "float32")
with tf.GradientTape() as tape:
    tape.watch(inputs)
    at_bank = tf.reduce_sum(layer(inputs)[:, 2])
gradient = np.abs(tape.gradient(at_bank, inputs)[0]).sum(axis=-1)
print("gradient of `bank` by:", dict(zip(tokens, gradient.round(3).tolist())))
assert gradient[3] == 0

# %% [markdown]
# **Fewer keys and values.** When a model writes, it keeps the keys and values of all earlier tokens
# (the *KV cache*), so it saves memory if heads share them. With 8 query heads and 2 of keys and
# values, four neighbouring query heads share one: *grouped-query attention*. It is the same as
# ordinary attention in which the columns of keys and values are repeated.

# %%
shared = gk.layers.CausalMultiHeadAttention(num_heads=8, num_key_value_heads=2, use_bias=False)
full = gk.layers.CausalMultiHeadAttention(num_heads=8, use_bias=False)
tested = np.random.default_rng(0).normal(size=(1, 10, 64)).astype("float32")
shared(tested), full(tested)  # builds them
query_kernel, *key_value_kernels, output_kernel = shared.get_weights()
repeated = [np.repeat(k.reshape(64, 2, 8), 4, axis=1).reshape(64, 64) for k in key_value_kernels]
full.set_weights([query_kernel, *repeated, output_kernel])
np.testing.assert_allclose(shared(tested), full(tested), rtol=1e-4, atol=1e-6)
config = gk.presets.get("gpt2_small")
for number in (12, 4, 1):
    size = config.replace(num_key_value_heads=number).kv_cache_bytes(batch_size=1, length=1024)
    print(f"GPT-2's shape with {number:2} key and value heads: {size / 2**20:4.0f} MiB of KV cache")

# %% [markdown]
# **Windows.** With `window=3` a token sees itself and the two before it. Such a layer costs $T$
# times the window, not $T^2$. (It is shown on zeros, so all scores are equal.) **Dropout** sets a
# share of the attention weights to 0 in training and divides the others by what is left, so that
# the sum is right on average.

# %%
banded = gk.layers.CausalMultiHeadAttention(num_heads=1, window=3)
banded.build((None, 6, 64))
print(np.array(banded.attention_weights(np.zeros((1, 6, 64))))[0, 0])

dropping = gk.layers.CausalMultiHeadAttention(num_heads=2, use_bias=False, dropout=0.2)
dropping.build((None, 4, 4))
dropping.set_weights(layer.get_weights())
copies = np.repeat(x[None], 20_000, axis=0)
once = np.array(dropping(copies, training=True))
print("three outputs for `bank`:", *once[:3, 2].round(2), sep="\n")
print("mean of 20,000:", once[:, 2].mean(axis=0), " without dropout:", made[2])
np.testing.assert_allclose(once.mean(axis=0), made, atol=0.1)

# %% [markdown]
# ## On real text
#
# **Shakespeare.** The small model of chapter 0 once more, half as wide: two layers with two heads
# each, so that we can look at all of them; characters as tokens. What the heads do is not set by us
# this time.

# %%
plays = gk.datasets.corpora.load("shakespeare")
letters = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
train, validation = gk.datasets.language_modeling(
    plays, letters, sequence_length=64, batch_size=32, seed=0
)
config = gk.GPTConfig(
    vocabulary_size=letters.vocabulary_size,
    max_sequence_length=64,
    num_layers=2,
    num_heads=2,
    hidden_dim=64,
)
model = gk.GPTCausalLM(config, tokenizer=letters)
epochs = 1 if FAST else 2
steps = epochs * len(train)
model.compile(
    gk.training.adamw(4e-3, warmup_steps=50, total_steps=steps),
    jit_compile=not FAST,  # XLA makes the steps faster, once it has compiled them
)
history = model.fit(train, validation_data=validation, epochs=epochs, verbose=2)

# %% [markdown]
# `gk.interpretation.attention_weights` gives the weights of all layers and heads for a batch. We
# take 64 windows of the validation text, and measure for each head where its attention goes: to the
# token itself, to the one before it, to a *mark* (a blank, a line end or a punctuation mark), and
# how far back on average.


# %%
def head_table(model, ids, marks):
    """Print where the attention of each head goes; `marks` are ids to be counted apart."""
    weights = gk.interpretation.attention_weights(model, ids)[..., 8:, :]  # with tokens to choose
    row, column = np.arange(8, ids.shape[1])[:, None], np.arange(ids.shape[1])[None]
    is_mark = np.isin(ids, marks)[:, None, None, :]
    print("layer head  itself  one before  marks  steps back on average")
    for i, of_layer in enumerate(weights):
        shares = [
            (of_layer * part).sum(axis=-1).mean(axis=(0, 2))
            for part in (row == column, row == column + 1, is_mark, row - column)
        ]
        for head, (itself, before, mark, steps_back) in enumerate(np.transpose(shares)):
            numbers = f"{itself:8.0%}{before:12.0%}{mark:7.0%}{steps_back:11.1f}"
            print(f"{i:5}{head:5}{numbers}")


held_out = np.concatenate([x for x, _ in validation.take(2).as_numpy_iterator()])
marks = letters.encode(" \n.,;:?!")
print(f"marks are {np.isin(held_out, marks).mean():.0%} of the tokens")
head_table(model, held_out, marks)

# %% [markdown]
# Nobody told the layers to share the work, and they do. The first one looks at the last few
# letters, at the one before more than at any other, as if to put them together. The second one
# gathers from further back.
#
# **Tang poems.** The same in Chinese. Regulated verse has lines of five or seven characters, each
# closed by a mark: something to count, and attention can count.

# %%
poems = gk.datasets.corpora.load("tang_poems")
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
poem_train, poem_validation = gk.datasets.language_modeling(
    poems, hanzi, sequence_length=64, batch_size=4, seed=0
)
poet = gk.GPTCausalLM(config.replace(vocabulary_size=hanzi.vocabulary_size), tokenizer=hanzi)
poet.compile(gk.training.adamw(4e-3, warmup_steps=50), jit_compile=not FAST)
poem_history = poet.fit(
    poem_train, validation_data=poem_validation, epochs=1 if FAST else 8, verbose=2
)
held_out_poems = np.concatenate([x for x, _ in poem_validation.as_numpy_iterator()])
marks = hanzi.encode("，。\n")
print(f"marks are {np.isin(held_out_poems, marks).mean():.0%} of the tokens")
head_table(poet, held_out_poems, marks)

# %% [markdown]
# The validation loss hardly moves after the first epoch: from there on the poet learns its poems by
# heart. What it does learn of all poems is their form, and that its heads show. Compare the column
# of marks with the share of marks among the tokens. One of the heads, in the second layer, spends
# most of its attention on them, wherever it stands. The picture below shows what for.

# %% [markdown]
# ## Look
#
# **One line of Shakespeare.** A panel is a head, a row is a token that attends, a column is a token
# that is attended to; black is a weight of 1. Above the diagonal all is white: that is the mask. A
# dark line just below the diagonal is a head that looks one letter back.

# %%
line = "To be, or not to be"
line_weights = gk.interpretation.attention_weights(model, np.array([letters.encode(line)]))[:, 0]
gk.plots.attention(line_weights, list(line))

# %% [markdown]
# **A poem by 李白.** Dark columns are tokens that many later ones look at. Find the head that looks
# at the marks: most characters attend to the last comma, full stop or line end, whose position
# tells how long this line is already. After five characters it is time for the next mark. That is
# how a sum of weighted values counts.

# %%
verse = "牀前看月光，疑是地上霜。\n舉頭望山月，低頭思故鄉。"
assert any(verse in poem for poem in poems)
verse_weights = gk.interpretation.attention_weights(poet, np.array([hanzi.encode(verse)]))[:, 0]
if chinese:
    display(gk.plots.attention(verse_weights, list(verse)))  # noqa: F821
else:
    print("no font here has Chinese glyphs; gk.plots.chinese_font() says how to get one")

# %% [markdown]
# **How far back?** The mean weight against the distance, over the 64 held-out windows of
# Shakespeare and all of the poems. The letters' first layer falls off within a word; the head that
# looks for marks stays high for the length of a line of verse, and then falls.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for axes, name, used, ids in (
    (panels[0], "Shakespeare", model, held_out),
    (panels[1], "Tang poems", poet, held_out_poems),
):
    mean = gk.interpretation.attention_weights(used, ids).mean(axis=1)
    for layer_number, style in ((0, "-"), (1, "--")):
        for head, colour in ((0, "#0072B2"), (1, "#D55E00")):
            of_head = mean[layer_number, head]
            by_distance = [np.diag(of_head, -back).mean() for back in range(21)]
            label = f"layer {layer_number}, head {head}"
            number = 2 * layer_number + head
            shape = {"marker": "os^D"[number], "markerfacecolor": "none", "markevery": (number, 4)}
            axes.plot(by_distance, style, color=colour, **shape, label=label)
    axes.set_title(name)
    axes.set_xlabel("steps back (tokens)")
    axes.set_xticks(range(0, 21, 5))
panels[0].set_ylabel("mean attention weight")
panels[1].legend()
plt.show()

# %% [markdown]
# **What it costs.** The formula first, with the counts of the package: of a layer of width $d$ the
# products with weights take $24 d^2$ operations for each token, whatever the length (8 for
# attention's projections, 16 for the feed-forward layer of chapter 5), and the products of tokens
# with tokens $4 T d$. They are equal where $T = 6 d$. The package counts no discount for the mask.

# %%
shape = dict(vocabulary_size=1, max_sequence_length=1, num_layers=1, num_heads=4, hidden_dim=64)
counted = gk.GPTConfig(**shape)
for length in (64, 384, 2048):
    of_weights, of_pairs = 24 * 64**2, 4 * length * 64
    print(f"T = {length:4}: {of_weights:6} for weights, {of_pairs:6} for pairs of tokens")
    logits = 2 * 1 * 64  # the logits of a vocabulary of one token, which are counted, too
    assert counted.flops_per_token(length) == of_weights + of_pairs + logits

# %% [markdown]
# Now the clock: the processor time of an attention layer, of one with a window of 64 tokens, and of
# a feed-forward layer of the same width, on texts of growing length. Beside it the memory for the
# weights of all pairs.

# %%
layers = {
    "attention": gk.layers.CausalMultiHeadAttention(num_heads=4),
    "window of 64": gk.layers.CausalMultiHeadAttention(num_heads=4, window=64),
    "feed-forward": gk.layers.FeedForward(256),
}
lengths = [128, 256, 512] if FAST else [256, 512, 1024, 2048, 4096]


def processor_milliseconds(layer, length):
    """The least processor time of a few calls, since other programs only add to it."""
    texts = np.ones((4, length, 64), "float32")
    taken = []
    for _ in range(4):
        start = time.process_time()
        np.array(layer(texts))
        taken.append(1e3 * (time.process_time() - start))
    return min(taken)


times = {
    name: [processor_milliseconds(layer, length) for length in lengths]
    for name, layer in layers.items()
}
pairs = layers["attention"].attention_weights(np.ones((1, 256, 64), "float32"))
assert np.array(pairs).nbytes == 4 * 4 * 256**2  # four heads, four bytes a number

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
memory = {
    "attention weights of a text": 4 * 4 * np.array(lengths, float) ** 2 / 2**20,
    "its keys and values": 2 * 64 * 4 * np.array(lengths, float) / 2**20,
}
colours = {"o-": "#0072B2", "^-.": "#009E73", "s--": "#D55E00"}
for axes, curves, unit in (
    (panels[0], times, "processor time of four texts (ms)"),
    (panels[1], memory, "memory (MiB)"),
):
    styles = colours if len(curves) == 3 else ["o-", "s--"]
    for (name, numbers), style in zip(curves.items(), styles):
        axes.loglog(lengths, numbers, style, color=colours[style], label=name)
    axes.set_xlabel("length (tokens)")
    axes.set_ylabel(unit)
    axes.set_xticks(lengths, lengths)
    axes.minorticks_off()
    axes.legend()
plt.show()
for name, taken in times.items():
    print(f"{name:12}: the last doubling takes {taken[-1] / taken[-2]:.1f} times as long")

# %% [markdown]
# Both axes are logarithmic, so a power of the length is a straight line, and a higher power is
# steeper. Short texts are all overhead. In the last doubling feed-forward and windowed attention
# take about twice as long, full attention clearly more, on its way to four times. (The layer works
# through the queries in blocks and leaves out the keys that no query of a block sees, so it
# computes little more than half of the pairs that the formula counts.) This is why long contexts
# are dear, and why many models have windows.
#
# ## What goes wrong
#
# **No mask.** The commonest mistake, and the one that looks most like success. We build a model
# whose only fault is `causal=False`, and train it on the same text.

# %%
token_ids = keras.Input((None,), dtype="int32")
embedding = keras.layers.ReversibleEmbedding(config.vocabulary_size, 64)
h = gk.layers.PositionalEmbedding(max_sequence_length=64)(embedding(token_ids))
unmasked = gk.layers.CausalMultiHeadAttention(num_heads=2, causal=False)
h = gk.layers.TransformerBlock(attention=unmasked)(h)
h = keras.layers.LayerNormalization()(h)
cheat = gk.CausalLM(keras.Model(token_ids, embedding(h, reverse=True)), tokenizer=letters)
cheat.compile(gk.training.adamw(4e-3, warmup_steps=50), jit_compile=not FAST)
cheat_history = cheat.fit(train, validation_data=validation, epochs=1, verbose=2)

# %% [markdown]
# One layer where the other model has two, and half as many epochs, and its loss is far below, in
# training *and* in validation: it reads the answer in the next place. Only the last token of a
# window has no next place. Look at the loss by position, and at what it writes. There is nothing to
# copy when you write.

# %%
some = list(validation.take(16).as_numpy_iterator())
more_inputs, more_targets = (np.concatenate(part) for part in zip(*some))
losses = {}
for name, used in (("causal", model), ("no mask", cheat)):
    logits = used.predict(more_inputs, verbose=0)
    losses[name] = keras.losses.sparse_categorical_crossentropy(more_targets, logits, True).numpy()
for name, loss in losses.items():
    before, last = loss[:, :-1].mean(), loss[:, -1].mean()
    print(f"{name}: loss {before:.3f} before the last position, {last:.3f} at the last")
gk.plots.loss_by_position(losses)


# %%
def write(model, ids, number, seed=0):
    """Continue `ids`, drawing from the logits of the last position; always the last 40 are read."""
    random, ids = np.random.default_rng(seed), list(ids)
    for _ in range(number):
        logits = model.predict_on_batch(np.array([ids[-40:]]))[0, -1].astype("float64")
        ids.append(random.choice(len(logits), p=softmax(logits / 0.7)))
    return letters.decode(ids)


prompt = held_out[1, :40]
for name, used in (("causal", model), ("no mask", cheat)):
    print(f"--- {name}\n{write(used, prompt, 5 if FAST else 60)}")

# %% [markdown]
# A test that takes two lines finds it, in any model: change a later token, and see whether an
# earlier output changes.

# %%
swapped = held_out[:1].copy()
swapped[0, 50:] = letters.encode("x")[0]
leaks = {}
for name, used in (("causal", model), ("no mask", cheat)):
    change = np.abs(used(held_out[:1]) - used(swapped))[0, :50].max()
    leaks[name] = change > 1e-3
    print(f"{name}: logits before the change differ by up to {change:.4f}")
assert leaks == {"causal": False, "no mask": True}

# %% [markdown]
# **The softmax over the wrong axis.** Everything has the right shape, and the training runs. But
# the *columns* sum to 1, not the rows: some rows sum to nearly 2, others to a fifth.
# And the mask no longer helps: the sum of a column runs over later queries, so the future leaks
# into the past.


# %%
def attend_over_columns(x):
    """Our toy head with the mistake."""
    scores = (x @ w_query) @ (x @ w_key).T / np.sqrt(2)
    weights = softmax(np.where(later, -np.inf, scores), axis=0)
    return weights, weights @ (x @ w_value)


wrong_weights, wrong = attend_over_columns(x)
show(wrong_weights)
print("sums of the rows:", wrong_weights.sum(axis=-1))
leak = np.abs(attend_over_columns(changed)[1] - wrong).max(axis=-1)
print("another last token changes the outputs by", leak)
assert leak[:3].max() > 0.01

# %% [markdown]
# **No scaling.** The layer has no switch for it, but multiplying the query kernel by $\sqrt{d_k}$
# undoes the division exactly. The task is the dictionary of the beginning: sixteen tokens, each a
# key and a number, then a key alone; the model has to say the number that stood with it. One layer
# with one head of width 256 can do that.

# %%
random = np.random.default_rng(0)
examples = 320 if FAST else 9600
given_keys = random.permuted(np.tile(np.arange(16), (examples, 1)), axis=1)
given_numbers = random.integers(16, size=(examples, 16))
place = random.integers(16, size=(examples, 1))
asked = np.take_along_axis(given_keys, place, axis=1)
answers = np.take_along_axis(given_numbers, place, axis=1)
questions = [
    np.concatenate([given_keys, asked], axis=1),
    np.concatenate([given_numbers, np.full_like(asked, 16)], axis=1),  # 16: no number
]
print("keys:   ", questions[0][0], "numbers:", questions[1][0], "answer:", answers[0], sep="\n")


# %%
def dictionary_loss(scaled, width=256):
    """Train one head to look up, with or without the division; return its last mean loss."""
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((17,), dtype="int32"), keras.Input((17,), dtype="int32")]
    embedded = [keras.layers.Embedding(17, width)(part) for part in inputs]
    h = keras.layers.LayerNormalization()(embedded[0] + embedded[1])
    variance_1 = keras.initializers.RandomNormal(stddev=width**-0.5)
    head = gk.layers.CausalMultiHeadAttention(1, use_bias=False, kernel_initializer=variance_1)
    model = keras.Model(inputs, keras.layers.Dense(16)(head(h)[:, -1]))
    if not scaled:
        head.query.kernel.assign(head.query.kernel * np.sqrt(width))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(questions, answers, epochs=1, verbose=0)
    return model.evaluate([part[:640] for part in questions], answers[:640], verbose=0)


for scaled in (True, False):
    name = "divided by sqrt(d_k)" if scaled else "not divided"
    print(f"{name:20}: loss {dictionary_loss(scaled):.4f}, of ln 16 = {np.log(16):.4f} at first")

# %% [markdown]
# With the division the loss is next to 0 after one epoch. Without it each query has chosen one key
# at random before the training began, and little gradient comes through to make it choose another.
#
# **No positions.** Attention compares queries with keys; it never asks where they stand. Without
# positions a text is a bag of words, and the output at the last token cannot tell who bites whom.

# %%
vocabulary = ["dog", "bites", "man", "狗", "咬", "人", "."]
vectors = dict(zip(vocabulary, np.random.default_rng(0).normal(size=(7, 64)).astype("float32")))
plain = gk.layers.CausalMultiHeadAttention(num_heads=4, kernel_initializer="glorot_normal")
positions = gk.layers.SinusoidalPositionalEncoding()
for words in (["dog", "bites", "man"], ["狗", "咬", "人"]):
    both = np.stack([[vectors[word] for word in [*order, "."]] for order in (words, words[::-1])])
    gaps = []
    for texts in (both, positions(both)):
        last = np.array(plain(texts))[:, -1]
        gaps.append(np.abs(last[0] - last[1]).max())
    print(f"{' '.join(words)} . / {' '.join(words[::-1])} . : outputs at the last token differ by")
    print(f"    {gaps[0]:.7f} without positions, {gaps[1]:.3f} with them")
    assert gaps[0] < 1e-5 < gaps[1]

# %% [markdown]
# To be exact, this is one layer. The causal mask lets out a little about the order, since earlier
# tokens see fewer others, and a second layer can make something of that. Chapter 3 measures how
# much.
#
# ## Exercises
#
# 1. *Easy.* GPT-3's shape has 96 layers of 96 heads, a width of 12,288 and a context of 2,048
#    tokens. If no layer had a window (half of GPT-3's have), how many attention weights would it
#    compute for one full context, and how much memory would they take all at once, at 2 bytes each?
#    From which length on would pairs of tokens cost more operations than the products with weights?
# 2. *Easy.* Someone applies the mask *after* the softmax: the weights above the diagonal are set to
#    0. What do the rows sum to? Does the future still leak? Change the last token of the toy.
# 3. *Medium.* In a stack of layers with a window of $w$ tokens, how far back does the output of
#    layer $n$ see? Derive it, then check it with a gradient, as the chapter did for the mask.
# 4. *Open.* Train the poet again, and silence its heads one at a time with
#    `gk.interpretation.head_ablation`. Is the head that looks at the marks the one it needs most?
#    What gets worse without it: the marks, or the characters?
#
# Solutions: `solutions/04_attention.ipynb`.
#
# ## Further reading
#
# - A. Vaswani et al., *Attention Is All You Need*, 2017, section 3.2: scaled dot-product attention
#   and many heads; its footnote 4 is our argument about the variance; section 4 and table 1: cost.
# - D. Bahdanau, K. Cho and Y. Bengio, *Neural Machine Translation by Jointly Learning to Align and
#   Translate*, 2015, section 3: attention before the Transformer, with maps of it in section 5.
# - J. Ainslie et al., *GQA*, 2023, section 2: grouped queries.
# - R. Child et al., *Generating Long Sequences with Sparse Transformers*, 2019, section 4:
#   attention in patterns cheaper than all pairs.
# - S. Jain and B. Wallace, *Attention is not Explanation*, 2019: what a map of attention does not
#   prove.
