# %% [markdown]
# # 6. Pretraining
#
# Time on 2 CPU cores: about 5 minutes, or 1½ minutes with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapter 0; you have met the model's
# parts in chapters 2 to 5, but you can read this chapter without them.

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
if FAST:
    keras.config.set_max_steps_per_epoch(15)
keras.utils.set_random_seed(0)
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# - Turn documents of any length into batches for `model.fit`, and say what is in each batch.
# - Split off validation text so that its loss means something.
# - Choose the warm-up, the learning rate and what weight decay leaves alone, and see each of them.
# - Watch a model learn from its samples and from its validation loss, and stop when it overfits.
# - Save the model, load it, and export it as a SavedModel that takes strings and gives strings.
#
# You will do so with Shakespeare, in English, and with 唐诗三百首, the *Three Hundred Tang Poems*,
# in Chinese.
#
# ## The idea
#
# *Pretraining* is chapter 0 with more text: predict the next token, everywhere. The text comes as
# documents of different lengths, while a batch must be a rectangle. So the documents are *packed*:
# joined to one long stream, each closed by a token that says "the document ends here", and the
# stream is cut into windows of equal length. Nothing is padded, so no computation is wasted. The
# targets are the same stream, one token further on.

# %%
documents = ["山高月小", "水落石出", "月明星稀"]  # the hills are high, the moon is small, ...
tokens = [token for document in documents for token in [*document, "■"]]
shown = tokens if chinese else [t if t == "■" else f"{i}" for i, t in enumerate(tokens)]
figure, axes = plt.subplots(figsize=(9, 2.7), layout="constrained")
for i, token in enumerate(shown):
    face = ["#56B4E9", "#F0E442", "#FFFFFF"][i // 5]
    axes.add_patch(plt.Rectangle((i, 2), 1, 1, facecolor=face, edgecolor="black"))
    axes.text(i + 0.5, 2.5, token, ha="center", va="center", fontsize=15)
for window in range(3):
    for row, shift, colour in ((1, 0, "black"), (0, 1, "#D55E00")):
        left = 4 * window + shift
        axes.plot([left + 0.1, left + 3.9], [row + 0.5] * 2, color=colour, linewidth=4)
        axes.text(left + 2, row + 0.58, f"window {window}", ha="center", va="bottom")
axes.set_yticks([0.5, 1.5, 2.5], ["targets", "inputs", "stream"])
axes.set_xlim(0, 15)
axes.set_ylim(0.2, 3.1)
axes.set_xlabel("position in the stream (■ is the end of a document)")
plt.show()

# %% [markdown]
# Windows do not care where documents end: the first target of a poem is predicted from the end of
# another. That costs a little, and the model learns that after ■ something new begins.
#
# ## By hand
#
# The same three documents (four characters each, two by 蘇軾 and one by 曹操) in numbers.

# %%
characters = sorted(set("".join(documents)))
end_of_text = len(characters)
stream = []
for document in documents:
    stream += [characters.index(character) for character in document] + [end_of_text]
stream = np.array(stream)
print("ids:   ", {i: character for i, character in enumerate(characters)}, f"{end_of_text}: ■")
print("stream:", stream)

# %% [markdown]
# Windows of 4 tokens. Each needs one token more than it has inputs, for its last target; that token
# is also the first input of the next window, so every token but the first is a target once, save
# those that are left over at the end, here two.

# %%
length = 4
number = (len(stream) - 1) // length
windows = np.stack([stream[i * length : (i + 1) * length + 1] for i in range(number)])
hand_inputs, hand_targets = windows[:, :-1], windows[:, 1:]
for i in range(number):
    print(f"window {i}: inputs {hand_inputs[i]}, targets {hand_targets[i]}")

# %% [markdown]
# The learning rate, by hand as well. A fresh model's gradients are large and point all one way, and
# AdamW does not know their size yet, so the rate begins small and grows, the *warm-up*; then
# it shrinks along half a cosine, so that the last steps settle rather than jump about.

# %%
highest, lowest, warmup, total = 1e-3, 1e-4, 4, 12
hand_rates = []
for step in range(total):
    if step < warmup:
        rate = highest * (1 / warmup + (1 - 1 / warmup) * step / warmup)
    else:
        passed = (step - warmup) / (total - warmup)
        rate = lowest + (highest - lowest) * (1 + np.cos(np.pi * passed)) / 2
    hand_rates.append(rate)
print("learning rates:", np.round(hand_rates, 6))

# %% [markdown]
# ## The formula
#
# Let $s_0, \dots, s_{N-1}$ be the stream and $T$ the length of a window. Window $i$ has inputs and
# targets
#
# $$x^{(i)}_t = s_{iT + t} \qquad y^{(i)}_t = s_{iT + t + 1} \qquad t = 0, \dots, T - 1, \quad
#   i = 0, \dots, \lfloor (N - 1) / T \rfloor - 1$$
#
# and the loss of a batch of $B$ windows is the mean surprise, in nats per token:
#
# $$L = -\frac{1}{BT} \sum_{i} \sum_{t}
#   \ln p_\theta\bigl(y^{(i)}_t \mid x^{(i)}_0, \dots, x^{(i)}_t\bigr)$$
#
# AdamW changes each parameter $\theta$ with learning rate $\eta$ (a schedule), the running means
# $\hat m$ of its gradient and $\hat v$ of the gradient's square (both corrected for starting at 0),
# and weight decay $\lambda$:
#
# $$\theta \leftarrow \theta - \eta \left( \frac{\hat m}{\sqrt{\hat v} + \epsilon}
#   + \lambda\, \theta \right)$$
#
# where $\lambda = 0$ for biases, for the gains and offsets of norms, and for embeddings. Decay is
# meant to keep the kernels from growing; biases and gains are none, and in an embedding it would
# shrink the rows of rare tokens, which hardly ever get a gradient.
#
# ## The class
#
# `gk.datasets.language_modeling` packs, splits and shuffles. Of the three documents it makes the
# three windows that we made; only their order differs, for training windows are shuffled.

# %%
tokenizer = gk.tokenizers.CharacterTokenizer(characters, end_of_text=True)
toy, _ = gk.datasets.language_modeling(
    documents, tokenizer, sequence_length=4, batch_size=1, validation_fraction=0
)
made = [(x[0].tolist(), y[0].tolist()) for x, y in toy.as_numpy_iterator()]
for inputs, targets in made:
    print("inputs", inputs, "targets", targets)
assert sorted(made) == sorted(zip(hand_inputs.tolist(), hand_targets.tolist()))

# %% [markdown]
# The optimizer is `gk.training.adamw`. Its learning rate is the one computed by hand. With a
# gradient of 0 everywhere, all that a step does is decay: here all parameters are 1 before a step,
# with a learning rate of 0.1 and a decay of 0.5.

# %%
optimizer = gk.training.adamw(highest, warmup_steps=warmup, total_steps=total)
for step in range(total):
    optimizer.iterations.assign(step)
    np.testing.assert_allclose(float(optimizer.learning_rate), hand_rates[step], rtol=1e-5)
print("the same learning rates at all", total, "steps")

small = gk.GPT(
    gk.GPTConfig(vocabulary_size=8, max_sequence_length=8, num_layers=1, num_heads=2, hidden_dim=8)
)
small.set_weights([np.ones_like(weights) for weights in small.get_weights()])
optimizer = gk.training.adamw(0.1, warmup_steps=0, weight_decay=0.5)
zeros = [keras.ops.zeros_like(variable) for variable in small.trainable_variables]
optimizer.apply(zeros, small.trainable_variables)
after = {v.name: float(keras.ops.max(v)) for v in small.trainable_variables}
for name, value in after.items():
    print(f"{name:12} 1 -> {value:.3f}", "decayed" if value < 1 else "left alone")
np.testing.assert_allclose(after.pop("kernel"), 1 - 0.1 * 0.5, rtol=1e-6)
assert set(after.values()) == {1.0}

# %% [markdown]
# ## On real text
#
# **Shakespeare.** Nine plays, nine documents. Chapter 0 took characters as tokens; a byte-pair
# tokenizer of 1,024 tokens makes the same text less than half as long, so a window of 128 tokens
# reaches back more than twice as far. Two things to check before any training: what a window looks
# like, and that training and validation do not share documents.

# %%
plays = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.BytePairTokenizer.train(plays, vocabulary_size=1024)
train, validation = gk.datasets.language_modeling(
    plays, tokenizer, sequence_length=128, batch_size=16, seed=0
)
inputs, targets = next(train.as_numpy_iterator())
print("inputs: ", inputs.shape, [tokenizer.decode([i]) for i in inputs[0, :8]])
print("targets:", targets.shape, [tokenizer.decode([i]) for i in targets[0, :8]])

held_out = np.concatenate([x.ravel() for x, _ in validation.as_numpy_iterator()])
held_out_text = tokenizer.decode(held_out)
# The last characters may be cut in the middle, where the last window ends.
sources = [i for i, play in enumerate(plays) if held_out_text[:-10] in play]
print(f"validation has {len(held_out):,} tokens, all of them of play {sources}")

# %% [markdown]
# A whole play is held out, not some windows of each: the loss then says how the model does on a
# *new* play, with names and a plot that it has never seen. Now the model, the schedule, the
# training. `gk.training.adamw` is AdamW with the settings of GPT-3 (betas 0.9 and 0.95, weight
# decay 0.1, gradients clipped to a norm of 1) and the schedule from above. `SampleText` continues
# the same prompt after each epoch, with the same random numbers.

# %%
config = gk.GPTConfig(
    vocabulary_size=tokenizer.vocabulary_size,
    max_sequence_length=128,
    num_layers=1 if FAST else 2,
    num_heads=4,
    hidden_dim=128,
)
epochs = 4
steps = epochs * len(train)
optimizer = gk.training.adamw(3e-3, warmup_steps=steps // 20, total_steps=steps)
gk.plots.learning_rate(optimizer, steps)

# %%
model = gk.GPTCausalLM(config, tokenizer=tokenizer)
model.compile(optimizer)
untrained = model.evaluate(validation, verbose=0, return_dict=True)
print(f"{config.num_parameters:,} parameters")
print(f"loss before training {untrained['loss']:.3f}, ln V = {np.log(config.vocabulary_size):.3f}")

# %%
samples = gk.callbacks.SampleText("MACBETH.\n", max_new_tokens=40, temperature=0.7)
shakespeare = model.fit(
    train, validation_data=validation, epochs=epochs, verbose=2, callbacks=[samples]
)

# %% [markdown]
# **Tang poems.** A far smaller corpus with a far larger alphabet. One id for each character is the
# natural choice for Chinese, but many of the characters come only once, and nobody can learn much
# about a word from one example.

# %%
poems = gk.datasets.corpora.load("tang_poems")
different, times = np.unique(list("".join(poems)), return_counts=True)
print(f"{len(poems)} poems, {times.sum():,} characters; the plays have {len(''.join(plays)):,}")
print(f"{len(different):,} different characters, {(times == 1).sum():,} of them only once")
print(poems[1])

# %%
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
poem_train, poem_validation = gk.datasets.language_modeling(
    poems, hanzi, sequence_length=64, batch_size=8, seed=0
)


def poem_model(dropout):
    """A small GPT for the poems, compiled; the same initial weights each time."""
    keras.utils.set_random_seed(0)
    config = gk.GPTConfig(
        vocabulary_size=hanzi.vocabulary_size,
        max_sequence_length=64,
        num_layers=1 if FAST else 2,
        num_heads=4,
        hidden_dim=128,
        dropout=dropout,
    )
    model = gk.GPTCausalLM(config, tokenizer=hanzi)
    # XLA, TensorFlow's compiler, makes the steps faster: not worth its time for a few of them.
    model.compile(gk.training.adamw(3e-3, warmup_steps=50), jit_compile=not FAST)
    return model


# %%
poet = poem_model(dropout=0.0)
poem_history = poet.fit(
    poem_train,
    validation_data=poem_validation,
    epochs=3 if FAST else 10,
    verbose=2,
    callbacks=[gk.callbacks.SampleText("春", max_new_tokens=30, temperature=0.7)],
)

# %% [markdown]
# Two models with different tokens cannot be compared in nats per token. In bits per *character*
# they can, at least within a language: take the loss times the number of tokens, divide by the
# number of characters and by $\ln 2$.

# %%
for name, history, texts, used in (
    ("Shakespeare", shakespeare, plays, tokenizer),
    ("Tang poems", poem_history, poems, hanzi),
):
    nats = min(history.history["val_loss"])
    tokens_per_character = sum(map(len, used.encode(texts))) / sum(map(len, texts))
    bits = nats * tokens_per_character / np.log(2)
    print(
        f"{name:12} {nats:.3f} nats per token (ln V = {np.log(used.vocabulary_size):.3f}), "
        f"{tokens_per_character:.3f} tokens per character, {bits:.2f} bits per character"
    )

# %% [markdown]
# Bits per character also compare a GPT with the counts of chapter 1, here runs of up to seven
# characters of the eight plays of the training data, asked about the ninth:

# %%
letters = gk.tokenizers.CharacterTokenizer.train(plays)
counts = gk.NGramLM(3 if FAST else 7, letters).fit(
    [play for i, play in enumerate(plays) if i not in sources]
)
nats = [-counts.log_probabilities(letters.encode(plays[i])).mean() for i in sources]
print(f"counting: {np.mean(nats) / np.log(2):.2f} bits per character")

# %% [markdown]
# Counting is ahead: a million characters and some minutes of training are little for a GPT. But a
# table of counts gains nothing from more context than its runs have, and a GPT can, given more of
# both; chapter 9 measures one that had them. Until then, measure the simple thing first.

# %% [markdown]
# **Keep it.** A `.keras` file holds weights, config, tokenizer and optimizer; the loaded model
# writes the same text and could train on. A SavedModel holds the tokenizer and the whole generation
# loop, and needs nothing but TensorFlow: strings in, strings out.

# %%
model.save("shakespeare.keras")
loaded = keras.saving.load_model("shakespeare.keras")
settings = {"max_new_tokens": 30, "temperature": 0.7, "seed": 1}
written = model.generate("What is", **settings)
assert loaded.generate("What is", **settings) == written

gk.export.saved_model(model, "exported")
served = tf.saved_model.load("exported")
answer = served.generate(text=tf.constant(["What is"]), top_k=0, top_p=1.0, **settings)["text"]
assert answer.numpy()[0].decode() == written
print("the model, its file and its SavedModel all write:\n", written)

# %% [markdown]
# ## Look
#
# **Shakespeare's loss.** Both curves fall to the end. The gap between them is what the model has
# learnt of eight plays and cannot use in the ninth, such as their names. As long as the validation
# loss falls too, more training helps.

# %%
gk.plots.training(shakespeare)

# %% [markdown]
# **The poems' loss.** The training loss falls and falls, while the validation loss turns round
# after a few epochs: from there on the model learns the poems by heart, not Chinese.

# %%
figure = gk.plots.training(poem_history)
best = int(np.argmin(poem_history.history["val_loss"]))
figure.axes[0].axvline(best + 1, color="black", linestyle=":")
figure.axes[0].text(
    best + 1.1, figure.axes[0].get_ylim()[0], f"best: epoch {best + 1}", va="bottom"
)
figure

# %% [markdown]
# **Can it count?** A verse has five characters or seven, then a comma or a full stop. On poems that
# were held out: how likely is a mark, by the number of characters since the last mark or the
# beginning of the line, and how often is there one?

# %%
held_out_poems = np.concatenate([x for x, _ in poem_validation.as_numpy_iterator()])
is_mark = np.isin(held_out_poems, hanzi.encode("，。"))
begins = is_mark | np.isin(held_out_poems, [*hanzi.encode("\n"), hanzi.end_of_text_id])
chances = keras.ops.softmax(poet.predict(held_out_poems, verbose=0))
of_a_mark = np.array(chances)[:, :-1, hanzi.encode("，。")].sum(axis=-1)
places = np.arange(64)
since = places - np.maximum.accumulate(np.where(begins, places, -99), axis=1)
expected, counted = [], []
for number in range(1, 8):
    chosen = since[:, :-1] == number
    expected.append(of_a_mark[chosen].mean())
    counted.append(is_mark[:, 1:][chosen].mean())

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
axes.bar(np.arange(1, 8) - 0.2, counted, 0.4, color="#56B4E9", edgecolor="black", label="poems")
axes.bar(
    np.arange(1, 8) + 0.2,
    expected,
    0.4,
    color="white",
    edgecolor="black",
    hatch="//",
    label="model",
)
axes.set_xlabel("characters since the last mark or line break")
axes.set_ylabel("probability of a mark")
axes.legend()
plt.show()

# %% [markdown]
# The most likely characters in a held-out poem after its title, its author and the first five, four
# and three characters of its first verse:

# %%
if chinese:
    poem = "在嶽詠蟬\n駱賓王\n西陸蟬聲唱"
    display(gk.plots.next_tokens(poet, [poem, poem[:-1], poem[:-2]]))  # noqa: F821
else:
    print("no font here has Chinese glyphs; gk.plots.chinese_font() says how to get one")

# %% [markdown]
# A mark gets likelier with every character, but the steps at five and at seven are hardly there:
# the model has learnt about how long verses are, and does not count. In this verse it wants the
# comma one character too early.
#
# **The samples,** side by side: the first and the last of those that `SampleText` kept.

# %%
for seen, sample in (samples.samples[0], samples.samples[-1]):
    print(f"--- after {seen} batches\n{sample}\n")

# %% [markdown]
# ## What goes wrong
#
# **Overfitting.** You have seen it above. *Early stopping* keeps the weights of the best epoch and
# costs nothing: `keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)`
# is given to `fit` as one of its `callbacks`. *Dropout* hides a share of the activations in each
# training step, so that learning by heart gets harder. Compare the best epochs, and how much is
# lost by training on after them.

# %%
careful = poem_model(dropout=0.3)
careful_history = careful.fit(
    poem_train, validation_data=poem_validation, epochs=3 if FAST else 10, verbose=0
)
for name, history in (("without", poem_history), ("with", careful_history)):
    losses = history.history["val_loss"]
    best = int(np.argmin(losses))
    print(f"{name:8} dropout: best {losses[best]:.3f} in epoch {best + 1}, last {losses[-1]:.3f}")

# %% [markdown]
# With dropout little is lost by training on, a quarter of what is lost without. But dropout cannot
# replace text that is not there: its best epoch is no better. The remedy that always works is more
# text.
#
# **A split by window.** A common pipeline cuts overlapping windows, shuffles them, and takes a
# tenth for validation. Count how many of the validation windows' runs of 16 tokens stand in the
# training windows, too, against the split by document.


# %%
def shared_runs(train_ids, validation_ids, length=16):
    """Share of the runs of `length` tokens in validation windows that training has, too."""
    seen = {row[i : i + length].tobytes() for row in train_ids for i in range(112)}
    tested = {row[i : i + length].tobytes() for row in validation_ids for i in range(0, 112, 8)}
    return len(tested & seen) / len(tested)


ids = np.concatenate([np.array(tokenizer.encode(play), "int32") for play in plays])
overlapping = np.stack([ids[i : i + 128] for i in range(0, len(ids) - 128, 64)])
order = np.random.default_rng(0).permutation(len(overlapping))
tenth = len(order) // 10
by_window = shared_runs(overlapping[order[tenth:]], overlapping[order[:tenth]])
train_ids = np.concatenate([x for x, _ in train.as_numpy_iterator()])
by_document = shared_runs(train_ids, held_out.reshape(-1, 128))
print(f"split by window: {by_window:.1%} of the validation runs are in the training data")
print(f"split by document: {by_document:.1%}")

# %% [markdown]
# **Targets that are not shifted.** If targets equal inputs, the loss soon looks wonderful: the
# model sees the answer and copies it. What it writes gives it away. And **a learning rate that is
# too high**: the first steps throw the model to where it learns little. Three short trainings of
# one model, that differ in one thing each:


# %%
def short_run(learning_rate, warmup_steps, data):
    """Train a model of one layer for 100 steps; return it and its mean loss over the last 50."""
    keras.utils.set_random_seed(0)
    model = gk.GPTCausalLM(config.replace(num_layers=1, hidden_dim=64), tokenizer=tokenizer)
    optimizer = gk.training.adamw(learning_rate, warmup_steps=warmup_steps)
    model.compile(optimizer, jit_compile=not FAST)
    history = model.fit(data, steps_per_epoch=50, epochs=2, verbose=0)
    return model, history.history["loss"][-1]


right, right_loss = short_run(3e-3, 20, train)
copier, copier_loss = short_run(3e-3, 20, train.map(lambda inputs, targets: (inputs, inputs)))
wild, wild_loss = short_run(0.3, 20, train)
for name, loss in (
    ("right", right_loss),
    ("not shifted", copier_loss),
    ("learning rate 0.3", wild_loss),
):
    print(f"{name}: loss {loss:.3f}")
for name, tried in (("right", right), ("not shifted", copier), ("learning rate 0.3", wild)):
    written = tried.generate("MACBETH.\nI", max_new_tokens=12, temperature=0.7, seed=0)
    print(f"{name} writes {written!r}")

# %% [markdown]
# Always read a sample before you trust a loss, and be suspicious of a loss that is too good.
#
# ## Exercises
#
# 1. *Easy.* Three documents have 1,000, 50 and 700 tokens. How many windows of 128 do they give,
#    when each is closed by an end-of-text token? How many tokens are left over? Check it with
#    `language_modeling`.
# 2. *Easy.* Train on the poems with a byte-pair tokenizer of 1,024 tokens instead of characters.
#    Which has the lower loss in nats per token, which in bits per character? Why do they disagree?
# 3. *Medium.* Train with `sequence_length=32` a model whose `max_sequence_length` is 64, and draw
#    its loss by position on windows of 64. What happens after position 32, and why?
# 4. *Open.* Make one byte-pair tokenizer and one model for the plays and the poems together. Does
#    the loss on held-out poems get better or worse than with the poems alone?
#
# Solutions: `solutions/06_pretraining.ipynb`.
#
# ## Further reading
#
# - T. Brown et al., *Language Models are Few-Shot Learners* (GPT-3), 2020, sections 2.2 and 2.3,
#   and appendix B: the optimizer's settings in this chapter.
# - I. Loshchilov and F. Hutter, *Decoupled Weight Decay Regularization*, 2019, section 2.
# - P. Goyal et al., *Accurate, Large Minibatch SGD*, 2017, section 2.2: warm-up.
# - K. Lee et al., *Deduplicating Training Data Makes Language Models Better*, 2022: what shared
#   text does to a validation loss.
# - J. Hoffmann et al., *Training Compute-Optimal Large Language Models*, 2022, section 3: how much
#   text a model of a given size wants.
