# %% [markdown]
# # Solutions to chapter 6
#
# Time on 2 CPU cores: about 2 minutes.

# %%
import os

import keras
import numpy as np

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(15)
keras.utils.set_random_seed(0)
poems = gk.datasets.corpora.load("tang_poems")


# %%
def small_gpt(tokenizer, max_sequence_length, num_layers=1 if FAST else 2):
    """A compiled GPT of width 128."""
    config = gk.GPTConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=max_sequence_length,
        num_layers=num_layers,
        num_heads=4,
        hidden_dim=128,
    )
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.compile(gk.training.adamw(3e-3, warmup_steps=50), jit_compile=not FAST)
    return model


# %% [markdown]
# ## Exercise 1
#
# With their end-of-text tokens the documents have 1,001 + 51 + 701 = 1,753 tokens. The last token
# of the stream is a target only, so $\lfloor 1752 / 128 \rfloor = 13$ windows, which use 13 x 128 +
# 1 = 1,665 tokens; 88 are left over.

# %%
letters = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
documents = ["a" * 1000, "b" * 50, "c" * 700]
data, _ = gk.datasets.language_modeling(
    documents, letters, sequence_length=128, batch_size=1, validation_fraction=0
)
print(len(data), "windows")
assert len(data) == (1001 + 51 + 701 - 1) // 128

# %% [markdown]
# ## Exercise 2
#
# A byte-pair token of this small vocabulary is often only a part of a character (Chinese characters
# have three bytes in UTF-8), so there are more tokens than characters. Each token is easier than a
# character, which lowers the nats per token; but more of them are needed, which the bits per
# character show.

# %%
for tokenizer in (
    gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True),
    gk.tokenizers.BytePairTokenizer.train(poems, vocabulary_size=1024),
):
    train, validation = gk.datasets.language_modeling(
        poems, tokenizer, sequence_length=64, batch_size=8
    )
    model = small_gpt(tokenizer, 64)
    history = model.fit(train, validation_data=validation, epochs=2 if FAST else 4, verbose=0)
    nats = min(history.history["val_loss"])
    tokens_per_character = sum(map(len, tokenizer.encode(poems))) / sum(map(len, poems))
    bits = nats * tokens_per_character / np.log(2)
    print(
        f"{type(tokenizer).__name__:18} {tokens_per_character:.2f} tokens per character, "
        f"{nats:.3f} nats per token, {bits:.2f} bits per character"
    )

# %% [markdown]
# ## Exercise 3
#
# The embeddings of positions 32 to 63 were never trained: they are the random numbers that the
# model began with. From there on the loss jumps up. Train at the length at which you will generate.

# %%
plays = gk.datasets.corpora.load("shakespeare")
letters = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
short, _ = gk.datasets.language_modeling(plays, letters, sequence_length=32, batch_size=64)
_, long = gk.datasets.language_modeling(plays, letters, sequence_length=64, batch_size=64)
model = small_gpt(letters, max_sequence_length=64, num_layers=1)
model.fit(short, epochs=1, verbose=2)
inputs = np.concatenate([x for x, _ in long.as_numpy_iterator()])[:640]
targets = np.concatenate([y for _, y in long.as_numpy_iterator()])[:640]
logits = model.predict(inputs, batch_size=64, verbose=0)
losses = np.array(keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True))
print(f"mean loss at positions 0 to 31: {losses[:, :32].mean():.3f}")
print(f"mean loss at positions 32 to 63: {losses[:, 32:].mean():.3f}")
gk.plots.loss_by_position({"trained on windows of 32": losses})

# %% [markdown]
# ## Exercise 4
#
# One way to look at it: hold the same poems out, train once on the other poems and once on those
# and a play, with the same tokenizer and as many passes over the poems. English teaches little
# Chinese, so expect no miracle; what counts is that you compare on the same held-out poems.

# %%
both = gk.tokenizers.BytePairTokenizer.train([*poems, plays[0]], vocabulary_size=1536)
held_out, rest = poems[::10], [poem for i, poem in enumerate(poems) if i % 10]
settings = {"sequence_length": 64, "batch_size": 8, "validation_fraction": 0}
test, _ = gk.datasets.language_modeling(held_out, both, **settings)
for name, corpus in (("poems alone", rest), ("poems and a play", [*rest, plays[0]])):
    keras.utils.set_random_seed(0)
    train, _ = gk.datasets.language_modeling(corpus, both, **settings)
    model = small_gpt(both, 64)
    history = model.fit(train, validation_data=test, epochs=3, verbose=0)
    print(f"{name:17} best loss on held-out poems {min(history.history['val_loss']):.3f}")
