# %% [markdown]
# # Solutions to chapter 0
#
# Time on 2 CPU cores: about 1 minute.

# %%
import os

import keras
import numpy as np

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(20)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Exercise 1
#
# Multiply the entries of the table: `mat` after `the` 1/3, `.` after `mat` 1, `the` after `.` 1,
# `cat` after `the` 2/3. The loss is the mean surprise of the four steps.

# %%
steps = np.array([1 / 3, 1, 1, 2 / 3])
print(f"probability {steps.prod():.4f} = 2/9, loss {np.log(1 / steps).mean():.4f} nats per token")

# %% [markdown]
# ## Exercise 2
#
# The same lines with `"tang_poems"`. A vocabulary of 2,632 characters has $\ln V = 7.9$ nats where
# 72 have 4.3, so equal losses would not mean equal models. Against counted characters the model of
# the poems has gained a little; there are 27,000 characters to learn from, against a million.

# %%
text = gk.datasets.corpora.load("tang_poems")
tokenizer = gk.tokenizers.CharacterTokenizer.train(text, end_of_text=True)
train, validation = gk.datasets.language_modeling(text, tokenizer, sequence_length=96, batch_size=8)
shape = dict(max_sequence_length=96, num_layers=1 if FAST else 2, num_heads=4, hidden_dim=128)
config = gk.GPTConfig(vocabulary_size=tokenizer.vocabulary_size, **shape)
model = gk.GPTCausalLM(config, tokenizer=tokenizer)
model.compile(gk.training.adamw(3e-3, warmup_steps=50))
model.fit(train, validation_data=validation, epochs=3, verbose=2)
print(model.generate("春", temperature=0.7, seed=0))

# %%
counts = np.ones(tokenizer.vocabulary_size)
for _, targets in train:
    np.add.at(counts, targets.numpy().ravel(), 1)
surprise = np.log(counts.sum() / counts)
held_out = np.concatenate([targets.ravel() for _, targets in validation.as_numpy_iterator()])
result = model.evaluate(validation, verbose=0, return_dict=True)
print(f"equal chances      {np.log(tokenizer.vocabulary_size):.3f} nats per character")
print(f"counted characters {surprise[held_out].mean():.3f}")
print(f"GPT                {result['loss']:.3f}")

# %% [markdown]
# ## Exercise 3
#
# 72 characters make 373,248 triples, most of which never come. Adding 1 to each count drowns the
# counts that are small; a tenth does better. (To be fair, that number would have to be chosen
# on a text of its own, not on the validation text.)

# %%
text = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.CharacterTokenizer.train(text, end_of_text=True)
train, validation = gk.datasets.language_modeling(
    text, tokenizer, sequence_length=96, batch_size=32
)
size = tokenizer.vocabulary_size
pairs, triples = np.zeros((size, size)), np.zeros((size, size, size))
for inputs, targets in train.as_numpy_iterator():
    np.add.at(pairs, (inputs.ravel(), targets.ravel()), 1)
    np.add.at(triples, (inputs[:, :-1].ravel(), inputs[:, 1:].ravel(), targets[:, 1:].ravel()), 1)
print(f"{(triples == 0).mean():.1%} of the triples never come")

# %%
inputs = np.concatenate([x for x, _ in validation.as_numpy_iterator()])
targets = np.concatenate([y for _, y in validation.as_numpy_iterator()])
first, second, third = inputs[:, :-1], inputs[:, 1:], targets[:, 1:]
for added in (1, 0.1, 0.01, 0.001):
    of_pairs = (pairs[second, third] + added) / (pairs[second].sum(-1) + added * size)
    following = triples.sum(axis=-1)[first, second]
    of_triples = (triples[first, second, third] + added) / (following + added * size)
    print(
        f"{added:5} added: pairs {-np.log(of_pairs).mean():.3f}, "
        f"triples {-np.log(of_triples).mean():.3f} nats per character"
    )

# %% [markdown]
# ## Exercise 4
#
# A bigram model remembers nothing, so its cache is empty and stays so; the logits of the newest
# token are all that `generate` needs.


# %%
class Bigram(keras.Sequential):
    """A table of logits with the cache protocol of `gk.CausalLM`."""

    def initial_cache(self, batch_size, length):
        return []

    def extend(self, token_ids, cache, index, starts):
        return self(token_ids), []

    def write(self, cache, update, index):
        return cache


table = keras.layers.Embedding(size, size)
bigram = gk.CausalLM(Bigram([keras.Input((None,), dtype="int32"), table]), tokenizer=tokenizer)
table.set_weights([np.log(pairs + 0.01)])
print(bigram.generate("MACBETH.\n", max_new_tokens=200, seed=0))

# %% [markdown]
# The pairs look English, the words do not: after one character it has forgotten what it began. The
# GPT of the chapter writes whole words, most of which exist.
