# %% [markdown]
# # Solutions to chapter 5
#
# Time on 2 CPU cores: about 1 minute.

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
# ## Exercise 1
#
# Embeddings $5000 \cdot 96 + 256 \cdot 96$; three blocks of $12 \cdot 96^2$ weights in matrices and
# $9 \cdot 96$ in biases; seven norms of $2 \cdot 96$. An output matrix of its own has another $5000
# \cdot 96$. In so small a model most parameters are embeddings; in large ones hardly any are.

# %%
L, d, V, T = 3, 96, 5000, 256
embeddings = V * d + T * d
by_hand = embeddings + L * (12 * d**2 + 9 * d) + (2 * L + 1) * 2 * d
config = gk.GPTConfig(
    vocabulary_size=V, max_sequence_length=T, num_layers=L, num_heads=4, hidden_dim=d
)
print(
    f"by hand {by_hand:,}, config {config.num_parameters:,}; {embeddings / by_hand:.0%} embeddings"
)
untied = config.replace(tie_embeddings=False)
print(f"untied: by hand {by_hand + V * d:,}, config {untied.num_parameters:,}")
assert by_hand == config.num_parameters
assert by_hand + V * d == untied.num_parameters
large = gk.presets.get("gpt2_xl")
share = (large.vocabulary_size + large.max_sequence_length) * large.hidden_dim
print(f"GPT-2 XL: {share / large.num_parameters:.1%} embeddings")

# %% [markdown]
# ## Exercise 2
#
# Untied, the formula holds as long as the logits are small. With deviation 1 it is too high: the
# mean of $e^z$ is then made by the few largest logits, and a vocabulary has too few tokens to meet
# the very largest that the formula reckons with. Tied, it fails much sooner: the token that came in
# has a logit of nearly $d s$, so the model gives most of its probability to a repetition.

# %%
config = config.replace(num_layers=2, hidden_dim=64, vocabulary_size=2632)
ids = np.random.default_rng(0).integers(0, 2632, (8, 65))
print("deviation   formula   untied     tied")
for deviation in (0.02, 0.1, 0.3, 1.0):
    row = [np.log(2632) + 64 * deviation**2 / 2]
    for tied in (False, True):
        keras.utils.set_random_seed(0)
        gpt = gk.GPT(config.replace(tie_embeddings=tied))
        embedding = gpt.token_embedding
        table = embedding.embeddings if tied else embedding.reverse_embeddings
        drawn = np.random.default_rng(0).normal(0, deviation, table.shape)
        table.assign(drawn)
        losses = keras.losses.sparse_categorical_crossentropy(
            ids[:, 1:], gpt(ids[:, :-1]), from_logits=True
        )
        row.append(np.mean(losses))
    print(f"{deviation:9}" + "".join(f"{loss:10.3f}" for loss in row))

# %% [markdown]
# ## Exercise 3
#
# The gradient of a mean over 16 windows is the mean of the gradients of the means over 8. So add
# the gradients of the parts up, divide by their number, and apply once. The weights after a step
# agree to rounding. `gk.training.adamw(gradient_accumulation_steps=2)` does this inside `fit`.

# %%
plays = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
train, _ = gk.datasets.language_modeling(plays, tokenizer, sequence_length=32, batch_size=16)
batches = list(train.take(3))
print("batches:", [tuple(inputs.shape) for inputs, _ in batches])
config = gk.GPTConfig(
    vocabulary_size=tokenizer.vocabulary_size,
    max_sequence_length=32,
    num_layers=2,
    num_heads=4,
    hidden_dim=64,
)


# %%
def weights_after(num_parts):
    """Train on three batches, each in so many parts; return the weights."""
    keras.utils.set_random_seed(0)
    gpt, optimizer = gk.GPT(config), keras.optimizers.SGD(0.1)
    for inputs, targets in batches:
        parts = []
        for x, y in zip(tf.split(inputs, num_parts), tf.split(targets, num_parts)):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=gpt(x))
                )
            gradients = tape.gradient(loss, gpt.trainable_variables)
            parts.append([tf.convert_to_tensor(g) for g in gradients])
        mean = [sum(gradients) / num_parts for gradients in zip(*parts)]
        optimizer.apply(mean, gpt.trainable_variables)
    return gpt.get_weights()


# %%
whole, halves = weights_after(1), weights_after(2)
largest = max(np.abs(a - b).max() for a, b in zip(whole, halves))
print(f"largest difference between the weights: {largest:.1e}")
assert largest < 1e-5

# %% [markdown]
# Plain gradient descent, because Adam divides by the size of the gradient. Where the true gradient
# is 0, as it is for the biases of the keys, Adam makes whole steps out of rounding errors, and the
# weights differ where it does not matter.

# %% [markdown]
# ## Exercise 4
#
# With a scale that begins at 0 each block begins as the identity: at first the stream is the
# embedding, and the gradients of the kernels are 0, for whatever they change is multiplied by 0; of
# the blocks, only the scales learn in the first step. Then the blocks fade in. The layer needs a
# `build` for the shapes of both of its inputs.


# %%
@keras.saving.register_keras_serializable("chapter_5")
class ScaledSum(keras.layers.Layer):
    """x + scale * y with one trained number, which begins at 0."""

    def build(self, x_shape, y_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def call(self, x, y):
        return x + self.scale * y


def history_of(residual, norm_position, steps=12 if FAST else 48):
    """The losses of some blocks at a high learning rate without warm-up."""
    keras.utils.set_random_seed(0)
    deep = config.replace(num_layers=2 if FAST else 4, norm_position=norm_position)
    model = gk.CausalLM(gk.GPT(deep, residual=residual))
    model.compile(gk.training.adamw(3e-3, warmup_steps=0), jit_compile=False)
    return model.fit(train.repeat(), steps_per_epoch=12, epochs=steps // 12, verbose=0)


# %%
figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
for style, (name, residual, norm_position) in zip(
    [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^")],
    [
        ("sum, pre-norm", None, "pre"),
        ("sum, post-norm", None, "post"),
        ("scaled sum, pre-norm", ScaledSum(), "pre"),
    ],
):
    losses = history_of(residual, norm_position).history["loss"]
    steps = 12 * np.arange(len(losses)) + 6
    axes.plot(steps, losses, color=style[0], linestyle=style[1], marker=style[2], label=name)
axes.set_xlabel("training steps")
axes.set_ylabel("loss (nats per token)")
axes.legend()
plt.show()

# %% [markdown]
# Look at where each curve ends. A curve that stays near 3.34, the loss of counted characters, would
# be that of a model that does not look at its context. At the first step each scaled block is the
# identity, so depth cannot hurt it yet. So shallow a stack does not need that, and the scaled sum
# is the slowest here: try it with 24 blocks.
