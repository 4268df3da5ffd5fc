# %% [markdown]
# # Solutions to chapter 1
#
# Time on 2 CPU cores: about 1½ minutes.

# %%
import os
from collections import Counter

import keras
import matplotlib.pyplot as plt
import numpy as np

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)
plays = gk.datasets.corpora.load("shakespeare")
poems = gk.datasets.corpora.load("tang_poems")
train_plays, new_play = plays[-3 if FAST else 0 : -1], plays[-1]
letters = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)

# %% [markdown]
# ## Exercise 1
#
# After `his` we have seen one pair, `his hat`, once. Half of that count is taken off, so the
# back-off weight is 1/2, and `cat` gets nothing else. Its continuation count is 1 of 13, of which
# half is taken off: 0.5/13. All nine continuation counts together lose 6.5 of 13, of which each of
# the nine words gets an equal share: 0.5/9. So $p = (0.5/13 + 0.5/9)/2 = 0.047$.

# %%
text = "hocus pocus the hat . hocus pocus my hat . hocus pocus a cat . hocus pocus his hat ."
words = text.split()
vocabulary = sorted(set(words))
bigram = gk.NGramLM(2, vocabulary_size=9).fit([vocabulary.index(word) for word in words])
given = bigram.next_probabilities([vocabulary.index("his")])[vocabulary.index("cat")]
print(f"by hand {(0.5 / 13 + 0.5 / 9) / 2:.6f}, gk.NGramLM {given:.6f}")
assert np.isclose(given, (0.5 / 13 + 0.5 / 9) / 2)

# %% [markdown]
# ## Exercise 2
#
# Each doubling of the text lowers the curve, and lowers its right end more than its left: the pairs
# of characters are counted well enough in a few plays, the runs of eight are not in all of them.
# The lowest point is hard to see, for the curves hardly rise again: where Kneser-Ney's long
# contexts know nothing, they hand on to the shorter ones.

# %%
orders = range(1, 6 if FAST else 9)
figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
for number, style in zip((1, 2) if FAST else (1, 2, 4, 8), ("o-", "s--", "^-.", "D:")):
    perplexities = [
        gk.NGramLM(order, letters).fit(train_plays[:number]).perplexity([new_play])
        for order in orders
    ]
    axes.plot(orders, perplexities, style, label=f"{number} play{'s' if number > 1 else ''}")
    best = int(np.argmin(perplexities))
    print(f"{number} plays: best order {orders[best]}, perplexity {perplexities[best]:.2f}", end="")
    print(f"; order 2: {perplexities[1]:.2f}, order {orders[-1]}: {perplexities[-1]:.2f}")
axes.set_xlabel("order n")
axes.set_ylabel("perplexity of the new play (per character)")
axes.legend()
plt.show()

# %% [markdown]
# ## Exercise 3
#
# The end-of-text token stands twice before each document, as context. Chinese needs a far smaller
# $k$, for whatever is added is added 2,632 times to each context. Even the best $k$ stays well
# behind Kneser-Ney there, since adding does not ask the shorter context anything. (To be fair, $k$
# would have to be chosen on a third text.)


# %%
def triples(documents, tokenizer):
    """All runs of three ids of some documents, `(number, 3)`."""
    end = tokenizer.end_of_text_id
    rows = [np.array([end, end, *tokenizer.encode(d), end]) for d in documents]
    return np.concatenate([np.stack([r[:-2], r[1:-1], r[2:]], axis=1) for r in rows])


hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
train_poems = [poem for i, poem in enumerate(poems) if i % 10]
for name, tokenizer, training, new in (
    ("English", letters, train_plays, [new_play]),
    ("Chinese", hanzi, train_poems, poems[::10]),
):
    rows = triples(training, tokenizer).tolist()
    counts, sums = Counter(map(tuple, rows)), Counter((a, b) for a, b, _ in rows)
    tested = triples(new, tokenizer).tolist()
    count = np.array([counts[tuple(row)] for row in tested])
    context = np.array([sums[a, b] for a, b, _ in tested])
    for k in (1, 0.1, 0.01, 0.001, 0.0001):
        given = (count + k) / (context + k * tokenizer.vocabulary_size)
        print(f"{name}, {k:6} added: perplexity {np.exp(-np.log(given).mean()):8.2f}")
    kneser_ney = gk.NGramLM(3, tokenizer).fit(training).perplexity(new)
    print(f"{name}, Kneser-Ney:    perplexity {kneser_ney:8.2f}")

# %% [markdown]
# ## Exercise 4
#
# With a small weight of the LSTM the mixture is better than both, although the LSTM alone is by far
# the worse model: where one of them is badly surprised, the other often is not, and $-\ln$ of a
# mean is never more than the mean of the $-\ln$. Recurrent networks came into speech recognition
# in such mixtures (T. Mikolov et al., *Recurrent Neural Network Based Language Model*, 2010).

# %%
window, steps = 64, 30 if FAST else 300
data, _ = gk.datasets.language_modeling(
    train_plays, letters, sequence_length=window, batch_size=32, validation_fraction=0, seed=0
)
lstm = gk.CausalLM(
    gk.LSTMBackbone(letters.vocabulary_size, 1, 32 if FAST else 192), tokenizer=letters
)
lstm.compile(
    gk.training.adamw(1e-2, warmup_steps=steps // 10, total_steps=steps), jit_compile=False
)
history = lstm.fit(data, steps_per_epoch=steps, epochs=1, verbose=2)

# %%
ids = np.array([letters.end_of_text_id, *letters.encode(new_play)])
number = (len(ids) - 1) // window
inputs, targets = ids[: number * window].reshape(-1, window), ids[1 : number * window + 1]
probabilities = keras.ops.softmax(lstm.predict(inputs, batch_size=64, verbose=0))
of_lstm = np.array(probabilities).reshape(len(targets), -1)[np.arange(len(targets)), targets]
of_ngram = np.exp(gk.NGramLM(5, letters).fit(train_plays).log_probabilities(targets))
alphas = np.linspace(0, 1, 21)
losses = [-np.log(a * of_lstm + (1 - a) * of_ngram).mean() for a in alphas]
best = int(np.argmin(losses))
print(
    f"5-gram {losses[0]:.3f}, LSTM {losses[-1]:.3f}, mixed at {alphas[best]:.2f} {losses[best]:.3f}"
)
figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
axes.plot(alphas, losses, "o-")
axes.set_xlabel("weight of the LSTM")
axes.set_ylabel("loss (nats per character)")
plt.show()
