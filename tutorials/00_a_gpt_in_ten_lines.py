# %% [markdown]
# # 0. A GPT in ten lines
#
# Time on 2 CPU cores: about 3 minutes, or 1 minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need to know `model.fit`, and little else.

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
from itertools import pairwise

import keras
import matplotlib.pyplot as plt
import numpy as np

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(20)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## What you will be able to do
#
# Train a small GPT on nine plays of Shakespeare and let it continue a text. Here are the ten lines;
# run them now, and read on while they work. At the end of the chapter you will be able to
#
# - say what a language model is, and build the simplest one with a pencil;
# - compute its loss, the *cross-entropy*, by hand, and get the number that Keras gets;
# - read a training curve in nats and in perplexity, and say what a good value would be;
# - recognise the five mistakes that everybody makes first.

# %%
import gpt_keras as gk

text = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.CharacterTokenizer.train(text, end_of_text=True)
train, held_out = gk.datasets.language_modeling(text, tokenizer, sequence_length=96, batch_size=32)
shape = dict(max_sequence_length=96, num_layers=2, num_heads=4, hidden_dim=128)
config = gk.GPTConfig(vocabulary_size=tokenizer.vocabulary_size, **shape)
model = gk.GPTCausalLM(config, tokenizer=tokenizer)
model.compile(gk.training.adamw(3e-3, warmup_steps=50))
history = model.fit(train, validation_data=held_out, epochs=3, verbose=2)
print(model.generate("MACBETH.\n", temperature=0.7, seed=0))

# %% [markdown]
# It is no Shakespeare, but a few minutes ago it was random numbers: it has found out letters,
# words, line ends and the form of a play, from nothing but the text. The rest of the chapter takes
# these ten lines apart. (They take windows of 96 characters; two layers, four attention heads and
# vectors of 128 numbers, which chapters 3 to 5 explain; and a learning rate that grows during the
# first 50 steps, which chapter 6 does.)
#
# ## The idea
#
# A *language model* answers one question: given the text so far, what comes next? Its answer is not
# one letter but a probability for every letter of the alphabet. We can make such a model by
# counting. The picture shows it for the plays: how often each character comes at all, how often
# after a `q`, and how often after a full stop.

# %%
joined = "".join(text)
figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
for axes, before in zip(panels, ["", "q", "."]):
    followers = [b for a, b in pairwise(joined) if before in ("", a)]
    characters, counts = np.unique(followers, return_counts=True)
    best = np.argsort(-counts)[:7]
    names = [characters[i].replace(" ", "␣").replace("\n", "⏎") for i in best]
    axes.bar(names, counts[best] / counts.sum(), color="#56B4E9", edgecolor="black")
    axes.set_title(f"after “{before}”" if before else "after anything")
    axes.set_xlim(-0.7, 6.7)
panels[0].set_ylabel("probability of the next character")
plt.show()

# %% [markdown]
# Whoever sees a `q` knows almost surely what comes next; whoever sees nothing can only say "a
# space, perhaps". *More context makes the next character less surprising*, and a GPT is a machine
# that uses a lot of context. To write, it draws a character from its probabilities, adds it to the
# text, and asks again.
#
# ## By hand
#
# A text of ten words, small enough to count. Each different word is a *token* and has a number, its
# *id*.

# %%
words = ["the", "cat", "sat", "on", "the", "mat", ".", "the", "cat", "ran"]
vocabulary = sorted(set(words))
ids = np.array([vocabulary.index(word) for word in words])
print("vocabulary:", dict(enumerate(vocabulary)))
print("ids:       ", ids)

# %% [markdown]
# The simplest model that looks back at all looks back one token: a *bigram* model. Count how often
# token `j` follows token `i`, and divide each row by its sum.

# %%
size = len(vocabulary)
counts = np.zeros((size, size), int)
for before, after in pairwise(ids):
    counts[before, after] += 1
followed = counts.sum(axis=1, keepdims=True)  # `ran` is last: nothing follows it
probabilities = counts / np.maximum(followed, 1)
print("        " + "".join(f"{word:>7}" for word in vocabulary))
for word, row in zip(vocabulary, probabilities):
    print(f"{word:>7} " + "".join(f"{p:7.2f}" for p in row))

# %% [markdown]
# After `the` comes `cat` two times in three and `mat` one time in three. How good is this model? At
# each of the nine steps, look up the probability $p$ that it gave to the word that really came, and
# take $-\ln p = \ln(1/p)$, the *surprise* in nats: 0 where the model was certain and right, large
# where it had held the word for unlikely. The mean is the *cross-entropy*, which is the loss of
# every GPT.

# %%
given = probabilities[ids[:-1], ids[1:]]
surprise = np.log(1 / given)
for (before, after), p, nats in zip(pairwise(words), given, surprise):
    print(f"{before:>4} -> {after:<4} p = {p:.3f}   -ln p = {nats:.3f}")
hand_loss = surprise.mean()
print(f"cross-entropy = {hand_loss:.4f} nats per token, perplexity = {np.exp(hand_loss):.4f}")

# %% [markdown]
# The *perplexity*, $e^{\text{loss}}$, reads more easily: the model is as unsure as if it had to
# choose, at each step, among that many equally likely words. Writing is drawing from the rows:

# %%
generator = np.random.default_rng(4)
written = ["the"]
while written[-1] != "ran":
    row = probabilities[vocabulary.index(written[-1])]
    written.append(str(generator.choice(vocabulary, p=row)))
print(" ".join(written))

# %% [markdown]
# ## The formula
#
# A text is a sequence of token ids $x_1, \dots, x_T$. Any probability of the whole text can be
# written as a product of next-token probabilities, and a language model with parameters $\theta$ is
# a function that computes the factors:
#
# $$p_\theta(x_1, \dots, x_T) = \prod_{t=1}^{T} p_\theta(x_t \mid x_1, \dots, x_{t-1})$$
#
# The network gives one number for each token $v$ of the vocabulary of size $V$, its *logit* $z_v$,
# and the softmax makes probabilities of them. The loss is the mean surprise. (By hand the first
# word was left out, since nothing stood before it.)
#
# $$p_\theta(v \mid x_{<t}) = \frac{e^{z_v}}{\sum_{u=1}^{V} e^{z_u}} \qquad
#   L(\theta) = -\frac{1}{T} \sum_{t=1}^{T} \ln p_\theta(x_t \mid x_{<t}) \qquad
#   \text{perplexity} = e^{L}$$
#
# A bigram model looks only at $x_{t-1}$ and is a table of $V \times V$ numbers; a GPT looks at all
# of $x_1, \dots, x_{t-1}$, with a network whose parts are the matter of chapters 2 to 5. The
# formulas above are the same for both. A model that knows nothing gives each token $1/V$, and its
# loss is $\ln V$.
#
# ## The class
#
# `gk.CausalLM` turns any network from ids to logits into a language model that you can `compile`,
# `fit` and `evaluate`. Our table is such a network: an `Embedding` whose row `i` holds the logits
# that follow token `i`. Logarithms of probabilities are logits, for the softmax gives the
# probabilities back.

# %%
table = keras.layers.Embedding(size, size)
bigram = gk.CausalLM(keras.Sequential([keras.Input((None,), dtype="int32"), table]))
table.set_weights([np.log(probabilities + 1e-12)])  # the logarithm of 0 is minus infinity
bigram.compile()
inputs, targets = ids[None, :-1], ids[None, 1:]
result = bigram.evaluate(inputs, targets, verbose=0, return_dict=True)
print(result)
print(f"by hand: loss {hand_loss:.6f}, perplexity {np.exp(hand_loss):.6f}")
np.testing.assert_allclose(result["loss"], hand_loss, rtol=1e-5)
np.testing.assert_allclose(result["perplexity"], np.exp(hand_loss), rtol=1e-5)

# %% [markdown]
# The same number, so nothing is hidden in `CausalLM`. And counting was not needed: start from
# random logits, let `fit` make the loss small, and the counts come out. *Training a language model
# is counting, by gradient descent*, and it still works where there is too much context to count.

# %%
table.set_weights([np.random.default_rng(0).normal(size=(size, size))])
bigram.compile(keras.optimizers.Adam(0.3))
# Two hundred copies of the text in one epoch; the fast setting takes 20 steps of them.
bigram.fit(np.repeat(inputs, 200, axis=0), np.repeat(targets, 200, axis=0), batch_size=1, verbose=0)
learnt = np.array(keras.ops.softmax(table.get_weights()[0]))
the = vocabulary.index("the")
print("after `the`, counted:", probabilities[the].round(3))
print("after `the`, learnt: ", learnt[the].round(3))

# %% [markdown]
# ## On real text
#
# Back to the plays. How good is the loss of the GPT that we trained? By itself a number like 1.9
# says little, so here are three simpler models to compare with, on the same validation text, which
# none of them has seen: equal chances, counted characters, counted pairs of characters. The data is
# what `fit` got: pairs of inputs and of targets, which are the inputs shifted by one.

# %%
size = tokenizer.vocabulary_size
pairs = np.ones((size, size))  # each pair once more than it was seen: nothing is impossible
for inputs, targets in train:
    np.add.at(pairs, (inputs.numpy().ravel(), targets.numpy().ravel()), 1)
unigram_loss = -np.log(pairs.sum(axis=0) / pairs.sum())
bigram_loss = -np.log(pairs / pairs.sum(axis=1, keepdims=True))

batches = list(held_out.as_numpy_iterator())
before = np.concatenate([inputs for inputs, _ in batches])
after = np.concatenate([targets for _, targets in batches])
print("a window of inputs: ", repr(tokenizer.decode(before[0, :40])))
print("its targets:        ", repr(tokenizer.decode(after[0, :40])))

# %%
losses = {
    "equal chances": np.log(size),
    "counted characters": unigram_loss[after].mean(),
    "counted pairs": bigram_loss[before, after].mean(),
    "GPT": model.evaluate(held_out, verbose=0, return_dict=True)["loss"],
}
print("                    nats per character   perplexity   bits per character")
for name, loss in losses.items():
    print(f"{name:20}{loss:18.3f}{np.exp(loss):13.1f}{loss / np.log(2):21.2f}")

# %% [markdown]
# Perplexity says it best: where the table of pairs is unsure among a dozen characters, the GPT is
# among about half as many. Its loss is the same mean of $-\ln p$ as by hand: take the logits of a
# batch, the softmax, the probability of what came.

# %%
inputs, targets = batches[0]
probabilities = keras.ops.softmax(model.predict(inputs, verbose=0))
given = np.take_along_axis(np.array(probabilities), targets[:, :, None], axis=-1)
by_hand = -np.log(given).mean()
by_keras = model.evaluate(inputs, targets, verbose=0, return_dict=True)["loss"]
print(f"by hand {by_hand:.6f}, by Keras {by_keras:.6f}")
print(f"{config.num_parameters:,} parameters, {sum(map(len, text)):,} characters in the corpus")
np.testing.assert_allclose(by_hand, by_keras, rtol=1e-4)

# %% [markdown]
# ## Look
#
# **The training curve.** The loss at the left and the perplexity at the right are the same curve.
# The training loss is the mean over an epoch, so it is drawn in the middle of the epoch, and the
# validation loss, measured at the end, at the end.

# %%
gk.plots.training(history)

# %% [markdown]
# **What it expects.** The most likely next characters after three beginnings. Compare the first
# with the `q` of the counted pairs.

# %%
gk.plots.next_tokens(model, ["The q", "MACBET", "To be, or not t"])

# %% [markdown]
# **What context is worth.** The mean loss at each position of the window. At the first position the
# GPT has seen one character, and can do no better than the table of pairs; then it draws away.

# %%
logits = model.predict(before, verbose=0)
gpt_losses = keras.losses.sparse_categorical_crossentropy(
    after[: len(logits)], logits, from_logits=True
)
gk.plots.loss_by_position(
    {"counted pairs": bigram_loss[before, after], "GPT": np.array(gpt_losses)}
)

# %% [markdown]
# **Where it is surprised.** 48 characters of the validation text, and the surprise at each. The
# beginnings of most words are hard and most ends are easy; the two highest bars are semicolons,
# where the model thought that the sentence would go on.

# %%
line, nats = after[1, :48], np.array(gpt_losses)[1, :48]
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
axes.bar(range(len(line)), nats, color="#D55E00", edgecolor="black")
characters = tokenizer.decode(line).replace(" ", "␣").replace("\n", "⏎")
axes.set_xticks(range(len(line)), characters, fontfamily="monospace")
axes.axhline(np.log(size), linestyle="--", color="black", label="equal chances")
axes.set_ylabel("surprise (nats)")
axes.set_xlim(-1, len(line))
axes.legend()
plt.show()

# %% [markdown]
# ## What goes wrong
#
# **A character it has never seen.** The tokenizer knows the characters of the plays and no others.
# It says so rather than skip them. (Byte-pair encoding, in chapter 2, knows every text.)

# %%
try:
    model.generate("床前明月光")
except ValueError as error:
    print(error)

# %% [markdown]
# **Probabilities where logits belong.** In Keras the *name* of the cross-entropy means the one that
# expects probabilities. On logits it computes a wrong loss without a word; `gpt_keras` refuses.

# %%
try:
    model.compile(loss="sparse_categorical_crossentropy")
except ValueError as error:
    print(error)
wrong = keras.losses.sparse_categorical_crossentropy(after[:32], logits[:32])
print(f"what Keras would have reported: {float(np.mean(wrong)):.2f}, right: {by_hand:.2f}")

# %% [markdown]
# **Never drawing.** The *temperature* divides the logits before the softmax: below 1 the likely
# characters get likelier still, above 1 the unlikely ones do. Temperature 0 takes the most likely
# character each time, which sounds like the best text there is. It runs in circles.

# %%
for temperature in (0, 0.7, 1.5):
    print(f"--- temperature {temperature}")
    print(model.generate("I will", temperature=temperature, seed=1))

# %% [markdown]
# **Zero counts.** Without the one that we added to each count, one pair in the validation text that
# the training text does not have makes the loss of the whole infinite.

# %%
unseen = (pairs[before, after] == 1).sum()
with np.errstate(divide="ignore", invalid="ignore"):
    raw = -np.log((pairs - 1) / (pairs - 1).sum(axis=1, keepdims=True))
print(f"{unseen} of {after.size:,} pairs were never seen in training")
print("loss without the added one:", raw[before, after].mean())
print("loss with the added one:   ", bigram_loss[before, after].mean().round(4))

# %% [markdown]
# **The end of the window.** The model has learnt positions 0 to 95 and has no others. Generation
# stops there, however much was asked for.

# %%
print(len(model.generate("I will", max_new_tokens=500, seed=0)), "characters")

# %% [markdown]
# ## Exercises
#
# 1. *Easy.* With the table of the ten words: what is the probability of `the mat . the cat`, given
#    that it begins with `the`? What is the loss of that sentence?
# 2. *Easy.* Change one word of the ten lines to train on Chinese poems (`"tang_poems"`). The loss
#    is far higher. Is the model worse? Compare with $\ln V$ and with counted characters.
# 3. *Medium.* Count triples instead of pairs: the next character given the last two. Is its
#    validation loss lower? What do you have to add to the counts, and how many of them are 0?
# 4. *Open.* The table of pairs can be trained but not asked to `generate`, which needs the methods
#    `initial_cache`, `extend` and `write` (see `help(gk.CausalLM)`). Write them: a bigram model has
#    nothing to remember. Then read what it writes and compare it with the GPT.
#
# Solutions: `solutions/00_a_gpt_in_ten_lines.ipynb`.
#
# ## Further reading
#
# - C. Shannon, *A Mathematical Theory of Communication*, 1948, sections 2 and 3: texts drawn from
#   counted characters, pairs and triples; section 6: entropy.
# - Y. Bengio et al., *A Neural Probabilistic Language Model*, 2003, sections 1 and 2: a network in
#   place of the counts.
# - A. Radford et al., *Improving Language Understanding by Generative Pre-Training* (GPT-1), 2018,
#   section 3.1: the loss of this chapter.
# - A. Radford et al., *Language Models are Unsupervised Multitask Learners* (GPT-2), 2019, section
#   2.
