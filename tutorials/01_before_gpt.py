# %% [markdown]
# # 1. Language models before GPT
#
# Time on 2 CPU cores: about 3 minutes, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which takes less text and cuts the training short. You need chapter 0.

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
import re
from collections import Counter, defaultdict
from itertools import pairwise

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)
gk.plots.use_chinese_font()  # a warning, where none is installed, says how to get one
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=[s["color"] for s in gk.plots.STYLES])

# %% [markdown]
# ## What you will be able to do
#
# For half a century a language model was a table of counts, and for some years after that a
# recurrent network. Both still run in a minute, and a GPT has to beat both, which is harder than it
# sounds. At the end of the chapter you will be able to
#
# - build an *n-gram* model, say why a count of zero ruins it, and smooth it as Kneser and Ney did;
# - compute the step of an *LSTM* with a pencil, gate by gate;
# - train both on English and Chinese, and compare them by their perplexity on text that they have
#   not seen;
# - say which comparisons of perplexities mean something, and which do not;
# - say what each of them cannot do, which is where the GPT comes in.
#
# ## The idea
#
# Chapter 0 counted pairs of characters. Why not count runs of ten? If you have seen the nine
# characters `the castl` before, look up what came after them then. An *n-gram* is a run of $n$
# tokens, and an *n-gram model* predicts the last of them from the $n - 1$ before it, the *context*.
# Longer contexts are better informed, but there is a price. Hold one play and a tenth of the Tang
# poems out, and see how many of their contexts stand anywhere in the rest.

# %%
plays = gk.datasets.corpora.load("shakespeare")
poems = gk.datasets.corpora.load("tang_poems")
train_plays, new_plays = plays[-4 if FAST else 0 : -1], plays[-1:]
train_poems, new_poems = [p for i, p in enumerate(poems) if i % 10], poems[::10]


def known(length, training, held_out):
    """Share of the contexts of a length in held-out texts that the training texts have, too."""
    seen = {text[i : i + length] for text in training for i in range(len(text))}
    new = [text[i : i + length] for text in held_out for i in range(len(text) - length)]
    return sum(context in seen for context in new) / len(new)


lengths = range(1, 11)
figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for label, style, corpus in (
    ("plays (English)", "o-", (train_plays, new_plays)),
    ("Tang poems (Chinese)", "s--", (train_poems, new_poems)),
):
    axes.plot(lengths, [known(length, *corpus) for length in lengths], style, label=label)
axes.set_xlabel("length of the context (characters)")
axes.set_ylabel("share seen in training")
axes.legend()
plt.show()

# %% [markdown]
# *The more context, the less often it has been seen.* With a million characters of English, most
# contexts of five characters are old acquaintances and most of ten are strangers. A Chinese
# character says more than a letter, there are thousands of them, and the corpus is small: even two
# are mostly new. Every model of this chapter is an answer to this picture. The counting models
# fall back to shorter contexts when they do not know the long one. The LSTM does not look contexts
# up at all: it *computes* with them, so that a context never seen can be like one that was.
#
# ## By hand
#
# **Counts.** A text of twenty words, and the mark ■ for what stands before it.

# %%
text = "hocus pocus the hat . hocus pocus my hat . hocus pocus a cat . hocus pocus his hat ."
words = text.split()
vocabulary = sorted(set(words))
size = len(vocabulary)
pairs = Counter(pairwise(["■", *words]))
contexts = Counter(["■", *words[:-1]])
print(f"{len(words)} words, {size} different; {len(pairs)} of {(size + 1) * size} pairs were seen:")
print("  ".join(f"{a} {b}: {count}" for (a, b), count in pairs.most_common()))

# %% [markdown]
# **Why zeros are deadly.** Chapter 0's bigram model divides each count by the count of the context.
# Ask it for a sentence that it has not seen, but that we find quite likely.

# %%
new = ["hocus", "pocus", "a", "hat", "."]


def report(name, probability):
    """Print what a model says of the words of `new`, its cross-entropy and perplexity."""
    given = np.array([probability(b, a) for a, b in pairwise(["■", *new])])
    with np.errstate(divide="ignore"):
        loss = -np.log(given).mean()
    print(f"{name:20}", given.round(3), f"loss {loss:.3f} nats, perplexity {np.exp(loss):.2f}")
    return loss


counted = report("counts", lambda word, context: pairs[context, word] / contexts[context])

# %% [markdown]
# One pair was never seen, `a hat`. Its probability is 0, its surprise infinite, and so is the mean,
# however well the other words were predicted. *A model that says never must never be wrong.* So
# some probability has to be taken from what was seen and given to what was not. The oldest way is
# to add 1 to each count:

# %%
added = report(
    "one added", lambda word, context: (pairs[context, word] + 1) / (contexts[context] + size)
)
print(f"pocus after hocus: counted {4 / 4:.2f}, with one added {5 / (4 + size):.2f}")

# %% [markdown]
# Finite, but generous to a fault: the model has seen `pocus` after `hocus` four times out of four,
# and now gives it less than half. With real vocabularies of thousands of words it gets far worse.
#
# **Absolute discounting** takes a constant off each count that is there, here one of three: 0.5 off
# a count of 1, 1 off a count of 2 and 1.5 off all others, so that a count of 4 is worth 2.5. (Real
# programs estimate the *discounts* from the text. A text as small as ours has too little for that,
# and these are the values that `gk.NGramLM` then takes.) What was taken off goes to the model that
# knows one word less, here to the frequencies of single words.


# %%
def discount(count):
    """What is taken off a count."""
    return 0.5 * np.minimum(count, 3)


def interpolated(word, context, lower):
    """The discounted counts after `context`, and what is left for the lower order."""
    after = [count for (a, _), count in pairs.items() if a == context]
    kept = pairs[context, word] - discount(pairs[context, word])
    backoff = sum(discount(np.array(after))) / sum(after)
    return kept / sum(after) + backoff * lower[word]


frequency = {word: words.count(word) / len(words) for word in vocabulary}
absolute = report("absolute discounting", lambda w, context: interpolated(w, context, frequency))
print("after `a`:", {w: round(float(interpolated(w, "a", frequency)), 3) for w in vocabulary})

# %% [markdown]
# **Kneser and Ney's thought.** After `a` we have seen `cat`, and nothing else. Of the words not
# seen, this model finds `hocus`, `pocus` and the full stop the likeliest, because they are
# frequent. But `pocus` is frequent *for one reason*, `hocus`. Nobody needs the lower order after
# `hocus`; there the pair is known. So the lower order should not ask how often a word comes. It
# should ask after *how many different words* it comes, its *continuation count*.

# %%
before = defaultdict(set)
for a, b in pairs:
    before[b].add(a)
continuations = np.array([len(before[word]) for word in vocabulary])
print("word     frequency   continuation count: after")
for word, count in zip(vocabulary, continuations):
    print(f"{word:8}{words.count(word):6}{count:14}         {', '.join(sorted(before[word]))}")

# %% [markdown]
# `hat` is frequent and comes after three different words, `pocus` is more frequent and comes after
# one. The continuation counts are discounted as well, and what is taken off there is shared equally
# by all words of the vocabulary, so that no word at all has probability 0.

# %%
total = continuations.sum()  # as many as there are different pairs
uniform = discount(continuations).sum() / total / size
shares = (continuations - discount(continuations)) / total + uniform
continuation = dict(zip(vocabulary, shares))
kneser_ney = report("Kneser-Ney", lambda w, context: interpolated(w, context, continuation))
print("after `a`:", {w: round(float(interpolated(w, "a", continuation)), 3) for w in vocabulary})
assert kneser_ney < absolute < added < counted

# %% [markdown]
# Now `hat` is the likeliest of the unseen words, and `pocus` has sunk to the bottom. The new
# sentence is less surprising than under any of the other models, and the probabilities still sum
# to 1.
#
# **An LSTM's step.** A *recurrent* network reads one token at a time and keeps a *state*, a vector
# of fixed size, which is all that it knows of the past. A *long short-term memory* has two such
# vectors: the *cell* $c$, its memory, and the output $h$, which is what it shows of it. At each
# step it looks at the new input and at its last output, and computes for each number of the cell a
# *candidate* for what to remember, and three *gates*, which the *sigmoid* $1/(1+e^{-z})$ keeps
# between 0 and 1: how much of the old memory to keep, how much of the candidate to write, how much
# to show. Here are two inputs, a cell of three numbers, and random weights.


# %%
def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm_step(x, h, c, kernel, recurrent, bias):
    """One step; returns the new output, the new cell, and the forget gate."""
    z = x @ kernel + h @ recurrent + bias  # (4 * units,)
    write, forget, candidate, show = np.split(z, 4)
    c = sigmoid(forget) * c + sigmoid(write) * np.tanh(candidate)
    h = sigmoid(show) * np.tanh(c)
    return h, c, sigmoid(forget)


generator = np.random.default_rng(0)
units = 3
kernel, recurrent = generator.normal(size=(2, 4 * units)), generator.normal(size=(units, 4 * units))
bias = np.repeat([0.0, 1.0, 0.0, 0.0], units)  # the forget gate begins open
x, h, c = np.array([1.0, -1.0]), np.array([0.5, 0.0, -0.5]), np.array([2.0, -1.0, 0.3])
hand_h, hand_c, forget = lstm_step(x, h, c, kernel, recurrent, bias)
print("old cell   ", c, "\nforget gate", forget.round(3), "\nkept       ", (forget * c).round(3))
print("new cell   ", hand_c.round(3), "\nnew output ", hand_h.round(3))

# %% [markdown]
# The memory is changed by multiplying and adding, number by number. A cell whose forget gate is
# near 1 and whose write gate is near 0 carries its number along unchanged, for as long as it likes.
# Keras has the same step:

# %%
layer = keras.layers.LSTM(units)
layer.build((None, 1, 2))
layer.set_weights([kernel, recurrent, bias])
keras_h = layer(x[None, None], initial_state=[h[None].astype("f"), c[None].astype("f")])
print("Keras:", np.array(keras_h)[0].round(3))
np.testing.assert_allclose(keras_h[0], hand_h, atol=1e-6)

# %% [markdown]
# ## The formula
#
# Let $h$ be a context, $w$ a token, and $c(hw)$ how often $w$ was counted after $h$. Interpolated
# Kneser-Ney takes $D$ off each count and gives it to the context $h'$ that is one token shorter:
#
# $$p(w \mid h) = \frac{c(hw) - D(c(hw))}{c(h)} + \lambda(h)\, p(w \mid h') \qquad
#   \lambda(h) = \frac{1}{c(h)} \sum_{v} D(c(hv)) \qquad c(h) = \sum_v c(hv)$$
#
# For the longest contexts $c$ counts occurrences. For all shorter ones it is the continuation
# count: the number of different tokens $u$ such that $uhw$ was seen. Below the empty context there
# is the uniform distribution $1/V$ over the $V$ tokens. Kneser and Ney have one $D$ for each
# order; Chen and Goodman's *modified* Kneser-Ney, which we use, has three, for counts of 1, 2, and
# 3 or more.
#
# The LSTM's step, with $x_t$ the input, $W$, $U$ and $b$ its weights, $\sigma$ the sigmoid, and
# $\odot$ multiplication number by number:
#
# $$\begin{aligned}
#   i_t &= \sigma(W_i x_t + U_i h_{t-1} + b_i) & f_t &= \sigma(W_f x_t + U_f h_{t-1} + b_f) \\
#   g_t &= \tanh(W_g x_t + U_g h_{t-1} + b_g) & o_t &= \sigma(W_o x_t + U_o h_{t-1} + b_o) \\
#   c_t &= f_t \odot c_{t-1} + i_t \odot g_t & h_t &= o_t \odot \tanh(c_t)
# \end{aligned}$$
#
# To make a language model of it, the input is the embedding of the token, and the logits are
# $z = E h_t$ with the matrix $E$ of the embeddings. Both models are judged by chapter 0's measure,
# on text they have not seen:
#
# $$L = -\frac{1}{T} \sum_{t=1}^{T} \ln p(x_t \mid x_1, \dots, x_{t-1}) \qquad
#   \text{perplexity} = e^L$$
#
# ## The class
#
# `gk.NGramLM` counts for any order. Order 2 on the ids of our words gives the numbers by hand, for
# every context, and the same perplexity of the new sentence.

# %%
ids = [vocabulary.index(word) for word in words]
bigram = gk.NGramLM(2, vocabulary_size=size).fit(ids)
for context in vocabulary:
    by_hand = [interpolated(word, context, continuation) for word in vocabulary]
    given = bigram.next_probabilities([vocabulary.index(context)])
    np.testing.assert_allclose(given, by_hand, rtol=1e-12)
    assert np.isclose(sum(by_hand), 1)
loss = -bigram.log_probabilities([vocabulary.index(word) for word in new]).mean()
print(f"by hand {kneser_ney:.6f}, gk.NGramLM {loss:.6f} nats per token")
np.testing.assert_allclose(loss, kneser_ney)

# %% [markdown]
# `gk.LSTMBackbone` is the network: embeddings, LSTM, logits. With its weights, our step run along
# the words gives the same logits at every position.

# %%
backbone = gk.LSTMBackbone(vocabulary_size=size, num_layers=1, hidden_dim=4)
embeddings = keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)
weights = backbone.lstms[0].get_weights()
h = c = np.zeros(4)
by_hand = []
for token in ids:
    h, c, _ = lstm_step(embeddings[token], h, c, *weights)
    by_hand.append(embeddings @ h)
logits = np.array(backbone(np.array([ids])))[0]
print("last logits by hand:", by_hand[-1].round(4)[:5])
print("LSTMBackbone:       ", logits[-1].round(4)[:5])
np.testing.assert_allclose(logits, by_hand, atol=1e-6)

# %% [markdown]
# ## On real text
#
# **Don Pedro.** Is `hocus pocus` made up? Here are the words of the plays that are frequent and
# come after the fewest different words, and Chinese has them, too: 琵 and 琶 are the two halves of
# the word for a lute.

# %%
real_words = re.findall(r"[a-z']+", " ".join(plays).lower())
characters = [character for character in "".join(poems) if character.isalpha()]
for tokens in (real_words, characters):
    predecessors = defaultdict(set)
    for a, b in pairwise(tokens):
        predecessors[b].add(a)
    counts = Counter(tokens)
    frequent = [token for token in counts if counts[token] >= len(tokens) / 10_000]
    for token in sorted(frequent, key=lambda t: len(predecessors[t]) / counts[t])[:3]:
        shown = ", ".join(sorted(predecessors[token])[:4])
        print(f"{token}: {counts[token]} times, after {len(predecessors[token])}: {shown}")
print("after 琵:", dict(Counter(b for a, b in pairwise(characters) if a == "琵")))

# %% [markdown]
# **N-grams of growing order,** by character. Each is trained on the training plays and scored on
# one of them and on the new play (of the poems, on a tenth and on another tenth).
# `gk.evaluation.perplexity` scores every token exactly once, the end of the text included.

# %%
letters = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)


def by_order(orders, tokenizer, training, held_out):
    """N-gram models, and their losses on texts that they have learnt and on new ones."""
    models, losses, old = [], [], training[-max(1, len(training) // 10) :]
    for order in orders:
        models.append(gk.NGramLM(order, tokenizer).fit(training))
        scored = [gk.evaluation.perplexity(models[-1], t) for t in (old, held_out)]
        losses.append([result.loss for result in scored])
        print(
            f"order {order}: {models[-1].num_parameters:9,} numbers, perplexity "
            f"{scored[0].perplexity:7.2f} of old text, {scored[1].perplexity:7.2f} of new"
        )
    return models, np.array(losses)


orders = range(1, 7 if FAST else 11)
ngrams, ngram_losses = by_order(orders, letters, train_plays, new_plays)
print("Tang poems")
poem_ngrams, poem_losses = by_order(range(1, 6), hanzi, train_poems, new_poems)

# %% [markdown]
# Two kinds of growth: what the model stores grows and grows, while what it gains on new text soon
# comes to an end. In Chinese, where contexts of two characters are mostly new, that end is there at
# once.
#
# **An LSTM.** It has the methods by which `generate` goes on from a stored state, so it trains and
# generates as the GPT of chapter 0 does. `jit_compile=False` switches off XLA, a compiler, which
# does not help a loop over time steps.

# %%
width, window = (48, 32) if FAST else (256, 64)
data, _ = gk.datasets.language_modeling(
    train_plays, letters, sequence_length=window, batch_size=32, validation_fraction=0, seed=0
)
steps = 40 if FAST else 400
lstm = gk.LSTMBackbone(letters.vocabulary_size, num_layers=1, hidden_dim=width)
recurrent_model = gk.CausalLM(lstm, tokenizer=letters)
optimizer = gk.training.adamw(1e-2, warmup_steps=steps // 10, total_steps=steps)
recurrent_model.compile(optimizer, jit_compile=False)
recurrent_model.fit(data, steps_per_epoch=steps // 4, epochs=4, verbose=2)
lstm_result = gk.evaluation.perplexity(
    recurrent_model, new_plays, sequence_length=256, batch_size=64
)
best = int(np.argmin(ngram_losses[:, 1]))
print(f"LSTM: {lstm.num_parameters:,} numbers, perplexity {lstm_result.perplexity:.2f} of new text")
print(
    f"best n-gram: order {orders[best]}, {ngrams[best].num_parameters:,} numbers, "
    f"perplexity {np.exp(ngram_losses[best, 1]):.2f}"
)

# %% [markdown]
# After this little training, the table of counts is still ahead of the network, though it needed
# but a second: do not laugh at n-grams. Compare the numbers stored, however, and keep in mind that
# the table has learnt all it ever will, while the network's loss is still on its way down.
#
# The poems are too few for a network of this kind, as they were for the table. *Dropout*, which
# hides a share of the numbers in training, keeps it from learning them by heart too soon.

# %%
poem_data, poem_validation = (
    gk.datasets.language_modeling(
        texts, hanzi, sequence_length=64, batch_size=16, validation_fraction=0, seed=0
    )[0]
    for texts in (train_poems, new_poems)
)
poem_lstm = gk.CausalLM(
    gk.LSTMBackbone(hanzi.vocabulary_size, 1, 32 if FAST else 128, dropout=0.3), tokenizer=hanzi
)
poem_lstm.compile(gk.training.adamw(1e-2, warmup_steps=10), jit_compile=False)
poem_history = poem_lstm.fit(
    poem_data, validation_data=poem_validation, epochs=1 if FAST else 10, verbose=0
)
poem_result = gk.evaluation.perplexity(poem_lstm, new_poems, sequence_length=64, batch_size=16)
print(f"LSTM: perplexity {poem_result.perplexity:.1f} of new poems")
print(f"best n-gram: perplexity {np.exp(poem_losses[:, 1].min()):.1f}")

# %% [markdown]
# **Samples.** What each of them writes, by drawing from its probabilities. You can hear the order.

# %%
for order in (2, 4, orders[-1]):
    written = ngrams[order - 1].generate("DUKE.\n", max_new_tokens=160, temperature=0.8, seed=0)
    print(f"--- order {order}\n{written}\n")
written = recurrent_model.generate("DUKE.\n", max_new_tokens=160, temperature=0.8, seed=0)
print(f"--- LSTM\n{written}")

# %%
settings = {"max_new_tokens": 36, "temperature": 0.8, "seed": 1}
for order in (1, 2, 3):
    print(f"--- order {order}\n{poem_ngrams[order - 1].generate('春風', **settings)}\n")
print(f"--- LSTM\n{poem_lstm.generate('春風', **settings)}")

# %% [markdown]
# Order 1 draws characters from a hat. Order 2 puts commas and line ends after characters that may
# end a verse. Order 3 knows pieces of poems by heart, and the names of poets, which stand on lines
# of their own; for in so little text most contexts of two characters have one continuation only.
#
# The LSTM, which has the worse perplexity, knows something that no trigram can: verses have five
# characters or seven. A trigram sees two and cannot count further. Draw twenty poems of each, and
# measure the verses.


# %%
def regular(written):
    """Share of the verses that have five or seven characters; first and last pieces left out."""
    verses = [v for text in written for v in re.split("[，。？！\n]+", text)[1:-1]]
    return np.mean([len(verse) in (5, 7) for verse in verses])


settings = {"max_new_tokens": 60, "temperature": 0.8, "seed": 0}
starts = ["春風", "秋月", "山中", "江上"] * (1 if FAST else 5)
print(f"real poems {regular(new_poems):.0%}")
print(f"order 3    {regular(poem_ngrams[2].generate(starts, **settings)):.0%}")
print(f"LSTM       {regular(poem_lstm.generate(starts, **settings)):.0%}")

# %% [markdown]
# So one number does not tell all about a model. (Titles and names of poets are pieces, too, so even
# real poems do not have all of them regular.)
#
#
# ## Look
#
# **Perplexity by order.** Old text against new, in both languages. Read the left ends of the curves
# as "too little context", and the gap at the right as "learnt by heart".

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for axes, losses, title in zip(panels, (ngram_losses, poem_losses), ("plays", "Tang poems")):
    for column, (label, style) in enumerate((("old text", "o-"), ("new text", "s--"))):
        axes.plot(range(1, len(losses) + 1), np.exp(losses[:, column]), style, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("order n")
    axes.set_title(title)
panels[0].axhline(lstm_result.perplexity, color="black", linestyle=":", label="LSTM, new text")
panels[1].axhline(poem_result.perplexity, color="black", linestyle=":", label="LSTM, new text")
panels[0].set_ylabel("perplexity (per character)")
for axes, ticks in zip(panels, ((2, 4, 8, 16, 32), (10, 30, 100, 300, 1000))):
    axes.set_yticks(ticks, ticks)
    axes.minorticks_off()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
plt.show()

# %% [markdown]
# **What more context buys.** The loss on the new play at each position of windows of 64 characters.
# At the first position the LSTM knows one character, at the last all 64. The n-grams are flat
# lines, for each always has its few characters. (The small ups and downs that all share belong to
# the text: some places happen to be harder.)

# %%
play_ids = np.array([letters.end_of_text_id, *letters.encode(new_plays[0])])
windows = np.lib.stride_tricks.sliding_window_view(play_ids, 65)[::32]
before, after = windows[:, :-1], windows[:, 1:]
losses = {}
for order in (2, 3, orders[-1]):
    scored = -ngrams[order - 1].log_probabilities(play_ids[1:])
    losses[f"{order}-gram"] = np.lib.stride_tricks.sliding_window_view(scored, 64)[::32]
logits = recurrent_model.predict(before, batch_size=64, verbose=0)
losses["LSTM"] = np.array(
    keras.losses.sparse_categorical_crossentropy(after, logits, from_logits=True)
)
gk.plots.loss_by_position(losses)

# %% [markdown]
# With one character of context the LSTM is a bigram model, no more. Its curve falls steeply over
# the next few characters, and then hardly at all: what happened more than some ten characters ago
# helps it little. Names, speakers and the plot lie further back.
#
# **The gates at work.** The forget gate of the twelve cells whose gates vary most, along the first
# lines of the new play. White is 1, "keep", black is 0, "forget".

# %%
weights = lstm.lstms[0].get_weights()
embeddings = keras.ops.convert_to_numpy(lstm.token_embedding.embeddings)
h = c = np.zeros(width)
gates = []
for token in play_ids[:400]:
    h, c, forget = lstm_step(embeddings[token], h, c, *weights)
    gates.append(forget)
gates = np.array(gates)[-56:]
chosen = np.argsort(-gates.std(axis=0))[:12]
figure, axes = plt.subplots(figsize=(9.5, 3), layout="constrained")
image = axes.imshow(gates[:, chosen].T, cmap="gray", vmin=0, vmax=1, aspect="auto")
shown = letters.decode(play_ids[400 - 56 : 400]).replace(" ", "␣").replace("\n", "⏎")
axes.set_xticks(range(56), shown)
axes.set_xlabel("character read")
axes.set_ylabel("cell")
figure.colorbar(image, label="forget gate")
plt.show()

# %% [markdown]
# Nobody told these cells what to forget, or when. Look for dark marks at spaces, at line ends or at
# full stops: a memory of "the word so far" is worth nothing once the word is over.
#
# ## What goes wrong
#
# **Long n-grams learn by heart.** The perplexity of old text goes on falling, and looks wonderful.
# The samples give it away: how many of their runs of twelve characters stand in the training text?


# %%
def copied(written, corpus, length=12):
    """Share of the runs of a length in `written` that stand in `corpus`."""
    runs = [written[i : i + length] for i in range(len(written) - length)]
    return np.mean([run in corpus for run in runs])


corpus = "\n".join(train_plays)
settings = {"max_new_tokens": 600, "temperature": 0.8, "seed": 0}
for order in (3, 5, orders[-1]):
    old, new_loss = ngram_losses[order - 1]
    written = ngrams[order - 1].generate("DUKE.\n", **settings)
    print(
        f"{order:2}-gram: perplexity {np.exp(old):.2f} of old text, {np.exp(new_loss):.2f} of new; "
        f"{copied(written, corpus):.0%} copied"
    )
print(f"LSTM: {copied(recurrent_model.generate('DUKE.', **settings), corpus):.0%} copied")
print(f"the new play itself: {copied(new_plays[0][:2000], corpus):.0%}")

# %% [markdown]
# A model is judged on text that it has not seen, always. Kneser-Ney, at least, hardly gets worse on
# new text as it grows; counts without smoothing would be at infinity.
#
# **Perplexities of different tokens.** A model's perplexity is *per token*, so who has longer
# tokens has a higher one, good model or bad. Three bigram and trigram models of the same plays,
# the last two with byte-pair tokens (chapter 2), which are longer than characters:

# %%
byte_pairs = gk.tokenizers.BytePairTokenizer.train(train_plays, vocabulary_size=512)
print("model                      perplexity   bits per character")
for name, order, tokenizer in (
    ("characters, order 3", 3, letters),
    ("byte pairs, order 2", 2, byte_pairs),
    ("byte pairs, order 3", 3, byte_pairs),
):
    model = gk.NGramLM(order, tokenizer).fit(train_plays)
    result = gk.evaluation.perplexity(model, new_plays)
    print(f"{name:24}{result.perplexity:13.2f}{result.bits_per_character:21.3f}")

# %% [markdown]
# By perplexity the first model wins by a wide margin; by bits per character, which divides by
# something that all of them share, it loses. Bits per character (or per byte) compare models whose
# tokens differ; perplexities do not. And neither compares two languages.
#
# **Memory that fades.** A network learns from the past only as far as its gradient reaches. Take
# the loss at the last of 64 positions, and its gradient with respect to each of the 64 inputs: how
# much would a small change there have mattered?

# %%
inputs = tf.convert_to_tensor(lstm.token_embedding(before[:128]))
with tf.GradientTape() as tape:
    tape.watch(inputs)
    last = lstm.lstms[0](inputs)[0][:, -1:]
    loss = keras.losses.sparse_categorical_crossentropy(
        after[:128, 63:], lstm.unembed(last), from_logits=True
    )
strength = np.linalg.norm(tape.gradient(loss, inputs), axis=-1).mean(axis=0)[::-1]
figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
axes.semilogy(range(64), strength / strength[0], "o-", markersize=3)
axes.set_xlabel("characters back")
axes.set_ylabel("gradient (relative to the last input)")
axes.grid(alpha=0.3)
plt.show()
for distance in (1, 10, 30, 60):
    print(f"{distance:2} characters back: {strength[distance] / strength[0]:.5f}")

# %% [markdown]
# On this scale a straight line is decay by a constant factor at each step, which is what a product
# of equal forget gates makes: 0.9, sixty times, leaves $0.9^{60} = 0.002$. Ours falls faster, and
# bends, since some cells keep longer than others. The LSTM was invented against this very thing and
# softens it, but does not end it. Everything about the past must squeeze through a state of fixed
# size, one step after the other. A GPT has no such state: it looks at every earlier token of its
# window directly, however far back it is. That is *attention*, and chapters 3 to 5 build it.
#
# That it *can* look back does not say that a small one has learnt to. The GPT of chapter 0 has a
# perplexity of 6.5 on its play, and the curve of its loss by position is soon as flat as this one.
# With a million characters and some minutes of training, counting is hard to beat; chapter 6 puts
# the numbers side by side.
#
# ## Exercises
#
# 1. *Easy.* With the twenty words: what is $p(\text{cat} \mid \text{his})$ under Kneser-Ney?
#    Compute it with a pencil from the tables above, then check it with `gk.NGramLM`.
# 2. *Easy.* More context needs more data. Fit orders 1 to 8 on one play, on two, on four and on all
#    eight, and draw the perplexity of the new play against the order. Where is each curve lowest?
# 3. *Medium.* How good is adding to the counts? Make a trigram model of characters that adds
#    $k$ to each count, find the best $k$, and compare with Kneser-Ney of order 3, in English and in
#    Chinese.
# 4. *Open.* Counts and networks make different mistakes. Mix an LSTM and a 5-gram,
#    $p = \alpha\, p_1 + (1 - \alpha)\, p_2$, and draw the loss on new text against $\alpha$. Is the
#    mixture better than both? Why?
#
# Solutions: `solutions/01_before_gpt.ipynb`.
#
# ## Further reading
#
# - S. Chen and J. Goodman, *An Empirical Study of Smoothing Techniques for Language Modeling*, 1999
#   (Computer Speech and Language 13), section 2 for the methods, section 3 for modified Kneser-Ney.
# - R. Kneser and H. Ney, *Improved Backing-off for M-gram Language Modeling*, 1995.
# - S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory*, 1997, sections 3 and 4; F. Gers,
#   J. Schmidhuber and F. Cummins, *Learning to Forget*, 2000: the forget gate.
# - W. Zaremba, I. Sutskever and O. Vinyals, *Recurrent Neural Network Regularization*, 2014,
#   section 3: the LSTM language model, and where its dropout goes.
# - Y. Bengio et al., *A Neural Probabilistic Language Model*, 2003, section 1: why contexts should
#   be computed with rather than counted.
