# %% [markdown]
# # Solutions to chapter 4
#
# Time on 2 CPU cores: about 1 minute.

# %%
import os

import keras
import numpy as np
import tensorflow as tf

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(10)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Exercise 1
#
# Layers times heads times length squared. The widths of all heads make $d$, so pairs cost $4 T d$
# operations for each token and layer against $24 d^2$, and are equal at $T = 6 d$, far beyond the
# context. The config's count agrees: what depends on the length is as much as what does not (but
# for the logits, which belong to no layer).

# %%
config = gk.presets.get("gpt3_175b").replace(attention_windows=None)
length = config.max_sequence_length
weights = config.num_layers * config.num_heads * length**2
print(f"{weights:,} attention weights, {2 * weights / 1e9:.0f} GB at 2 bytes each")

equal = 6 * config.hidden_dim
logits = 2 * config.vocabulary_size * config.hidden_dim
of_pairs = config.flops_per_token(equal) - config.flops_per_token(1)
of_weights = config.flops_per_token(1) - logits
print(f"at T = {equal:,}: {of_pairs:.4g} for pairs, {of_weights:.4g} for weights")
assert abs(of_pairs / of_weights - 1) < 1e-4

# %% [markdown]
# ## Exercise 2
#
# The rows sum to less than 1, all but the last. And the future leaks: its scores are in the
# denominator of the softmax. Here the last of four tokens changes, and with it the weights of the
# others, by a common factor in each row. A model can read that factor.


# %%
def softmax(scores):
    """Exponentials divided by their sum, along the rows."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def masked_too_late(query, key):
    """Causal weights by the mistake."""
    return np.tril(softmax(query @ key.T / np.sqrt(key.shape[-1])))


query, key = np.random.default_rng(0).normal(size=(2, 4, 2))
before = masked_too_late(query, key)
print("sums of the rows:", before.sum(axis=-1).round(3))
key[3] *= -3
after = masked_too_late(query, key)
print("weights after the change, as multiples of those before:")
print(np.divide(after, before, out=np.zeros((4, 4)), where=before > 0).round(3))
assert not np.allclose(before[:3], after[:3])

# %% [markdown]
# ## Exercise 3
#
# One layer sees itself and $w - 1$ tokens before it. The oldest of these saw $w - 1$ before it in
# the layer below, and so on: $n (w - 1)$ steps back after $n$ layers. So windows cost memory of
# far-away tokens in one layer, not in a deep model.

# %%
window = 4
for number in (1, 2, 3):
    layers = [
        gk.layers.CausalMultiHeadAttention(2, window=window, kernel_initializer="glorot_normal")
        for _ in range(number)
    ]
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 16, 32)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        h = x
        for layer in layers:
            h = layer(h)
        last = tf.reduce_sum(h[:, -1])
    seen = np.abs(tape.gradient(last, x)[0]).sum(axis=-1) > 0
    steps_back = 15 - np.argmax(seen)
    print(f"{number} layers: the last of 16 tokens sees {steps_back} steps back")
    assert steps_back == number * (window - 1)

# %% [markdown]
# ## Exercise 4
#
# One possible course. `head_ablation` puts the mean of what a head gives in its place, and returns
# by how much the loss grows.

# %%
poems = gk.datasets.corpora.load("tang_poems")
tokenizer = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
train, validation = gk.datasets.language_modeling(
    poems, tokenizer, sequence_length=64, batch_size=4, seed=0
)
shape = dict(max_sequence_length=64, num_layers=2, num_heads=2, hidden_dim=64)
config = gk.GPTConfig(vocabulary_size=tokenizer.vocabulary_size, **shape)
poet = gk.GPTCausalLM(config, tokenizer=tokenizer)
poet.compile(gk.training.adamw(4e-3, warmup_steps=50), jit_compile=not FAST)
poet.fit(train, validation_data=validation, epochs=1 if FAST else 8, verbose=0)

held_out = np.concatenate([x for x, _ in validation.as_numpy_iterator()])
marks = tokenizer.encode("，。\n")
weights = gk.interpretation.attention_weights(poet, held_out)
on_marks = (weights * np.isin(held_out, marks)[:, None, None, :]).sum(axis=-1).mean(axis=(1, 3))
print("share of the attention on marks:", on_marks.round(2), sep="\n")
needed = gk.interpretation.head_ablation(poet, held_out)
print("nats per token lost without the head:", needed.round(3), sep="\n")

# %% [markdown]
# Then the loss at marks and at characters apart: with all heads, and with the output of the head
# that looks most at marks set to nothing, by zeros in its rows of the output kernel.


# %%
def losses_apart(model):
    """Mean loss where the next token is a mark, and where it is a character."""
    logits, targets = model.predict(held_out[:, :-1], verbose=0), held_out[:, 1:]
    losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    is_mark = np.isin(targets, marks)
    return np.array(losses)[is_mark].mean(), np.array(losses)[~is_mark].mean()


layer, head = np.unravel_index(on_marks.argmax(), on_marks.shape)
kernel = poet.backbone.blocks[layer].attention.output_projection.kernel
of_marks, of_characters = losses_apart(poet)
kept = kernel.numpy()
silenced = kept.copy()
silenced[32 * head : 32 * (head + 1)] = 0
kernel.assign(silenced)
of_marks_without, of_characters_without = losses_apart(poet)
kernel.assign(kept)
print(f"marks:      {of_marks:.3f} with the head, {of_marks_without:.3f} without it")
print(f"characters: {of_characters:.3f} with the head, {of_characters_without:.3f} without it")

# %% [markdown]
# The marks lose more than the characters do, so the head is there to count. It is not all that
# counts: the positions themselves, which the other heads see as well, tell the rest.
