# %% [markdown]
# # 5. From block to GPT
#
# Time on 2 CPU cores: about 2 minutes, or 1 minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapter 0; attention, which comes from
# chapter 4, is written here once more in one line.

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
import tensorflow as tf

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)
np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## What you will be able to do
#
# - Compute a whole transformer block by hand, and get what `gk.layers.TransformerBlock` gets.
# - Build a GPT out of Keras layers in a dozen lines, and show that it is `gk.GPT`.
# - Count its parameters and its arithmetic with a pencil, and foretell its loss before training.
# - Train it with a loop that you wrote yourself, and get the losses of `model.fit`.
# - Say what residuals, norms and the size of the first weights are for, and measure it.
#
# ## The idea
#
# A *block* has two *sub-layers*. *Attention* lets a token take something from the tokens before it;
# the *feed-forward layer* then works on each token alone. Neither replaces what came in. Each reads
# the vector of a token and *adds* to it what it has found out. The sum that is handed on from block
# to block is the *residual stream*, and a GPT is little more than such a stream with a dozen or a
# hundred places where something is added.
#
# The picture shows the two ways of doing it. The thick line is the stream. A *norm* brings each
# token's vector to a standard size. In GPT-2 and nearly everything after it the norm stands
# *before* the sub-layer, on the branch: *pre-norm*. In the first Transformer and in GPT-1 it stands
# *after* the sum, on the stream itself: *post-norm*.


# %%
def draw_block(axes, before):
    """Draw the stream through one block, with the norms on the branch or on the stream."""
    axes.annotate("", (10.6, 1), (0, 1), arrowprops={"arrowstyle": "-|>", "lw": 4})
    for left, name in ((0.7, "attention"), (5.7, "feed-forward")):
        axes.plot([left, left, left + 3, left + 3], [1, 0, 0, 1], color="black", lw=1.5)
        boxes = [(left + 1.9, 0, name, "#56B4E9")]
        boxes += [(left + 0.45, 0, "norm", "#F0E442")] if before else []
        boxes += [] if before else [(left + 3.8, 1, "norm", "#F0E442")]
        for x, y, text, face in boxes:
            style = {"boxstyle": "round", "facecolor": face, "edgecolor": "black"}
            axes.text(x, y, text, ha="center", va="center", fontsize=11, bbox=style)
        circle = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
        axes.text(left + 3, 1, "+", ha="center", va="center", fontsize=13, bbox=circle)
    axes.set_xlim(-0.2, 10.8)
    axes.set_ylim(-0.5, 1.5)
    axes.axis("off")
    axes.set_title("pre-norm (GPT-2)" if before else "post-norm (GPT-1)", loc="left")


figure, panels = plt.subplots(2, 1, figsize=(8, 3.8), layout="constrained")
draw_block(panels[0], before=True)
draw_block(panels[1], before=False)
plt.show()

# %% [markdown]
# In the upper picture the thick line runs from end to end untouched. What the last layer wants
# changed in the first one, its *gradient*, flows back along that line without passing through
# anything. In the lower picture it has to pass through a norm at each station.
#
# ## By hand
#
# Three tokens, 山 高 月, each a vector of 4 numbers. First the *layer norm*: subtract the mean of a
# vector, divide by its standard deviation. (A trained norm then multiplies by a *gain* and adds an
# *offset*, one of each for each of the 4 numbers. They begin as 1 and 0, so they are left out
# here.)

# %%
x = np.array([[1.0, 2.0, 0.0, -1.0], [0.0, 4.0, 2.0, 2.0], [-0.3, 0.1, 0.2, 0.4]])


def layer_norm(x, epsilon=1e-5):
    """Bring each row to mean 0 and deviation 1; `epsilon` keeps a row of equal numbers finite."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)


normed = layer_norm(x)
print(normed)
print("means", normed.mean(axis=-1).round(6), "deviations", normed.std(axis=-1))

# %% [markdown]
# The third token was several times smaller than the second, and is now as large: a sub-layer sees a
# vector's direction, not its size. Now attention with one head. The weights are random numbers with
# one decimal.

# %%
generator = np.random.default_rng(1)
w_query, w_key, w_value, w_output = generator.normal(0, 0.5, (4, 4, 4)).round(1)
w_up = generator.normal(0, 0.5, (4, 8)).round(1)
w_down = generator.normal(0, 0.5, (8, 4)).round(1)


def attention(x):
    """Causal attention with one head: softmax(Q K' / sqrt(4)) V, projected."""
    scores = (x @ w_query) @ (x @ w_key).T / np.sqrt(4)
    scores[np.triu_indices(len(x), 1)] = -np.inf  # a token does not see those after it
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return weights @ (x @ w_value) @ w_output


found = attention(normed)
after_attention = x + found
print("attention adds\n", found)
print("the stream is now\n", after_attention)

# %% [markdown]
# The feed-forward layer makes 4 numbers into 8, bends them, and makes them 4 again. What bends is
# the *GELU*: it lets large numbers through, stops very negative ones, and is smooth in between. Its
# place between the two matrices matters: without it they would be one matrix.


# %%
def gelu(x):
    """x times about the probability that a standard normal number is below x (GPT-2's formula)."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


print("gelu of -3 -1 0 1 3:", gelu(np.array([-3.0, -1.0, 0.0, 1.0, 3.0])))
inside = gelu(layer_norm(after_attention) @ w_up)
by_hand = after_attention + inside @ w_down
print("the stream after the block\n", by_hand)

# %% [markdown]
# That is a block. Post-norm has the same parts in another order: each sub-layer reads the stream as
# it is, and the norm comes after the sum.

# %%
h = layer_norm(x + attention(x))
by_hand_post = layer_norm(h + gelu(h @ w_up) @ w_down)
print(by_hand_post)

# %% [markdown]
# **Counting parameters.** A GPT with $L$ blocks of width $d$, a vocabulary of $V$ tokens and $T$
# positions, in a table that one can fill with a pencil. The example is GPT-2, the smallest of four.

# %%
L, d, V, T = 12, 768, 50257, 1024
parts = {
    "token embeddings, V d": V * d,
    "position embeddings, T d": T * d,
    "attention kernels, L 4 d^2": L * 4 * d**2,
    "feed-forward kernels, L 8 d^2": L * 8 * d**2,
    "biases, L (4 + 4 + 1) d": L * 9 * d,
    "norms, (2 L + 1) 2 d": (2 * L + 1) * 2 * d,
}
hand_count = sum(parts.values())
for name, number in parts.items():
    print(f"{name:30}{number:12,}{number / hand_count:8.1%}")
print(f"{'together':30}{hand_count:12,}")

# %% [markdown]
# Attention has four matrices of $d \times d$: queries, keys, values, output. The feed-forward layer
# has two of $d \times 4d$, so it holds twice as many weights as attention. The matrix that makes
# the logits is not in the table because it is the token embedding once more, transposed (*tied*).
#
# **Counting arithmetic.** A *FLOP* is one multiplication or one addition. A weight of a matrix
# costs two for each token: multiply, add. Looking up an embedding costs none, but making the logits
# with it does. And attention compares each query with up to $T$ keys and mixes as many values,
# where no weights are involved.

# %%
of_matrices = 2 * (L * 12 * d**2 + V * d)
of_attention = 2 * L * (T * d) * 2  # queries times keys, and weights times values
hand_flops = of_matrices + of_attention
print(f"for each token {hand_flops:,} FLOPs, {of_attention / hand_flops:.0%} of them for attention")
print(f"a training step on 500,000 tokens: {3 * hand_flops * 500_000:.2e} FLOPs")

# %% [markdown]
# Training costs three times the forward pass: the backward pass needs two products where the
# forward pass needs one, for the gradients of the weights and for those of the inputs.
#
# ## The formula
#
# With $x$ the stream, a matrix with a row for each token, the block is
#
# $$\text{pre-norm:}\quad h = x + \operatorname{Attn}(\operatorname{LN}(x)), \quad
#   y = h + \operatorname{FF}(\operatorname{LN}(h)) \qquad
#   \text{post-norm:}\quad h = \operatorname{LN}(x + \operatorname{Attn}(x)), \quad
#   y = \operatorname{LN}(h + \operatorname{FF}(h))$$
#
# $$\operatorname{LN}(x) = \gamma \odot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta \qquad
#   \operatorname{FF}(x) = \operatorname{GELU}(x W_1 + b_1)\, W_2 + b_2$$
#
# where $\mu$ and $\sigma^2$ are the mean and the variance of a row, and $\gamma$ and $\beta$ the
# norm's gain and offset. A GPT is the token embedding $E$ ($V \times d$) and the position embedding
# $P$ ($T \times d$), then $L$ blocks, a last norm if they are pre-norm, and $E$ again:
#
# $$x^{(0)}_t = E_{x_t} + P_t \qquad x^{(l)} = \operatorname{block}_l\bigl(x^{(l-1)}\bigr) \qquad
#   \text{logits} = \operatorname{LN}\bigl(x^{(L)}\bigr)\, E^\top$$
#
# *The loss before training.* The last norm makes a vector of $d$ numbers of size 1. With weights in
# $E$ drawn from a normal distribution of deviation $s$, a logit is a sum of $d$ products of
# variance $s^2$, so its variance is $d s^2$; and the mean of $e^z$ over such logits is
# $e^{d s^2 / 2}$:
#
# $$L_0 \approx \ln V + \tfrac{1}{2}\, d\, s^2$$
#
# With GPT-2's $s = 0.02$ this is hardly more than $\ln V$: the model begins by giving each token
# nearly the same chance, and has no opinions to unlearn. The formula takes the logits for
# independent of the input. That is so as long as $s$ is small: since the stream still contains the
# embedding of the token that came in, and the same $E$ makes the logits, the logit of that very
# token is up to $d\, s$. With a large $s$ an untrained model firmly expects each token to be
# repeated.
#
# *The stream by depth.* A pre-norm stream is a sum: $x^{(L)} = x^{(0)} + f_1 + \dots + f_{2L}$,
# with two terms for each block. Random terms add up in variance. So if each has variance $v$, the
# stream ends with $2 L v$ more than it began with, and grows with the depth. GPT-2 divides the
# deviation of the last matrix of each sub-layer by $\sqrt{2L}$, so that each term has variance $v /
# 2L$. Their sum is then $v$, however deep the model is.
#
# ## The class
#
# `gk.layers.TransformerBlock` with the weights from above. What we left out, biases, gains and
# offsets, begins at 0, 1 and 0 there, too.


# %%
def block_of(norm_position):
    """A block of one head with the weights that were used by hand."""
    block = gk.layers.TransformerBlock(1, intermediate_dim=8, norm_position=norm_position)
    block.build((None, 3, 4))
    for layer, kernel in (
        (block.attention.query, w_query),
        (block.attention.key, w_key),
        (block.attention.value, w_value),
        (block.attention.output_projection, w_output),
        (block.feed_forward.up, w_up),
        (block.feed_forward.down, w_down),
    ):
        layer.kernel.assign(kernel)
    return block


for norm_position, expected in (("pre", by_hand), ("post", by_hand_post)):
    computed = np.array(block_of(norm_position)(x[None].astype("float32"))[0])
    print(f"{norm_position}-norm: largest difference {np.abs(computed - expected).max():.1e}")
    np.testing.assert_allclose(computed, expected, atol=1e-5)

# %% [markdown]
# Now the whole model, from layers, with Keras's functional API: call one layer after the other, and
# tell `keras.Model` where it begins and ends. `ReversibleEmbedding` is Keras's embedding that can
# also be used backwards, from vectors to logits. The function takes arguments for the blocks, which
# we shall need to do things wrong on purpose.


# %%
def gpt_from_layers(config, embedding_deviation=0.02, **block_arguments):
    """A GPT out of Keras layers; the same initial weights each time."""
    keras.utils.set_random_seed(0)
    token_ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.ReversibleEmbedding(
        config.vocabulary_size,
        config.hidden_dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=embedding_deviation),
    )
    x = gk.layers.PositionalEmbedding(config.max_sequence_length)(embedding(token_ids))
    for _ in range(config.num_layers):
        x = gk.layers.TransformerBlock(
            config.num_heads, norm_position=config.norm_position, **block_arguments
        )(x)
    if config.norm_position == "pre":
        x = keras.layers.LayerNormalization(epsilon=config.norm_epsilon)(x)
    return keras.Model(token_ids, embedding(x, reverse=True))


# %%
config = gk.GPTConfig(
    vocabulary_size=100, max_sequence_length=16, num_layers=3, num_heads=4, hidden_dim=32
)
ours, theirs = gpt_from_layers(config), gk.GPT(config)
ours.set_weights(theirs.get_weights())
ids = np.random.default_rng(0).integers(0, 100, (2, 16))
difference = np.abs(np.array(ours(ids)) - np.array(theirs(ids))).max()
print(f"largest difference between the logits of the two models: {difference:.1e}")
np.testing.assert_allclose(ours(ids), theirs(ids), atol=1e-5)

# %% [markdown]
# The same logits. `gk.GPT` adds the checks, the variants (rotary positions, experts and so on) and
# the cache with which it generates, but there is no other magic in it. The counts:

# %%
gpt2 = gk.presets.get("gpt2_small")
print(f"parameters of GPT-2: by hand {hand_count:,}, config {gpt2.num_parameters:,}")
print(f"FLOPs per token:     by hand {hand_flops:,}, config {gpt2.flops_per_token():,}")
assert hand_count == gpt2.num_parameters
assert hand_flops == gpt2.flops_per_token()
assert ours.count_params() == theirs.count_params() == config.num_parameters

# %% [markdown]
# ## On real text
#
# Nine plays of Shakespeare, one id for each character. First the loss before any training, against
# the formula: with GPT-2's deviation of 0.02, and with five times that, where the model has begun
# to expect repetition.

# %%
plays = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
train, validation = gk.datasets.language_modeling(
    plays, tokenizer, sequence_length=32, batch_size=16
)
batches = list(train.take(20 if FAST else 100))
config = gk.GPTConfig(
    vocabulary_size=tokenizer.vocabulary_size,
    max_sequence_length=32,
    num_layers=1 if FAST else 3,
    num_heads=4,
    hidden_dim=64,
)


def mean_loss(model, inputs, targets):
    """The cross-entropy in nats per token."""
    logits = model(inputs)
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    )


# %%
ln_v = np.log(config.vocabulary_size)
print(f"ln V = {ln_v:.3f}")
for deviation in (0.02, 0.1):
    foretold = ln_v + config.hidden_dim * deviation**2 / 2
    measured = float(mean_loss(gpt_from_layers(config, deviation), *batches[0]))
    print(f"deviation {deviation}: formula {foretold:.3f}, measured {measured:.3f}")
    assert abs(foretold - measured) < 0.1 or deviation > 0.02

# %% [markdown]
# **A loop of one's own.** A training step is four lines: run the model and keep a record of it (the
# *tape*), ask the tape for the gradient of the loss with respect to each weight, and let the
# optimizer change the weights. `tf.function` compiles the step, so that Python is not in the way.

# %%
hand_model = gpt_from_layers(config)
optimizer = gk.training.adamw(3e-3, warmup_steps=20)
optimizer.build(hand_model.trainable_variables)


@tf.function
def train_step(inputs, targets):
    with tf.GradientTape() as tape:
        loss = mean_loss(hand_model, inputs, targets)
    gradients = tape.gradient(loss, hand_model.trainable_variables)
    optimizer.apply(gradients, hand_model.trainable_variables)
    return loss


hand_losses = np.array([float(train_step(*batch)) for batch in batches])
print(f"loss of the first batch {hand_losses[0]:.3f}, of the last {hand_losses[-1]:.3f}")

# %% [markdown]
# **The same by `fit`.** The same initial weights, the same batches in the same order, the same
# settings of the optimizer. `fit` reports the mean of an epoch, which here is ten batches.


# %%
def fit(model, learning_rate, warmup_steps, steps=None, callbacks=()):
    """Train on the batches, in their order; return the mean losses of each ten."""
    inputs, targets = (np.stack(parts) for parts in zip(*batches[:steps]))
    data = tf.data.Dataset.from_tensor_slices((inputs, targets)).repeat()
    steps = len(inputs)
    model = gk.CausalLM(model, tokenizer=tokenizer)
    model.compile(
        gk.training.adamw(learning_rate, warmup_steps=warmup_steps),
        jit_compile=False,  # XLA needs longer to compile than so short a training takes
    )
    history = model.fit(
        data, steps_per_epoch=10, epochs=steps // 10, verbose=0, callbacks=list(callbacks)
    )
    return np.array(history.history["loss"])


fit_model = gpt_from_layers(config)
fit_losses = fit(fit_model, 3e-3, warmup_steps=20)
by_ten = hand_losses.reshape(-1, 10).mean(axis=1)
print("loop:", by_ten)
print("fit: ", fit_losses)
np.testing.assert_allclose(fit_losses, by_ten, rtol=2e-3)

# %% [markdown]
# So `fit` does nothing else. What it adds is around the step: epochs, validation, metrics,
# callbacks, saving. A loop of one's own is for the day on which the step itself must be different.
#
# **Tang poems.** The same few layers, another alphabet. Here the first loss is higher because $V$
# is, and nothing else has changed.

# %%
poems = gk.datasets.corpora.load("tang_poems")
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
poem_train, _ = gk.datasets.language_modeling(poems, hanzi, sequence_length=32, batch_size=16)
poem_config = config.replace(vocabulary_size=hanzi.vocabulary_size)
poet = gk.CausalLM(gpt_from_layers(poem_config))
poet.compile(gk.training.adamw(3e-3, warmup_steps=20), jit_compile=False)
first = poet.evaluate(*next(iter(poem_train)), verbose=0, return_dict=True)["loss"]
print(f"ln V = {np.log(hanzi.vocabulary_size):.3f}, loss before training {first:.3f}")
history = poet.fit(poem_train.repeat(), steps_per_epoch=5 if FAST else 20, epochs=3, verbose=2)

# %%
line = "春眠不覺曉，處處聞啼"
logits = np.array(poet.predict(np.array([hanzi.encode(line)]), verbose=0))[0, -1]
probabilities = np.exp(logits - logits.max())
probabilities /= probabilities.sum()
best = np.argsort(-probabilities)[:5]
print(line, "->", {hanzi.decode([i]): round(float(probabilities[i]), 3) for i in best})

# %% [markdown]
# After a few steps it knows which characters are frequent, commas and full stops before all, and
# little more: here a fifth character is due, not a mark. Chapter 6 goes on from here.
#
# ## Look
#
# **The size of the stream by depth**, before training: the deviation of the numbers in the stream
# before the first block and after each, for a model of 6 blocks and one of 24, with GPT-2's smaller
# last matrices and without. The thin lines join the ends as equal shares of variance would.

# %%
deep_config = config.replace(num_layers=8 if FAST else 24, hidden_dim=128)
window = batches[0][0][:4]


def stream_sizes(num_layers, scaled):
    """The deviation of the stream before the first block and after each."""
    deviation = 0.02 / np.sqrt(2 * num_layers) if scaled else 0.02
    model = gpt_from_layers(
        deep_config.replace(num_layers=num_layers),
        residual_initializer=keras.initializers.RandomNormal(stddev=deviation),
    )
    return gk.interpretation.residual_stream(model, window).std(axis=(1, 2, 3))


deep = deep_config.num_layers
sizes = {(n, s): stream_sizes(n, s) for n in (deep // 4, deep) for s in (False, True)}
for (n, scaled), size in sizes.items():
    name = "1/sqrt(2L)" if scaled else "unscaled"
    print(f"{n:3} blocks, {name:10}: variance {size[0] ** 2:.5f} -> {size[-1] ** 2:.5f}")

# %%
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for (n, scaled), size in sizes.items():
    name = f"{n} blocks, " + (r"times $1/\sqrt{2L}$" if scaled else "unscaled")
    style = {**gk.plots.STYLES[int(scaled)], "markerfacecolor": "white" if n < deep else None}
    axes.plot(size, **style, markersize=7 if n < deep else 4, label=name)
    depth = np.arange(n + 1)
    growth = (size[-1] ** 2 - size[0] ** 2) / n
    axes.plot(depth, np.sqrt(size[0] ** 2 + depth * growth), color="black", linewidth=0.7)
axes.set_xlabel("blocks passed")
axes.set_ylabel("deviation of the stream")
axes.set_ylim(0)
axes.legend()
plt.show()
added = {key: size[-1] ** 2 - size[0] ** 2 for key, size in sizes.items()}
assert 2.5 < added[deep, False] / added[deep // 4, False] < 6  # four times as deep
assert 0.8 < added[deep, True] / added[deep // 4, True] < 1.25  # the depth does not matter

# %% [markdown]
# Unscaled, the deep model ends where the shallow one would have ended had it gone on: four times
# the depth adds about four times the variance. Scaled, both end at the same height. A stream that
# has grown large by the end is hard to move for the last blocks, whose contribution is small beside
# it.

# %% [markdown]
# **The gradients by layer**, before training: for each block the norm of the gradient of all its
# weights, with pre-norm and with post-norm. The weights are drawn as Keras draws them unless told
# otherwise (Glorot's initialization), as for the first Transformers.


# %%
def gradient_norms(model, inputs, targets):
    """The norm of the gradient of each block's weights."""
    blocks = [layer for layer in model.layers if isinstance(layer, gk.layers.TransformerBlock)]
    with tf.GradientTape() as tape:
        loss = mean_loss(model, inputs, targets)
    gradients = tape.gradient(loss, [block.trainable_variables for block in blocks])
    return np.array([float(tf.linalg.global_norm(part)) for part in gradients])


ten_blocks = config.replace(num_layers=10)
norms = {
    position: gradient_norms(
        gpt_from_layers(
            ten_blocks.replace(norm_position=position), kernel_initializer="glorot_uniform"
        ),
        *batches[0],
    )
    for position in ("pre", "post")
}

# %%
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for style, (position, values) in zip(gk.plots.STYLES, norms.items()):
    axes.plot(range(1, len(values) + 1), values, **style, label=f"{position}-norm")
axes.set_yscale("log")
axes.set_xlabel("block")
axes.set_ylabel("norm of the gradient")
axes.legend()
plt.show()

# %% [markdown]
# Compare the right-hand ends. With pre-norm the gradients get smaller from block to block, since
# the stream grows and the last norm divides by its size. With post-norm every block hands on a
# stream of size 1, and the gradients of the later blocks are more than twice as large. (The first
# post-norm block stands out, since the embeddings that it adds to are tiny, 0.02, and its first
# norm divides by their size.) Xiong et al., who measured this first, see in it the reason why
# post-norm is so hard to train without a *warm-up*, some first steps in which the learning rate
# grows from near 0 (`warmup_steps` in all our calls; chapter 6 says more).

# %%
last = {position: values[len(values) // 2 :].mean() for position, values in norms.items()}
print(f"the later half of the blocks: post-norm {last['post'] / last['pre']:.1f} times pre-norm")
assert last["post"] > 1.5 * last["pre"]

# %% [markdown]
# ## What goes wrong
#
# **Large first weights and no warm-up.** Two post-norm models of six blocks with the same learning
# rate from the first step on, one with GPT's small first weights and one with Glorot's, which are
# several times as large at this width. The dotted line is the loss of counted characters, which a
# model reaches that has given up on its context.

# %%
counts = np.bincount(np.concatenate([targets.numpy().ravel() for _, targets in batches]))
share = counts[counts > 0] / counts.sum()
counted = -(share * np.log(share)).sum()
steps = 20 if FAST else 60
six_blocks = config.replace(num_layers=1 if FAST else 6, norm_position="post")
curves = {}
for name, initializer in (("deviation 0.02", None), ("Glorot", "glorot_uniform")):
    model = gpt_from_layers(six_blocks, kernel_initializer=initializer)
    curves[name] = fit(model, 2e-3, warmup_steps=0, steps=steps)
    print(f"{name:15} {curves[name]}")

# %%
figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
for style, (name, losses) in zip(gk.plots.STYLES, curves.items()):
    axes.plot(10 * np.arange(len(losses)) + 5, losses, **style, label=name)
axes.axhline(counted, color="black", linestyle=":", label="counted characters")
axes.set_xlabel("training steps")
axes.set_ylabel("loss (nats per token)")
axes.legend()
plt.show()

# %% [markdown]
# See which of the two leaves the dotted line. Whether a training survives its first steps is
# decided by norms, depth, first weights and learning rate together: one often reads that post-norm
# fails without a warm-up, but a shallow post-norm model with small first weights may bear it, and a
# pre-norm model with large ones may not. A warm-up is cheap against all of them. Try it:
# `fit(gpt_from_layers(six_blocks, kernel_initializer="glorot_uniform"), 2e-3, 50)`.
#
# **No residuals.** A layer that is given as `residual` takes the place of the sums. This one
# forgets the stream and passes on only what the sub-layer has found. Attention mixes the tokens;
# nothing keeps them apart; after a few blocks all of them are the same vector, and a model that
# cannot tell its tokens apart has nothing to predict from. The *cosine* of two vectors is 1 where
# they point the same way.


# %%
class NoSum(keras.layers.Layer):
    """Forgets the stream."""

    def build(self, x_shape, y_shape):
        pass

    def call(self, x, y):
        return y


def cosines(model):
    """The mean cosine of two different tokens before the first block and after each."""
    stream = gk.interpretation.residual_stream(model, window)
    stream = stream / np.linalg.norm(stream, axis=-1, keepdims=True)
    length = stream.shape[2]
    products = stream @ stream.swapaxes(-1, -2)
    return (products.sum(axis=(-1, -2)) - length).mean(axis=-1) / (length * (length - 1))


# %%
with_sums = gpt_from_layers(ten_blocks)
without_sums = gpt_from_layers(ten_blocks, residual=NoSum())
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for style, name, model in zip(gk.plots.STYLES, ("with", "without"), (with_sums, without_sums)):
    alike = cosines(model)
    axes.plot(alike, **style, label=f"{name} residuals")
    print(
        f"{name} residuals: cosine {alike[0]:.2f} before the first block, {alike[-1]:.2f} at last"
    )
axes.set_xlabel("blocks passed")
axes.set_ylabel("mean cosine of two tokens")
axes.legend()
plt.show()
assert alike[-1] > 0.9

# %% [markdown]
# **First weights that are too large.** Not every library draws embeddings with a small deviation:
# that of PyTorch's `Embedding` is 1. Tied to the output, it makes logits that are far from 0, and
# the model begins with firm opinions, nearly all of them wrong. It spends its training on
# unlearning them.

# %%
steps = len(batches) // 2
wrong_losses = fit(gpt_from_layers(config, embedding_deviation=1.0), 3e-3, 20, steps)
print("deviation 0.02:", fit_losses[: steps // 10])
print("deviation 1:   ", wrong_losses)
assert wrong_losses[0] > 2 * ln_v

# %% [markdown]
# **A learning rate that is too high.** `gk.callbacks.LossWatch` looks at each batch, stops when the
# loss is not a number or leaps up, and says at which step. Without it, such a training goes on for
# as long as you let it, and costs what it costs.

# %%
watch = gk.callbacks.LossWatch(stop_above=1.5)
fit(gpt_from_layers(config), 1.0, warmup_steps=0, callbacks=[watch])
print(watch.incidents)
assert watch.incidents[0]["action"] == "stopped"

# %% [markdown]
# What to do about it, in this order: a lower learning rate, a longer warm-up, a look at the batch
# that did it (`skip_above` of `gk.training.adamw` leaves single bad batches out).
#
# ## Exercises
#
# 1. *Easy.* How many parameters has a GPT with 3 blocks of width 96, a vocabulary of 5,000 and 256
#    positions? How many if the output has a matrix of its own? Which share are embeddings, and
#    which in GPT-2 XL? Check with `num_parameters`.
# 2. *Easy.* A vocabulary of 2,632 characters, width 64. Foretell the loss before training for an
#    output matrix of deviation 0.02, 0.1, 0.3 and 1, and measure it, once tied to the embedding and
#    once not. Where does the formula fail, and why?
# 3. *Medium.* Memory holds half of the batch that you want. Change the training loop: two halves,
#    two tapes, one update. Show that the weights after three steps are those of whole batches.
#    (Take `keras.optimizers.SGD`. Why does Adam agree less well?)
# 4. *Open.* Write a layer for `residual=` that adds the sub-layer's output times one trained
#    number, which begins at 0 (ReZero). Train a stack of such blocks beside pre-norm and post-norm,
#    at a high learning rate without warm-up. What is each block at the first step?
#
# Solutions: `solutions/05_from_block_to_gpt.ipynb`.
#
# ## Further reading
#
# - K. He et al., *Deep Residual Learning for Image Recognition*, 2016, section 3: residuals.
# - J. Ba, J. Kiros and G. Hinton, *Layer Normalization*, 2016, section 3.
# - A. Radford et al., *Language Models are Unsupervised Multitask Learners* (GPT-2), 2019, section
#   2.3: pre-norm, the last norm, and the factor $1/\sqrt{N}$ for $N$ residual layers.
# - R. Xiong et al., *On Layer Normalization in the Transformer Architecture*, 2020, section 3: the
#   gradients of post-norm and pre-norm at the start, and the warm-up.
# - Y. Dong, J.-B. Cordonnier and A. Loukas, *Attention is not all you need: pure attention loses
#   rank doubly exponentially with depth*, 2021, section 2: what happens without residuals.
# - A. Chowdhery et al., *PaLM*, 2022, appendix B: counting FLOPs.
# - T. Bachlechner et al., *ReZero is All You Need*, 2020: exercise 4.
