# %% [markdown]
# # 8. GPT-1, GPT-2, GPT-3, GPT-4 and after
#
# Time on 2 CPU cores: about 3 minutes, or 1 minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapter 5, where a block and a GPT are
# built.

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
from IPython.display import Markdown

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)
np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## What you will be able to do
#
# - Say what changed from one GPT to the next, and what did not.
# - Build each of them as a tiny variant of its preset, and train all of them on the same tokens.
# - Compute by hand what a model of any of these families weighs, and what its cache weighs.
# - Measure a scaling law of your own.
# - Tell what has been published from what is only repeated.
#
# ## The idea
#
# The GPTs differ less than their names suggest. All are the stack of chapter 5: embeddings, blocks
# of attention and feed-forward layer, logits. What changed in the parts is short enough for a
# table.
#
# | | norms | positions | attention | feed-forward | first weights |
# |---|---|---|---|---|---|
# | GPT-1, 2018 | after the sum | learned | dense | GELU | deviation 0.02 |
# | GPT-2, 2019 | before, and one at the end | learned | dense | GELU | last matrices smaller |
# | GPT-3, 2020 | as GPT-2 | learned | dense and banded in turn | GELU | as GPT-2 |
# | GPT-4, 2023 | unpublished | unpublished | unpublished | unpublished | unpublished |
# | open models since | before, RMSNorm | rotary | grouped queries | SwiGLU, experts | varies |
#
# Rotary positions are those of chapter 3; the other words of the last row stand under *The
# formula*.
#
# What changed far more is the size. The picture shows the numbers of parameters that follow from
# the published shapes, and where none was published it shows none.

# %%
sizes = [
    (2018.45, "gpt1", "GPT-1"),
    (2019.1, "gpt2_xl", "GPT-2"),
    (2020.4, "gpt3_175b", "GPT-3"),
    (2023.55, "llama2_7b", "Llama 2 7B"),
    (2023.95, "mixtral_8x7b", "Mixtral 8x7B"),
    (2024.3, "llama3_8b", "Llama 3 8B"),
    (2024.85, "smollm2_135m", "SmolLM2 135M"),
]
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
for year, name, label in sizes:
    is_gpt = label.startswith("GPT")
    style = {**gk.plots.STYLES[0 if is_gpt else 1], "linestyle": "none", "markersize": 9}
    axes.plot(year, gk.presets.get(name).num_parameters, **style)
    below = name == "llama2_7b"  # its neighbour is near
    height = (0.75 if below else 1.25) * gk.presets.get(name).num_parameters
    axes.text(year + 0.08, height, label, va="top" if below else "baseline")
axes.axvspan(2023.12, 2023.28, facecolor="white", edgecolor="black", hatch="///")
axes.text(2023.05, 2.2e8, "GPT-4:\nnot published", ha="right")
axes.set_yscale("log")
axes.set_xlim(2018, 2026.5)
axes.set_ylim(7e7, 7e11)
axes.set_xlabel("year")
axes.set_ylabel("parameters")
plt.show()

# %% [markdown]
# ## By hand
#
# **Parameters.** The modern block has no biases, three matrices in its feed-forward layer, and
# fewer heads for keys and values than for queries. For Llama 3 8B, from the table of its paper, the
# vocabulary from the released model:

# %%
V, d, L, m = 128_256, 4096, 32, 14_336  # m: the width inside the feed-forward layer
query_heads, key_heads, head_dim = 32, 8, 128
attention = d * (2 * query_heads * head_dim + 2 * key_heads * head_dim)
feed_forward = 3 * d * m
norms = (2 * L + 1) * d  # an RMSNorm has a gain and no offset
hand_count = 2 * V * d + L * (attention + feed_forward) + norms
print(f"attention {attention:,} and feed-forward {feed_forward:,} in each block")
print(f"input and output embeddings {2 * V * d:,}, norms {norms:,}")
print(f"together {hand_count:,}")

# %% [markdown]
# **The cache.** To write the next token, a model needs the keys and values of all tokens before it.
# They are kept, which is the *KV cache*: two numbers for each layer, head, component of a head and
# token. With *multi-head* attention each query head has a head for keys and values of its own; with
# *grouped queries*, four query heads share one, say, and the cache is a quarter.


# %%
def cache_bytes(layers, heads, head_dim, length, bytes_each=2):
    """Keys and values of one text, in 16-bit numbers."""
    return 2 * layers * heads * head_dim * length * bytes_each


for name, heads in (("multi-head", 32), ("grouped queries", 8), ("one for all", 1)):
    gib = cache_bytes(32, heads, 128, 8192) / 2**30
    print(f"{name:16} {heads:2} heads for keys: {gib:.3f} GiB for a text of 8,192 tokens")

# %% [markdown]
# **A banded mask.** In GPT-3 every other layer is *locally banded*: a token sees itself and some
# tokens before it, the *window*. Six tokens, a window of 3: row $i$ has a 1 where token $i$ sees
# token $j$.

# %%
window, length = 3, 6
i, j = np.arange(length)[:, None], np.arange(length)[None, :]
dense_mask = j <= i
banded_mask = (j <= i) & (i - j < window)
print(banded_mask.astype(int))

x = np.random.default_rng(0).normal(size=(length, 4))
w_query, w_key = np.random.default_rng(1).normal(size=(2, 4, 4))
scores = (x @ w_query) @ (x @ w_key).T / np.sqrt(4)
weights = np.exp(np.where(banded_mask, scores, -np.inf))
hand_weights = weights / weights.sum(axis=-1, keepdims=True)
print(hand_weights)

# %% [markdown]
# With two such layers one above the other, a token still learns of the fourth token back: through
# the one in between, which has seen it. What the band saves is work that grows with the square of
# the length.
#
# ## The formula
#
# *RMSNorm* divides by the root of the mean square, and subtracts nothing. *SwiGLU* lets one
# projection open and close another, where $\operatorname{silu}(a) = a / (1 + e^{-a})$:
#
# $$\operatorname{RMSNorm}(x) = \gamma \odot \frac{x}{\sqrt{\frac{1}{d} \sum_i x_i^2 + \epsilon}}
#   \qquad \operatorname{SwiGLU}(x) = \bigl(\operatorname{silu}(x W_g) \odot x W_u\bigr) W_d$$
#
# *Attention* with $H$ query heads and $G$ heads for keys and values: query head $h$ uses the keys
# and values of group $g = \lfloor h G / H \rfloor$, and token $i$ sees the set $S_i$ of tokens,
# with a window $w$ or all of them:
#
# $$o_{h,i} = \sum_{j \in S_i} \operatorname{softmax}_{j \in S_i}\!
#   \left( \frac{q_{h,i} \cdot k_{g,j}}{\sqrt{d_k}} \right) v_{g,j} \qquad
#   S_i = \{ j : i - w < j \le i \}$$
#
# *Query-key norms* put an RMSNorm on $q$ and $k$ first. A *mixture of experts* has $E$ feed-forward
# layers, and a router with weights $W_r$ that picks the $k$ most probable ones for each token, a
# set $K$:
#
# $$\operatorname{MoE}(x) = \sum_{e \in K} \frac{p_e}{\sum_{f \in K} p_f} \operatorname{FF}_e(x)
#   \qquad p = \operatorname{softmax}(x W_r)$$
#
# A *scaling law* says how the loss falls as $N$, the number of parameters, grows, with constants
# that are fitted to measurements:
#
# $$L(N) = L_\infty + A\, N^{-\alpha}$$
#
# ## The class
#
# All of this is one class, `gk.GPTConfig`, with one model that reads it. The numbers that we got by
# hand are its own:

# %%
llama3, llama2 = gk.presets.get("llama3_8b"), gk.presets.get("llama2_7b")
assert llama3.num_parameters == hand_count
assert llama3.kv_cache_bytes(1, 8192, "bfloat16") == cache_bytes(32, 8, 128, 8192)
assert llama2.kv_cache_bytes(1, 8192, "bfloat16") == cache_bytes(32, 32, 128, 8192)
print(f"Llama 3 8B: {llama3.num_parameters:,} parameters")

layer = gk.layers.CausalMultiHeadAttention(1, window=window)
layer.build((None, length, 4))
layer.query.kernel.assign(w_query)
layer.key.kernel.assign(w_key)
computed = np.array(layer.attention_weights(x[None].astype("float32")))[0, 0]
print(f"banded attention: largest difference {np.abs(computed - hand_weights).max():.1e}")
np.testing.assert_allclose(computed, hand_weights, atol=1e-5)

# %% [markdown]
# The presets are the shapes of the real models. The last column is counted from the shape, as we
# did it by hand. For `gpt4_class` and `gpt4_class_moe` read the note below the table.

# %%
Markdown(gk.presets.table())

# %%
print(gk.presets.gpt4.__doc__)

# %% [markdown]
# ## On real text
#
# Each generation as a tiny model: `replace` keeps what makes the preset what it is, and changes the
# sizes. Two blocks of width 64 for all, the same characters of Shakespeare in the same order, the
# same optimizer. (Not as it was: the optimizer's settings are GPT-3's for all, the tokens are
# characters, and dropout, 0.1 in GPT-1 and GPT-2, is off.)

# %%
plays = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
train, held_out = gk.datasets.language_modeling(plays, tokenizer, sequence_length=64, batch_size=16)
held_out = held_out.take(8 if FAST else 40)
STEPS = 20 if FAST else 150
small = dict(max_sequence_length=64, num_layers=2, num_heads=4, hidden_dim=64, dropout=0.0)
small["vocabulary_size"] = tokenizer.vocabulary_size
preset = gk.presets.get
variants = {  # `nano` is this package's own small modern model
    "GPT-1": preset("gpt1").replace(**small),
    "GPT-2": preset("gpt2_small").replace(**small),
    "GPT-3": preset("gpt3_small").replace(**small, attention_windows=(None, 16)),
    "GPT-4 class": preset("gpt4_class_moe").replace(
        **small, num_key_value_heads=2, intermediate_dim=176, num_experts=4
    ),
    "nano": preset("nano").replace(**small, intermediate_dim=176),
}
for name, config in variants.items():
    cache = config.kv_cache_bytes(1, 64)
    print(f"{name:12}{config.num_parameters:9,} parameters, cache of 64 tokens {cache:6,} bytes")


# %%
def fit(backbone, data=train, steps=STEPS):
    """Train for so many steps; return the model, and the mean losses of each tenth."""
    model = gk.CausalLM(backbone, tokenizer=tokenizer)
    optimizer = gk.training.adamw(3e-3, warmup_steps=steps // 5, total_steps=steps)
    model.compile(optimizer, jit_compile=False)  # too short a training for XLA to pay
    history = model.fit(data.repeat(), steps_per_epoch=steps // 10, epochs=10, verbose=0)
    return model, history.history["loss"]


def train_variant(config, **arguments):
    """The same initial random numbers, as far as the shapes agree; loss on held-out text."""
    keras.utils.set_random_seed(0)
    model, losses = fit(gk.GPT(config, **arguments))
    return losses, model.evaluate(held_out, verbose=0, return_dict=True)["loss"], model


# %%
results = {name: train_variant(config) for name, config in variants.items()}
for name, (_, loss, _) in results.items():
    print(f"{name:12} {loss:.3f} nats per token on held-out text")

# %% [markdown]
# Two warnings before you read a winner from five numbers. The variant with experts has more
# parameters than the others. And at this size, with so few steps, the differences are those of the
# first minutes of a training: what a part is worth in a model a million times as large is another
# question, which only a large experiment can answer.
#
# **Chinese.** The same comparison of the oldest and the newest on the Tang poems, where the
# vocabulary is 36 times as large and the text far shorter.

# %%
poems = gk.datasets.corpora.load("tang_poems")
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
poem_train, poem_held_out = gk.datasets.language_modeling(
    poems, hanzi, sequence_length=32, batch_size=16
)
print(f"ln V = {np.log(hanzi.vocabulary_size):.3f}")
for name in ("GPT-1", "nano"):
    keras.utils.set_random_seed(0)
    config = variants[name].replace(vocabulary_size=hanzi.vocabulary_size)
    model = gk.CausalLM(gk.GPT(config))
    model.compile(gk.training.adamw(3e-3, warmup_steps=10), jit_compile=False)
    model.fit(poem_train.repeat(), steps_per_epoch=10 if FAST else 60, verbose=0)
    loss = model.evaluate(poem_held_out, verbose=0, return_dict=True)["loss"]
    print(f"{name:12} {loss:.3f} nats per character on held-out poems")

# %% [markdown]
# **A scaling law.** The GPT-2 variant in five sizes, each trained on the same tokens, and a power
# law fitted to the losses. Parameters are counted without embeddings, as in Kaplan et al. 2020,
# whose law had no floor yet.

# %%
shapes = [(1, 16), (1, 32), (2, 32), (2, 64), (3, 96)][2 if FAST else 0 :]
counted, law_losses = [], []
for num_layers, width in shapes:
    config = variants["GPT-2"].replace(num_layers=num_layers, hidden_dim=width)
    embeddings = (config.vocabulary_size + config.max_sequence_length) * width
    counted.append(config.num_parameters - embeddings)
    # The fourth shape is the GPT-2 variant from above, with the same seed.
    known = (num_layers, width) == (2, 64)
    law_losses.append((results["GPT-2"] if known else train_variant(config))[1])
    print(
        f"{num_layers} blocks of width {width}: {counted[-1]:8,} parameters, {law_losses[-1]:.3f}"
    )
law = gk.evaluation.fit_power_law(counted, law_losses)

# %% [markdown]
# `scripts/scaling_law.py` does the like with eight sizes on fifteen times the tokens, with a
# learning rate for each width, which takes a quarter of an hour. These are the sizes and the losses
# on a held-out play that it printed. A law is worth what it foretells: fit it to the six smaller
# models, and ask it for the two larger ones. Then to seven, and to all.

# %%
eight_sizes = [12_768, 25_472, 56_640, 150_080, 335_712, 793_344, 1_546_720, 3_131_648]
eight_losses = [2.0711, 2.0547, 1.9550, 1.9173, 1.8452, 1.7912, 1.7750, 1.7396]
of_six = gk.evaluation.fit_power_law(eight_sizes[:6], eight_losses[:6])
for number, loss in zip(eight_sizes[6:], eight_losses[6:]):
    print(f"{number:9,} parameters: foretold {of_six(number):.3f}, measured {loss:.3f}")
for number in (6, 7, 8):
    law_of = gk.evaluation.fit_power_law(eight_sizes[:number], eight_losses[:number])
    print(f"{number} sizes: {law_of.floor:.2f} + {law_of.scale:.2f} * N^-{law_of.exponent:.3f}")
of_eight = law_of
off = np.abs(of_eight(np.array(eight_sizes)) - eight_losses).max()
print(f"the law of eight is off by up to {off:.3f} nats")

# %% [markdown]
# The six promise a little more than the larger models keep. What they cannot tell is the floor: the
# fit says that there is none, with one size more it says 1.1, with two more 1.3, and the exponent
# more than doubles. All three laws go through the same points to within the scatter of single
# trainings. Inside the range that was measured a law is safe; whoever extends it to sizes a hundred
# times as large should know how little the points say about the floor.

# %% [markdown]
# ## Look
#
# **The scaling law,** with what it leaves over below. Look at how near the points lie to the curve,
# then at the floor that was fitted: with a budget of steps this small it is the floor of *this*
# training, not of English. The second picture is that of the eight sizes: a single training may lie
# off the line by as much as the next size brings. (The two cannot be compared number by number, for
# the trainings differ in more than their length.)

# %%
gk.plots.scaling_law(counted, law_losses, law)

# %%
gk.plots.scaling_law(eight_sizes, eight_losses, of_eight)

# %% [markdown]
# **The losses of the generations** while they learnt. (That of the variant with experts holds a
# small term more, which keeps the router from sending all tokens to one of them.)

# %%
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
each = STEPS // 10
for style, (name, (losses, _, _)) in zip(gk.plots.STYLES, results.items()):
    axes.plot(each * np.arange(10) + each / 2, losses, **style, label=name)
axes.set_xlabel("training steps")
axes.set_ylabel("loss (nats per token)")
axes.legend()
plt.show()

# %% [markdown]
# **What the band does.** Attention of one head in the two layers of the GPT-3 variant, on 64
# characters of a play: dense in layer 0, banded in layer 1. Nothing in the second picture is
# further than 15 tokens from the diagonal.

# %%
inputs = next(iter(held_out))[0][:1]
gpt3 = results["GPT-3"][2].backbone
stream = gk.interpretation.record(gpt3, inputs, "input")
figure, panels = plt.subplots(1, 2, figsize=(8, 3.9), sharey=True, layout="constrained")
for number, (axes, block) in enumerate(zip(panels, gpt3.blocks)):
    weights = np.array(block.attention_weights(stream[number]))[0, 0]
    image = axes.imshow(np.sqrt(weights), cmap="Greys", vmin=0, vmax=1)
    axes.set_title(f"layer {number}: " + ("dense" if number == 0 else "banded"))
    axes.set_xlabel("token that is seen")
panels[0].set_ylabel("token that looks")
figure.colorbar(image, ax=panels, label="square root of the weight")
plt.show()
far = np.tril(np.ones((64, 64), bool), -16)
assert weights[far].max() < 1e-6

# %% [markdown]
# **The cache by length** of models of three families, in 16-bit numbers.

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
lengths = 2 ** np.arange(8, 14)
for style, name in zip(gk.plots.STYLES, ("llama2_7b", "llama3_8b", "smollm2_135m")):
    config = preset(name)
    gib = [config.kv_cache_bytes(1, int(length), "bfloat16") / 2**30 for length in lengths]
    label = f"{name}: {config.num_heads} heads, {config.num_key_value_heads} for keys"
    axes.plot(lengths, gib, **style, label=label)
axes.set_xscale("log", base=2)
axes.set_yscale("log", base=2)
axes.set_xlabel("tokens in the cache")
axes.set_ylabel("cache of one text (GiB)")
axes.legend()
plt.show()

# %% [markdown]
# ## What goes wrong
#
# What goes wrong with this subject is mostly what is written about it.
#
# **"GPT has GRU gates."** No GPT that was published has a *gated recurrent unit*, the GRU of older
# language models. One can be put where the sums of the residual stream are, and was, in a
# Transformer for reinforcement learning. Its *update gate* $z$ decides how much of the stream $x$
# is replaced by a candidate $h$ made of the sub-layer's output:
#
# $$x \leftarrow (1 - z) \odot x + z \odot h$$
#
# See what it costs and what it does: parameters, the loss after the same training, and what a gate
# with the usual first bias leaves of the stream.

# %%
config = variants["GPT-2"]
d, num_gates = config.hidden_dim, 2 * config.num_layers
gated_losses, gated_loss, gated = train_variant(config, residual=gk.layers.GRUGate())
extra = gated.backbone.count_params() - config.num_parameters
assert extra == num_gates * (6 * d**2 + d)  # six matrices and a bias for each
print(
    f"six matrices in each of {num_gates} gates: {extra / config.num_parameters:.0%} more weights"
)
print(f"loss on held-out text: sums {results['GPT-2'][1]:.3f}, gates {gated_loss:.3f}")
kept = 1 - 1 / (1 + np.exp(2.0))
print(
    f"a gate of bias 2 keeps {kept:.3f} of the stream at first, {num_gates} of them in a row "
    f"{kept**num_gates:.3f}, the 192 of GPT-3 {kept**192:.1e}"
)

# %% [markdown]
# A sum keeps all of the stream, however many blocks there are. That is what it is for.
#
# **"Position $p$ gets a sine."** The encoding of the first Transformer has *pairs*, a sine and a
# cosine of one frequency. Only so is a step of $k$ positions the same rotation everywhere, whatever
# $p$ is:

# %%
encoding = np.array(gk.layers.SinusoidalPositionalEncoding()(np.zeros((1, 20, 8), "float32")))[0]
pairs = encoding.reshape(20, 4, 2)  # (position, frequency, sine and cosine)
k, frequencies = 5, 10000.0 ** (-2 * np.arange(4) / 8)
sine, cosine = np.sin(k * frequencies), np.cos(k * frequencies)
turned_sine = pairs[:-k, :, 0] * cosine + pairs[:-k, :, 1] * sine
turned_cosine = pairs[:-k, :, 1] * cosine - pairs[:-k, :, 0] * sine
np.testing.assert_allclose(turned_sine, pairs[k:, :, 0], atol=1e-5)
np.testing.assert_allclose(turned_cosine, pairs[k:, :, 1], atol=1e-5)
print("the encoding of p + 5 is the encoding of p, turned, for all p")
for name in ("gpt1", "gpt2_xl", "gpt3_175b", "llama3_8b"):
    print(f"{name:10} positions: {preset(name).position_embedding}")

# %% [markdown]
# To turn the sine one needs the cosine. And no GPT that has been published used either: GPT-1 to
# GPT-3 *learned* a vector for each position. The rotation came back later, in rotary embeddings.
#
# **"GPT is a Transformer, BERT is something else."** Both are halves of the same Transformer. BERT
# is the encoder half, in which a token also sees what comes *after* it. Here it is one switch.
# Change the last token, and see whether the logits at the first position notice.

# %%
rows = np.array([[1, 2, 3, 4], [1, 2, 3, 5]])
for causal in (True, False):
    network = gk.GPT(variants["GPT-2"].replace(causal=causal))
    given = rows if causal else {"token_ids": rows, "padding_mask": np.ones((2, 4), bool)}
    logits = np.array(network(given))[:, 0]
    change = np.abs(logits[0] - logits[1]).max()
    print(f"causal={causal}: the logits at the first position change by {change:.1e}")
    assert (change < 1e-6) == causal

# %% [markdown]
# An encoder reads better, since it sees both sides; but it cannot write from left to right, because
# it has never had to do without the right side. (BERT was trained to fill in hidden tokens
# instead.)
#
# **"GPT-4 has so and so many parameters."** Nobody who may say so has said so. A count is worth as
# much as its source. Our presets say where theirs come from: a paper's table or a released file;
# and those of GPT-4's class say that nothing in them is known. The names of models are roundings,
# and one of these is wrong:

# %%
for name, said in (("gpt1", "117M"), ("gpt2_small", "117M"), ("gpt3_175b", "175.0B")):
    print(f"{name:12} called {said:7} counted from its shape {preset(name).num_parameters:18,}")

# %% [markdown]
# The paper on GPT-2 prints 117M for its smallest model; the released one has 124 million, which
# is what anyone counts who loads it.
#
# ## Exercises
#
# 1. *Easy.* How large is the cache of GPT-3 175B for one text of 2,048 tokens in 16-bit numbers?
#    How large would it be with 8 heads for keys and values?
# 2. *Easy.* Each token of Mixtral 8x7B passes through 2 of its 8 experts. By how many of its 46.7
#    billion parameters is it touched? Count it from the preset.
# 3. *Medium.* Make the GPT-2 variant into the modern one a single switch at a time: norm,
#    positions, activation, biases, query-key norms. Train each. Which switch does most at this
#    size?
# 4. *Open.* Measure a law for data instead of size: one model, trained on more and more tokens. Fit
#    `loss = floor + scale * tokens ** -exponent`. Does it foretell the loss of a longer training?
#
# Solutions: `solutions/08_gpt_1_to_4_and_after.ipynb`.
#
# ## Further reading
#
# - A. Radford et al., *Improving Language Understanding by Generative Pre-Training* (GPT-1), 2018,
#   section 4.1: the shape.
# - A. Radford et al., *Language Models are Unsupervised Multitask Learners* (GPT-2), 2019, section
#   2.3 and table 2.
# - T. Brown et al., *Language Models are Few-Shot Learners* (GPT-3), 2020, section 2.1, table 2.1.
# - OpenAI, *GPT-4 Technical Report*, 2023, section 2: what is not told.
# - J. Kaplan et al., *Scaling Laws for Neural Language Models*, 2020, section 3.2; J. Hoffmann et
#   al., *Training Compute-Optimal Large Language Models*, 2022, section 3.3.
# - J. Ainslie et al., *GQA*, 2023, section 2; R. Child et al., *Generating Long Sequences with
#   Sparse Transformers*, 2019, section 4; A. Jiang et al., *Mixtral of Experts*, 2024, section 2.1.
# - E. Parisotto et al., *Stabilizing Transformers for Reinforcement Learning*, 2019, section 3.2:
#   the GRU gate.
# - J. Devlin et al., *BERT*, 2018, section 3: the encoder half.
