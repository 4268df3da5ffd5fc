# %% [markdown]
# # Solutions to chapter 3
#
# Time on 2 CPU cores: about 1 minute.

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

# %% [markdown]
# ## Exercise 1
#
# The tables are counted off the config: tokens times width, positions times width.

# %%
config = gk.presets.get("gpt2_small")
of_tokens = config.vocabulary_size * config.hidden_dim
of_positions = config.max_sequence_length * config.hidden_dim
total = config.num_parameters
print(f"tokens {of_tokens:,} ({of_tokens / total:.0%}), positions {of_positions:,} of {total:,}")
untied = config.replace(tie_embeddings=False).num_parameters
print(f"untied: {untied - total:,} more")
assert untied - total == of_tokens

# %% [markdown]
# ## Exercise 2
#
# Pair $i$ turns once in $2 \pi / \omega_i = 2 \pi \cdot 10000^{2i/d}$ positions.

# %%
pairs = np.arange(32)
positions = 2 * np.pi * 10000 ** (2 * pairs / 64)
print(*[f"{number:,.0f}" for number in positions])
print(f"{(positions <= 1024).sum()} of 32 pairs have turned once within 1,024 positions")

# %% [markdown]
# ## Exercise 3
#
# A larger base makes the slow pairs slower, so that distances far apart still look different and
# the product falls off later. With a base of 100 every pair has turned many times.

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for base, style, colour in ((1e2, "-", "#0072B2"), (1e4, "--", "#D55E00"), (1e6, ":", "#009E73")):
    turned = np.array(gk.layers.RotaryEmbedding(base)(np.ones((1, 1, 4000, 64), "float32")))[0, 0]
    axes.plot(turned @ turned[0] / 64, style, color=colour, label=f"base {base:,.0f}")
axes.set_xlabel("distance (tokens)")
axes.set_ylabel("product / head width")
axes.legend()
plt.show()

# %% [markdown]
# ## Exercise 4
#
# One possible course: the vectors of the chapter, once as they are and once brought to the length
# of GPT-2's random rows, against random rows. Compare the losses after the same few steps.

# %%
plays = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.BytePairTokenizer.train(plays, vocabulary_size=1024)
train, _ = gk.datasets.language_modeling(plays, tokenizer, sequence_length=64, batch_size=16)
spaced = ["".join(c if c.isalpha() or c == "'" else " " for c in play.lower()) for play in plays]
texts = [text.split() for text in spaced]
words = [word for word, _ in Counter(w for text in texts for w in text).most_common(1000)]
index = {word: i for i, word in enumerate(words)}
counts = np.zeros((1000, 1000))
for text in texts:
    ids = np.array([index.get(word, -1) for word in text])
    for step in range(1, 5):
        near = np.stack([ids[:-step], ids[step:]])
        a, b = near[:, (near >= 0).all(axis=0)]
        np.add.at(counts, (a, b), 1)
        np.add.at(counts, (b, a), 1)
expected = counts.sum(axis=0) * counts.sum(axis=1, keepdims=True) / counts.sum()
surprising = np.maximum(np.log(np.maximum(counts, 1e-9) / expected), 0)
left, sizes, _ = np.linalg.svd(surprising)
vectors = left[:, :64] * np.sqrt(sizes[:64])
with open("vectors.txt", "w", encoding="utf-8") as file:
    for word, vector in zip(words, vectors):
        file.write(f"{word} {' '.join(f'{number:.5f}' for number in vector)}\n")

# %%
shape = dict(max_sequence_length=64, num_layers=1, num_heads=2, hidden_dim=64)
config = gk.GPTConfig(vocabulary_size=tokenizer.vocabulary_size, **shape)
for name in ("random rows", "word vectors", "word vectors, short"):
    keras.utils.set_random_seed(0)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    table = model.backbone.token_embedding.embeddings
    given = gk.convert.word_vectors("vectors.txt", tokenizer, table.numpy())
    rows = given.matrix.copy()
    if name.endswith("short"):
        rows[given.found] *= 0.02 / rows[given.found].std()
    if name != "random rows":
        table.assign(rows)
    model.compile(gk.training.adamw(3e-3, warmup_steps=20), jit_compile=not FAST)
    history = model.fit(train, steps_per_epoch=50, epochs=3, verbose=0)
    print(f"{name:20} mean losses of 50 steps each:", np.round(history.history["loss"], 3))

# %% [markdown]
# Long as they come, the vectors do harm: tied to the output, they make large logits, and the model
# has opinions to unlearn. At the length of the random rows they are a clear head start. What a
# table knows is in its directions; how long its rows are is a matter of what comes after it.
