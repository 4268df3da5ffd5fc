# %% [markdown]
# # 3. Embeddings and positions
#
# Time on 2 CPU cores: about 3 minutes, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapter 0.

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
from collections import Counter

import keras
import matplotlib.pyplot as plt
import numpy as np

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(5)
keras.utils.set_random_seed(0)
np.set_printoptions(precision=3, suppress=True)
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# - Turn ids into vectors, and say why that is a product with a matrix.
# - Compute the four ways of telling a model where a token stands: learned, sinusoidal and rotary
#   positions, and none at all; and check each against the layers of `gpt_keras`.
# - Say what each of them does on texts longer than those it was trained on, having measured it.
# - Find neighbours of words and of Chinese characters, and put word vectors into a model.
#
# ## The idea
#
# A network computes with numbers, and an id is a number only by accident: token 7 is not more than
# token 6. So each token gets a *vector*, a row of a table that is trained like any other weight.
# The table is the *embedding*. Looking up a row is the same as multiplying by a *one-hot* vector,
# one that is 1 at the token's id and 0 elsewhere: the picture shows it for the four tokens of
# 山高月小, "the hills are high, the moon is small".

# %%
characters = ["高", "山", "小", "月"]
ids = np.array([characters.index(character) for character in "山高月小"])
table = np.random.default_rng(0).normal(size=(4, 6))
one_hot = np.eye(4)[ids]
names = ["山", "高", "月", "小"] if chinese else ["shan", "gao", "yue", "xiao"]
rows = characters if chinese else ["gao", "shan", "xiao", "yue"]
figure, panels = plt.subplots(1, 3, figsize=(9, 2.5), layout="constrained")
for axes, matrix, title, labels in (
    (panels[0], one_hot, "one-hot vectors", names),
    (panels[1], table, "times the table of embeddings", rows),
    (panels[2], one_hot @ table, "are the vectors of the tokens", names),
):
    axes.imshow(matrix, cmap="Greys", vmin=-2 if matrix is not one_hot else 0)
    axes.set_title(title, fontsize="medium")
    axes.set_yticks(range(4), labels)
    axes.set_xlabel("id" if matrix is one_hot else "component")
plt.show()

# %% [markdown]
# The same token gets the same vector wherever it stands, and attention, in chapter 4, does not ask
# where a token stands. `dog bites man` and `man bites dog` would be the same. So the *position* has
# to be put into the vectors, too.
#
# ## By hand
#
# **Tokens.** The product and the look-up, in numbers.

# %%
print("ids:", ids)
print("one-hot:", one_hot, sep="\n")
print("product with the table:", one_hot @ table, sep="\n")
assert (one_hot @ table == table[ids]).all()

# %% [markdown]
# **Sinusoidal positions.** No training: the position is written in sines and cosines, two columns
# (a *pair*) for each of several frequencies, as the hands of a clock write the time. The first pair
# turns by 1 radian for each position, the next ones more slowly.

# %%
width, length = 6, 5
frequencies = 10000.0 ** (-np.arange(0, width, 2) / width)
angles = np.arange(length)[:, None] * frequencies
sinusoids = np.zeros((length, width))
sinusoids[:, 0::2] = np.sin(angles)
sinusoids[:, 1::2] = np.cos(angles)
print("frequencies (radians per position):", frequencies)
print("position    sin     cos     sin     cos     sin     cos")
for position, row in enumerate(sinusoids):
    print(f"{position:8}" + "".join(f"{number:8.4f}" for number in row))

# %% [markdown]
# Why pairs? To go $k$ positions further turns each pair by a fixed angle, wherever it starts. That
# is a product with a rotation matrix, which a network can learn: "three tokens back" is the same
# matrix everywhere.


# %%
def rotation(angle):
    """The matrix that takes (sin a, cos a) to (sin (a + angle), cos (a + angle))."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


shift = 2
print("two positions further, first pair:", rotation(shift * frequencies[0]), sep="\n")
for pair, frequency in enumerate(frequencies):
    columns = sinusoids[:, 2 * pair : 2 * pair + 2]
    moved = columns[:-shift] @ rotation(shift * frequency).T
    np.testing.assert_allclose(moved, columns[shift:], atol=1e-12)
print("dot products of positions:", sinusoids @ sinusoids.T, sep="\n")

# %% [markdown]
# The dot products are equal along each diagonal: they depend on the distance alone.
#
# **Rotary positions** make that their principle. Nothing is added to the tokens; instead the
# queries and keys of attention (chapter 4) are turned, pair by pair, by the angle of their
# position. All you need of these here: attention makes two vectors of each token, a *query* for
# when it looks at others and a *key* for when it is looked at, and their dot product says how much
# the one looks at the other. It does so several times side by side, in *heads*, and $d_k$ is the
# width of one head's queries and keys. Here one query and one key stand at several places.
# Component $i$ is paired with component $i + d_k/2$, and not with its neighbour as in the
# sinusoids. (The first paper pairs neighbours here as well. It is the same but for the order of the
# columns.)


# %%
def turn(vector, position, base=10000.0):
    """Turn each pair of components by its frequency times the position."""
    half = len(vector) // 2
    angle = position * base ** (-np.arange(half) / half)
    first, second = vector[:half], vector[half:]
    turned = first * np.cos(angle) - second * np.sin(angle)
    return np.concatenate([turned, second * np.cos(angle) + first * np.sin(angle)])


query, key = np.random.default_rng(1).normal(size=(2, 8))
for at_query, at_key in ((3, 1), (10, 8), (502, 500), (3, 2), (10, 9), (3, 3)):
    product = turn(query, at_query) @ turn(key, at_key)
    print(f"query at {at_query:3}, key at {at_key:3}: distance {at_query - at_key}, {product:.6f}")
np.testing.assert_allclose(
    turn(query, 3) @ turn(key, 1), turn(query, 502) @ turn(key, 500), atol=1e-9
)

# %% [markdown]
# ## The formula
#
# Let $E$ be the table of $V$ rows (the vocabulary) and $d$ columns, and $x_t$ the id at position
# $t$. With *learned* positions, a second table $P$ with a row for each position, the first layer
# gets
#
# $$h_t = E_{x_t} + P_t$$
#
# *Sinusoidal* positions take a fixed $P$, and longer vectors of tokens, $h_t = \sqrt{d}\, E_{x_t} +
# P_t$. For $i = 0, \dots, d/2 - 1$:
#
# $$P_{t, 2i} = \sin(t\, \omega_i) \qquad P_{t, 2i + 1} = \cos(t\, \omega_i) \qquad
#   \omega_i = 10000^{-2i/d}$$
#
# *Rotary* positions add nothing, and let $R_t$ turn pair $i$ of a query or key of head width $d_k$
# by $t\, \omega_i$, with $\omega_i = 10000^{-2i/d_k}$. Rotations add up, so that a score depends
# only on the distance:
#
# $$(R_m q)^\top (R_n k) = q^\top R_{n - m}\, k$$
#
# At the other end of the model, most GPTs use the table once more: the logit of token $v$ is the
# dot product of the last hidden state with $E_v$. Such embeddings are *tied*.
#
# ## The class
#
# `keras.layers.ReversibleEmbedding` is the table, in both directions. The three layers of
# `gpt_keras` are called with vectors, and give vectors of the same shape.

# %%
embedding = keras.layers.ReversibleEmbedding(4, 6)
embedding.build()
embedding.embeddings.assign(table)
np.testing.assert_allclose(embedding(ids), one_hot @ table, rtol=1e-6)
np.testing.assert_allclose(embedding(table[:1], reverse=True), table[:1] @ table.T, rtol=1e-5)

zeros = np.zeros((1, length, width), "float32")
made = gk.layers.SinusoidalPositionalEncoding()(zeros)[0]
np.testing.assert_allclose(made, sinusoids, atol=1e-6)

learned = gk.layers.PositionalEmbedding(max_sequence_length=8)
np.testing.assert_array_equal(learned(zeros)[0], learned.embeddings[:length])

rows = np.random.default_rng(2).normal(size=(length, 8)).astype("float32")
made = gk.layers.RotaryEmbedding()(rows[None, None])[0, 0]  # (batch, heads, length, head_dim)
by_hand = np.stack([turn(row, position) for position, row in enumerate(rows)])
np.testing.assert_allclose(made, by_hand, atol=1e-5)
print("look-up, logits, sinusoids, learned positions, rotations: as by hand")

# %% [markdown]
# In a model one word chooses: `GPTConfig(position_embedding=...)`. Only learned positions have
# weights.

# %%
shape = dict(vocabulary_size=72, num_layers=2, num_heads=2, hidden_dim=64)
kinds = ["learned", "sinusoidal", "rotary", "none"]
for kind in kinds:
    config = gk.GPTConfig(max_sequence_length=128, position_embedding=kind, **shape)
    print(f"{kind:10} {config.num_parameters:7,} parameters")

# %% [markdown]
# ## On real text
#
# The same small GPT four times, with the same data and the same seed, on the plays,
# in windows of 64 characters. All could take 128.

# %%
plays = gk.datasets.corpora.load("shakespeare")
letters = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
train, _ = gk.datasets.language_modeling(plays, letters, sequence_length=64, batch_size=32, seed=0)
_, long_windows = gk.datasets.language_modeling(
    plays, letters, sequence_length=128, batch_size=32, seed=0
)
some = list(long_windows.take(2 if FAST else 12).as_numpy_iterator())
inputs, targets = (np.concatenate(part) for part in zip(*some))
shape["vocabulary_size"] = letters.vocabulary_size


def trained(kind, num_layers=1 if FAST else 2):
    """Train a small GPT with one kind of positions; return it and its losses on long windows."""
    keras.utils.set_random_seed(0)
    config = gk.GPTConfig(max_sequence_length=128, position_embedding=kind, **shape)
    model = gk.GPTCausalLM(config.replace(num_layers=num_layers), tokenizer=letters)
    model.compile(gk.training.adamw(4e-3, warmup_steps=30, total_steps=700), jit_compile=not FAST)
    model.fit(train.repeat(), steps_per_epoch=700, epochs=1, verbose=0)
    logits = model.predict(inputs, verbose=0)
    return model, keras.losses.sparse_categorical_crossentropy(targets, logits, True).numpy()


# %%
models, losses = {}, {}
for kind in kinds:
    models[kind], losses[kind] = trained(kind)
_, one_layer = trained("none", num_layers=1)

# %%
print("nats per token at positions   0 to 63   64 to 127")
for name, loss in {**losses, "none, one layer": one_layer}.items():
    print(f"{name:24}{loss[:, :64].mean():13.3f}{loss[:, 64:].mean():12.3f}")

# %% [markdown]
# In the first half, which all of them have been trained on, the models with positions are ahead of
# those without. That the one with two layers and no positions learns anything about order is due to
# the *causal mask* (chapter 4), by which a token sees only those before it: an early token sees few
# others, a late one many. In the second half stand positions that none of them has met. Compare how
# much each loses there. (Do not trust rotary positions with more than twice the length because of
# this: further out they fail, too, and exercise 3 is about a remedy.)
#
# **Word vectors.** The rows of a trained table say something about the tokens, since tokens that
# are used alike are best given like vectors. One can get such vectors without any network: count
# which words stand near which others, take the logarithm of how many times more often they do so
# than by chance (0 where it is less often), and compress that table by a *singular value
# decomposition* (SVD) to a few columns. GloVe and word2vec, made from billions of words, are
# relatives of this.


# %%
def count_vectors(texts, number, width, near=4):
    """Vectors for the `number` commonest pieces of `texts`, from which pieces stand near them."""
    words = [word for word, _ in Counter(w for text in texts for w in text).most_common(number)]
    index = {word: i for i, word in enumerate(words)}
    counts = np.zeros((number, number))
    for text in texts:
        ids = np.array([index.get(word, -1) for word in text])
        for step in range(1, near + 1):
            pairs = np.stack([ids[:-step], ids[step:]])
            a, b = pairs[:, (pairs >= 0).all(axis=0)]
            np.add.at(counts, (a, b), 1)
            np.add.at(counts, (b, a), 1)
    expected = counts.sum(axis=0) * counts.sum(axis=1, keepdims=True) / counts.sum()
    surprising = np.log(np.maximum(counts, 1e-9) / np.maximum(expected, 1e-9))
    left, sizes, _ = np.linalg.svd(np.maximum(surprising, 0))
    return words, left[:, :width] * np.sqrt(sizes[:width])


# %%
spaced = ["".join(c if c.isalpha() or c == "'" else " " for c in play.lower()) for play in plays]
words, vectors = count_vectors([text.split() for text in spaced], 1000, 32)
poems = gk.datasets.corpora.load("tang_poems")
hanzi, hanzi_vectors = count_vectors([[c for c in p if c.isalpha()] for p in poems], 500, 32)
for names, rows, asked in ((words, vectors, ["king", "she", "father", "heart"]),
                           (hanzi, hanzi_vectors, ["山", "月", "酒", "春"])):  # fmt: skip
    for word in asked:
        near, cosines = gk.interpretation.nearest_tokens(rows, rows[names.index(word)], k=6)
        print(f"{word}: " + ", ".join(f"{names[i]} {c:.2f}" for i, c in zip(near[1:], cosines[1:])))

# %% [markdown]
# A million characters of Shakespeare, or 27,000 of Chinese, are very little for this, and still the
# neighbours make sense, most of them. `gk.convert.word_vectors` reads a file of such vectors, a
# word and its numbers on each line, as GloVe has it, and puts them into the rows of the tokens that
# are words. We write such a file from ours.

# %%
with open("vectors.txt", "w", encoding="utf-8") as file:
    for word, vector in zip(words, vectors):
        file.write(f"{word} {' '.join(f'{number:.5f}' for number in vector)}\n")
tokenizer = gk.tokenizers.BytePairTokenizer.train(plays, vocabulary_size=1024)
initial = np.random.default_rng(0).normal(scale=0.02, size=(1024, 32))
put_in = gk.convert.word_vectors("vectors.txt", tokenizer, initial, corpus=plays)
print(f"{put_in.token_coverage:.0%} of the tokens got a vector")
print(f"{put_in.corpus_coverage:.0%} of the running tokens of the plays are such tokens")
(father,) = tokenizer.encode(" father")  # one token, so it has a row
np.testing.assert_allclose(put_in.matrix[father], vectors[words.index("father")], atol=1e-5)

# %% [markdown]
# ## Look
#
# **Sinusoids,** for 64 positions and a width of 32: each pair of columns is slower than the pair
# before it. Beside it, the dot products of all positions with each other: bands along the diagonal,
# since only the distance counts. And below, the same for rotary positions: the product of a query
# and a key that are all ones, by distance, in heads of three widths.

# %%
encoding = np.array(gk.layers.SinusoidalPositionalEncoding()(np.zeros((1, 64, 32))))[0]
figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for axes, matrix, label, xlabel in (
    (panels[0], encoding, "value", "component"),
    (panels[1], encoding @ encoding.T, "dot product", "position"),
):
    image = axes.imshow(matrix, cmap="Greys", aspect="auto")
    figure.colorbar(image, ax=axes, label=label)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("position")
plt.show()

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for size, style, colour in ((8, "-", "#0072B2"), (32, "--", "#D55E00"), (128, ":", "#009E73")):
    ones = np.ones((1, 1, 200, size), "float32")
    turned = np.array(gk.layers.RotaryEmbedding()(ones))[0, 0]
    axes.plot(turned @ turned[0] / size, style, color=colour, label=f"head width {size}")
axes.set_xlabel("distance (tokens)")
axes.set_ylabel("product / head width")
axes.legend()
plt.show()

# %% [markdown]
# **Beyond the length of training.** The loss of the four models by position. Up to 64 they have
# been trained.

# %%
figure = gk.plots.loss_by_position(losses)
figure.axes[0].axvline(64, color="black", linewidth=0.8)
figure

# %% [markdown]
# **Letters.** The table of the model with rotary positions, in the two directions in which its rows
# differ most. Nobody told it which letters are vowels, which are capitals.

# %%
table = gk.interpretation.token_embeddings(models["rotary"])
shown = list("aeioubcdfghlmnprstwyABCDEHIMOST .,\n")
coordinates, shares = gk.interpretation.principal_components(table[letters.encode("".join(shown))])
gk.plots.embeddings(coordinates, shown, shares)

# %% [markdown]
# **Characters of the poems,** from the counts.

# %%
if chinese:
    shown = list("山水江海雲雨風月日天春秋夜花草木酒人君客馬")
    shown = [character for character in shown if character in hanzi]
    chosen = hanzi_vectors[[hanzi.index(character) for character in shown]]
    chosen = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    coordinates, shares = gk.interpretation.principal_components(chosen)
    display(gk.plots.embeddings(coordinates, shown, shares))  # noqa: F821
else:
    print("no font here has Chinese glyphs; gk.plots.chinese_font() says how to get one")

# %% [markdown]
# ## What goes wrong
#
# **A sine and a cosine of different frequency.** A widespread formula has $10000^{-j/d}$ in column
# $j$, even or odd. Then no two columns are a pair, no shift is a rotation, and the dot product of
# two positions depends on where they stand.

# %%
exponents = np.arange(32) / 32
columns = np.arange(64)[:, None] * 10000.0**-exponents
wrong = np.where(np.arange(32) % 2, np.cos(columns), np.sin(columns))
for name, matrix in (("right", encoding), ("wrong", wrong)):
    products = np.diag(matrix @ matrix.T, 3)
    print(f"{name}: products at distance 3 are from {products.min():.2f} to {products.max():.2f}")
spread = [np.ptp(np.diag(matrix @ matrix.T, 3)) for matrix in (encoding, wrong)]
assert spread[0] < 1e-3 < 0.1 < spread[1]

# %% [markdown]
# **Positions that drown the tokens.** Sinusoids have a length of $\sqrt{d/2}$ each. A fresh table
# of GPT-2's deviation of 0.02 has rows that are far shorter, so at first a model would see
# positions and hardly any tokens. The factor $\sqrt d$ in the formula helps, and is easily
# forgotten. (With rows of deviation $1/\sqrt d$ it would put the tokens above the sinusoids; with
# those of GPT-2 they stay below.) Here is the model with sinusoids once more, from layers, without
# the factor.

# %%
fresh = keras.initializers.RandomNormal(stddev=0.02, seed=0)((72, 64))
lengths = {
    "a token": np.linalg.norm(fresh, axis=1).mean(),
    "a token times sqrt(d)": 8 * np.linalg.norm(fresh, axis=1).mean(),
    "a learned position": 0.01 * 8,
    "a sinusoid": np.sqrt(64 / 2),
}
for name, value in lengths.items():
    print(f"length of {name:22}{value:6.2f}")

# %%
keras.utils.set_random_seed(0)
token_ids = keras.Input((None,), dtype="int32")
embedding = keras.layers.ReversibleEmbedding(
    letters.vocabulary_size, 64, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02)
)
h = gk.layers.SinusoidalPositionalEncoding()(embedding(token_ids))
for _ in range(2):
    smaller = keras.initializers.RandomNormal(stddev=0.02 / np.sqrt(2 * 2))  # as in `gk.GPT`
    h = gk.layers.TransformerBlock(num_heads=2, residual_initializer=smaller)(h)
h = keras.layers.LayerNormalization(epsilon=1e-5)(h)
drowned = gk.CausalLM(keras.Model(token_ids, embedding(h, reverse=True)))
drowned.compile(gk.training.adamw(4e-3, warmup_steps=30, total_steps=700), jit_compile=not FAST)
drowned.fit(train.repeat(), steps_per_epoch=700, epochs=1, verbose=0)
loss = drowned.evaluate(inputs[:, :64], targets[:, :64], verbose=0, return_dict=True)["loss"]
print(
    f"with the factor {losses['sinusoidal'][:, :64].mean():.3f} nats per token, without {loss:.3f}"
)

# %% [markdown]
# **Rotating only the queries.** Then the score depends on the position of the query, not on the
# distance: keys and queries have to be turned both, values never.

# %%
for at_query, at_key in ((3, 1), (10, 8), (502, 500)):
    only = turn(query, at_query) @ key
    both = turn(query, at_query) @ turn(key, at_key)
    print(
        f"query at {at_query:3}, key at {at_key:3}: both turned {both:.3f}, query only {only:.3f}"
    )
assert abs(turn(query, 3) @ key - turn(query, 10) @ key) > 1e-3

# %% [markdown]
# **More positions than there are.** A learned table ends. The model says so; a plain look-up on
# some devices returns zeros without a word.

# %%
try:
    models["learned"](np.zeros((1, 129), "int32"))
except ValueError as error:
    print(error)

# %% [markdown]
# ## Exercises
#
# 1. *Easy.* How many of GPT-2's parameters are in its table of tokens, how many in its table of
#    positions? What would it cost to untie the embeddings? (`gk.presets.get("gpt2_small")`)
# 2. *Easy.* With a width of 64, after how many positions has each pair of a sinusoid turned once?
#    Which pairs have turned once within 1,024 positions?
# 3. *Medium.* Rotary models that take long texts have a larger base than 10,000. Draw the product
#    of turned ones by distance, up to 4,000, for bases of 100, 10,000 and 1,000,000. What does the
#    base change?
# 4. *Open.* Put the word vectors of this chapter into a small model of byte-pair tokens. Does it
#    learn faster than from random rows? Does their length matter?
#
# Solutions: `solutions/03_embeddings_and_positions.ipynb`.
#
# ## Further reading
#
# - A. Vaswani et al., *Attention Is All You Need*, 2017, sections 3.4 and 3.5: embeddings, tied and
#   multiplied by the root of the width; sinusoids.
# - O. Press and L. Wolf, *Using the Output Embedding to Improve Language Models*, 2017: tied
#   embeddings.
# - J. Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021, section 3.
# - A. Haviv et al., *Transformer Language Models without Positional Encodings Still Learn
#   Positional Information*, 2022.
# - J. Pennington, R. Socher and C. Manning, *GloVe: Global Vectors for Word Representation*, 2014,
#   sections 2 and 3.
# - O. Levy and Y. Goldberg, *Neural Word Embedding as Implicit Matrix Factorization*, 2014: what
#   our counting has to do with word2vec.
