# %% [markdown]
# # 7. Saying it
#
# Time on 2 CPU cores: about 3 minutes, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which cuts the training short. You need chapter 0; chapter 6 trains such
# models with more care, and chapter 4 explains the attention that one section here takes apart
# again.

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
import itertools
import os
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.generation.processors import Context

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(15)
keras.utils.set_random_seed(0)
COLOURS = ["#56B4E9", "#F0E442", "#009E73", "#E69F00", "#CC79A7", "#0072B2", "#D55E00", "#555555"]
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# - Say what temperature, top-k, top-p and a repetition penalty do to a distribution, and compute
#   each of them with a pencil.
# - Search for the likeliest text with beams, and say why you rarely want it.
# - Tell how likely, how varied and how repetitive the texts of a strategy are, and compare them
#   with texts that people wrote.
# - Stream a text, stop it where you want, and get the same text again from the same seed.
# - Build the *KV cache* that makes generation fast, and measure what it saves.
#
# ## The idea
#
# A language model does not write. It gives a probability for each token that may come next, and
# somebody has to choose. Think of the probabilities as a bar of length 1, divided among the tokens,
# and of choosing as throwing a dart at it with your eyes shut: a likely token is a wide target. All
# the settings of this chapter are ways to redraw the bar before the dart is thrown.

# %%
words = ["風", "雨", "月", "花", "魚"] if chinese else ["wind", "rain", "moon", "blossom", "fish"]
chances = np.array([0.45, 0.25, 0.15, 0.10, 0.05])  # what may come after “the spring ...”
bars = {
    "as the model says": chances,
    "temperature 0.5": chances**2 / (chances**2).sum(),
    "temperature 2": chances**0.5 / (chances**0.5).sum(),
    "top-k, k = 2": np.where(chances >= 0.25, chances, 0) / 0.7,
    "top-p, p = 0.8": np.where(chances >= 0.15, chances, 0) / 0.85,
}
figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
for row, shares in enumerate(bars.values()):
    left, hatches = np.cumsum(shares) - shares, ["", "//", "..", "xx", "oo"]
    axes.barh([row] * 5, shares, left=left, color=COLOURS[:5], edgecolor="black", hatch=hatches)
    for i in np.flatnonzero(shares > 0.045):  # a label needs room
        box = {"facecolor": "white", "pad": 1.5}
        axes.text(left[i] + shares[i] / 2, row, words[i], ha="center", va="center", bbox=box)
axes.plot([0.62] * 2, [-0.6, 4.6], color="black", linestyle="--")
axes.text(0.625, -0.55, "a dart at 0.62", va="bottom")
axes.set_yticks(range(len(bars)), bars)
axes.set(ylim=(4.6, -1.1), xlim=(0, 1), xlabel="probability, laid end to end")
plt.show()

# %% [markdown]
# The five words are wind, rain, moon, blossom and fish. A low *temperature* makes wide targets
# wider, a high one makes all of them more alike. *Top-k* leaves only the $k$ widest, *top-p* the
# widest that together cover a share $p$ of the bar. At temperature 0 nothing is drawn any more: the
# widest always wins, which is called *greedy*. The same dart ends in different words.
#
# ## By hand
#
# **Redrawing the bar.** The model's output is five *logits*; the softmax makes probabilities of
# them. Temperature divides the logits. Top-k and top-p set those that are left out to minus
# infinity, whose exponential is 0, and the softmax shares the rest out again.

# %%
logits = np.array([2.0, 1.2, 0.5, 0.0, -1.0])


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def temperature(logits, t):
    return logits / t


def top_k(logits, k):
    smallest_kept = np.sort(logits)[-k]
    return np.where(logits >= smallest_kept, logits, -np.inf)


def top_p(logits, p):
    order = np.argsort(-logits)  # the most likely first
    before = np.cumsum(softmax(logits)[order]) - softmax(logits)[order]
    kept = order[before < p]  # those that were needed to reach p
    return np.where(np.isin(np.arange(len(logits)), kept), logits, -np.inf)


# %%
hand = {
    "as it is": logits,
    "temperature 0.5": temperature(logits, 0.5),
    "temperature 2": temperature(logits, 2.0),
    "top-k, k = 2": top_k(logits, 2),
    "top-p, p = 0.8": top_p(logits, 0.8),
}
print("                   " + "".join(f"word {i}  " for i in range(5)))
for name, changed in hand.items():
    print(f"{name:17}" + "".join(f"{p:8.3f}" for p in softmax(changed)))

# %% [markdown]
# The order matters. Top-p at 0.8 keeps three words here; after a temperature of 0.5 two of them
# already reach 0.8. (The package applies the temperature first, as most programs do.)

# %%
for t in (0.5, 1.0, 2.0):
    kept = np.isfinite(top_p(temperature(logits, t), 0.8)).sum()
    print(f"temperature {t}: top-p 0.8 keeps {kept} words")

# %% [markdown]
# **Throwing the dart.** Draw a number $u$ between 0 and 1, go along the bar, and take the word in
# which $u$ lies. With many darts the shares come out.

# %%
ends = np.cumsum(softmax(logits))  # where each word's part of the bar ends
darts = np.random.default_rng(0).random(10_000)
drawn = (ends <= darts[:, None]).sum(axis=1)
print("ends: ", ends.round(3))
print("darts:", darts[:6].round(3), "-> words", drawn[:6])
print("share of 10,000 darts:", (np.bincount(drawn, minlength=5) / 10_000).round(3))

# %% [markdown]
# **A penalty for what was said.** Words 0 and 4 stand in the text already. A *repetition penalty*
# $r > 1$ makes their logits smaller: it divides a positive logit and multiplies a negative one.

# %%
said, penalty = [0, 4], 1.5
penalized = logits.copy()
for i in said:
    penalized[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
print("before:", softmax(logits).round(3))
print("after: ", softmax(penalized).round(3))

# %% [markdown]
# **The likeliest text.** Greedy takes the likeliest *word* each time. That is not the way to the
# likeliest *text*. Here is a model with three words and one rule: what comes next depends on the
# last word alone.

# %%
toy_words = ["夜", "風", "雨"]  # night, wind, rain
table = np.array([[0.10, 0.50, 0.40], [0.32, 0.35, 0.33], [0.04, 0.90, 0.06]])
steps = 3


def log_probability(path):
    return sum(np.log(table[i, j]) for i, j in itertools.pairwise((0, *path)))


every_path = sorted(itertools.product(range(3), repeat=steps), key=log_probability, reverse=True)
print(f"{len(every_path)} texts of {steps} words after 夜; the four likeliest, and the greedy one:")
greedy_path = []
for _ in range(steps):
    greedy_path.append(int(table[greedy_path[-1] if greedy_path else 0].argmax()))
for path in [*every_path[:4], tuple(greedy_path)]:
    text = "".join(toy_words[i] for i in path)
    print(f"夜{text}  p = {np.exp(log_probability(path)):.4f}")

# %% [markdown]
# Greedy takes 風 at its second step, because 0.35 is more than 0.33, and never finds out that after
# 雨 it would have been almost sure of its next word. To compare *all* texts takes $3^3$ of them
# here, and $50{,}000^{100}$ in earnest. *Beam search* is between the two: keep the $b$ likeliest
# beginnings, the *beams*, continue each by every word, and keep the $b$ likeliest of those.


# %%
def beam_search(num_beams):
    beams = [((), 0.0)]
    for step in range(steps):
        longer = [
            ((*path, word), score + np.log(table[path[-1] if path else 0, word]))
            for path, score in beams
            for word in range(3)
        ]
        beams = sorted(longer, key=lambda beam: beam[1], reverse=True)[:num_beams]
        shown = [f"夜{''.join(toy_words[i] for i in p)} {np.exp(s):.4f}" for p, s in beams]
        print(f"{num_beams} beams, step {step + 1}: {', '.join(shown)}")
    return beams


one, two, three = beam_search(1), beam_search(2), beam_search(3)
assert one[0][0] == tuple(greedy_path)
assert one[0][1] < two[0][1] < three[0][1]
assert three[0][0] == every_path[0]

# %% [markdown]
# One beam is greedy. Two beams find a text that is twice as likely, and still lose the best one on
# the way: look for its beginning, 夜風雨, among their second steps. Three find it. Beam search
# promises nothing, but more beams rarely do worse.
#
# **Remembering keys and values.** To write a token, attention needs the *query* of the newest token
# and the *keys* and *values* of all tokens so far (chapter 4). The old keys and values do not
# change when a token is added, because no token looks ahead. So they can be kept: the *KV cache*.
# One head with width 4, six tokens, first all at once:

# %%
generator = np.random.default_rng(1)
x = generator.normal(size=(6, 4))  # six tokens, as the head gets them
to_query, to_key, to_value = generator.normal(size=(3, 4, 4))

queries, keys, values = x @ to_query, x @ to_key, x @ to_value
scores = queries @ keys.T / np.sqrt(4)
scores[np.triu_indices(6, k=1)] = -np.inf  # no looking ahead
full = np.stack([softmax(row) for row in scores]) @ values
print("full pass, last token:", full[-1].round(4))

# %% [markdown]
# And one token at a time. Each step makes one query, one key and one value, and no more.

# %%
cached_keys, cached_values, outputs = [], [], []
for token in x:
    cached_keys.append(token @ to_key)
    cached_values.append(token @ to_value)
    weights = softmax(np.array(cached_keys) @ (token @ to_query) / np.sqrt(4))
    outputs.append(weights @ np.array(cached_values))
print("with cache, last token:", outputs[-1].round(4))
np.testing.assert_allclose(outputs, full, rtol=1e-10)

n = 100
print(f"writing {n} tokens runs {n} tokens through the model with a cache,")
print(f"and 1 + 2 + ... + {n} = {n * (n + 1) // 2} without one")

# %% [markdown]
# ## The formula
#
# With logits $z_v$ for the tokens $v$ of the vocabulary, temperature $\tau > 0$ and a set $K$ of
# tokens that may come, the next token is drawn from
#
# $$q(v) = \frac{e^{z_v / \tau}}{\sum_{u \in K} e^{z_u / \tau}} \quad \text{for } v \in K,
#   \qquad q(v) = 0 \text{ otherwise.}$$
#
# As $\tau \to 0$ all of it goes to the largest logit: greedy. With top-k, $K$ holds the $k$ largest
# logits. With top-p it is the smallest set, likeliest tokens first, for which $\sum_{v \in K} p(v)
# \ge p$, where $p(v)$ are the probabilities after the temperature. The repetition penalty $r$
# replaces $z_v$, for every $v$ in the text so far, by $z_v / r$ if $z_v > 0$ and by $z_v\, r$
# otherwise. Beam search draws nothing: it looks for the continuation $y_1, \dots, y_n$ of a prompt
# $x$ with the largest
#
# $$\text{score}(y) = \frac{1}{n^{\alpha}} \sum_{t=1}^{n}
#   \ln p_\theta(y_t \mid x, y_1, \dots, y_{t-1})$$
#
# where $\alpha$, the *length penalty*, keeps short texts from winning only because they have fewer
# factors. And the KV cache is this: with keys $k_1, \dots, k_t$ and values $v_1, \dots, v_t$ kept,
# the output of a head for the newest token needs only its own query $q_t$:
#
# $$o_t = \sum_{s=1}^{t} a_s v_s \qquad a_s = \frac{e^{q_t \cdot k_s / \sqrt{d_k}}}
#   {\sum_{r=1}^{t} e^{q_t \cdot k_r / \sqrt{d_k}}}$$
#
# ## The class
#
# Every setting that changes logits is a *logits processor*. They stand in one table,
# `gk.generation.PROCESSORS`, in the order in which they are applied; `generate`, the command line
# and the exported SavedModel all read it.

# %%
for name, processor in gk.generation.PROCESSORS.items():
    print(f"{name:21}{processor.help}")

# %% [markdown]
# The four that we made by hand give the same numbers. A penalty also gets the tokens so far.

# %%
row = tf.constant(logits[None], tf.float32)
settings = {
    "temperature 0.5": ("temperature", 0.5),
    "temperature 2": ("temperature", 2.0),
    "top-k, k = 2": ("top_k", 2),
    "top-p, p = 0.8": ("top_p", 0.8),
}
for label, (name, value) in settings.items():
    changed = gk.generation.PROCESSORS[name].apply(row, tf.constant(value))[0].numpy()
    print(f"{label:17}", changed)
    np.testing.assert_allclose(changed, hand[label], rtol=1e-6)
context = Context.of_rows([said])
changed = gk.generation.PROCESSORS["repetition_penalty"].apply(row, tf.constant(1.5), context)
print("penalty 1.5      ", changed[0].numpy())
np.testing.assert_allclose(changed[0], penalized, rtol=1e-6)

# %% [markdown]
# How a token is chosen is a *strategy*: `Sampling` (with temperature 0 for greedy), `BeamSearch`,
# `BestOf` and others. They work with any backbone that has three methods for its cache. A table of
# logits needs no cache, so for our toy model each is one line.


# %%
class Table(keras.Sequential):
    """A table of logits, as a backbone that `gk.CausalLM` can generate with."""

    def initial_cache(self, batch_size, length):
        return []

    def extend(self, token_ids, cache, index, starts):
        return self(token_ids), []

    def write(self, cache, update, index):
        return cache


rows = keras.layers.Embedding(3, 3)
toy = gk.CausalLM(Table([keras.Input((None,), dtype="int32"), rows]))
rows.set_weights([np.log(table)])
strategy = gk.generation.BeamSearch(3)
found = toy.generate_with_scores([0], max_new_tokens=steps, strategy=strategy)
for continuation, (path, score) in zip(found, three, strict=True):
    print(continuation.token_ids, f"score {continuation.score:.4f}, by hand {score / steps:.4f}")
    assert tuple(continuation.token_ids) == path
    np.testing.assert_allclose(continuation.score, score / steps, rtol=1e-4)

# %% [markdown]
# The same three methods are the cache of a GPT. `extend` runs new tokens against the keys and
# values of the earlier ones, `write` puts theirs beside them. Token by token it gives the logits of
# the full pass.

# %%
tiny = gk.GPT(
    gk.GPTConfig(vocabulary_size=9, max_sequence_length=8, num_layers=2, num_heads=2, hidden_dim=8)
)
ids = np.array([[3, 1, 4, 1, 5, 8]])
cache, one_by_one = tiny.initial_cache(batch_size=1, length=6), []
for index in range(6):
    step, update = tiny.extend(ids[:, index : index + 1], cache, index, starts=np.array([0]))
    cache = tiny.write(cache, update, index)
    one_by_one.append(step[0, 0])
np.testing.assert_allclose(one_by_one, tiny(ids)[0], atol=1e-5)
print("largest difference:", float(np.abs(np.array(one_by_one) - tiny(ids)[0]).max()))
print("keys of the first block:", cache[0][0].shape, "(batch, heads, positions, width of a head)")

# %% [markdown]
# ## On real text
#
# Two small models, one for Shakespeare and one for the Tang poems, both with byte-pair tokens and
# trained as in chapter 6. They are no great poets. For this chapter that is as well: what a
# strategy does to a model shows more clearly where the model is often wrong.


# %%
def train(corpus, vocabulary_size, sequence_length, batch_size, epochs):
    """Train a small GPT; return it and the windows of token ids that were held out."""
    texts = gk.datasets.corpora.load(corpus)
    tokenizer = gk.tokenizers.BytePairTokenizer.train(texts, vocabulary_size=vocabulary_size)
    data, held_out = gk.datasets.language_modeling(
        texts, tokenizer, sequence_length=sequence_length, batch_size=batch_size, seed=0
    )
    shape = {"num_layers": 1, "hidden_dim": 64} if FAST else {"num_layers": 2, "hidden_dim": 128}
    config = gk.GPTConfig(
        vocabulary_size=vocabulary_size, max_sequence_length=128, num_heads=4, **shape
    )
    model = gk.GPTCausalLM(config, tokenizer=tokenizer, end_token_ids=())
    optimizer = gk.training.adamw(3e-3, warmup_steps=50, total_steps=epochs * len(data))
    model.compile(optimizer, jit_compile=not FAST)
    model.fit(data, validation_data=held_out, epochs=1 if FAST else epochs, verbose=2)
    return model, np.concatenate([x for x, _ in held_out.as_numpy_iterator()])


# %%
bard, bard_windows = train("shakespeare", 1024, 128, 16, epochs=2)

# %%
poet, poet_windows = train("tang_poems", 2048, 64, 8, epochs=5)

# %% [markdown]
# The strategies. Each continues the same eight beginnings, which come from the texts that were held
# out of the training. So there is a ninth row to compare with: what *the author* wrote there.
# (`end_token_ids=()` above: no token ends a text, so that all of them have one length.)

# %%
strategies = {
    "greedy": {"temperature": 0},
    "temperature 0.7": {"temperature": 0.7},
    "temperature 1": {"temperature": 1.0},
    "temperature 1.5": {"temperature": 1.5},
    "top-k, k = 10": {"top_k": 10},
    "top-p, p = 0.8": {"top_p": 0.8},
    "beam search": {"strategy": gk.generation.BeamSearch(4)},
}


# %%
def compare(model, windows, begin, length):
    """Token ids and log-probabilities of eight continuations, by strategy."""
    chosen = windows[np.linspace(0, len(windows) - 1, 8).astype(int), : begin + length]
    prompts, rest = chosen[:, :begin].tolist(), chosen[:, begin:].tolist()
    results = {"the author": (rest, model.score(rest, prompts=prompts))}
    for name, settings in strategies.items():
        found = model.generate_with_scores(prompts, max_new_tokens=length, seed=0, **settings)
        best = [continuations[0] for continuations in found]
        results[name] = ([c.token_ids for c in best], [np.array(c.log_probs) for c in best])
    return prompts, results


bard_prompts, bard_results = compare(bard, bard_windows, 16, 20 if FAST else 64)
poet_prompts, poet_results = compare(poet, poet_windows, 8, 12 if FAST else 56)


# %%
def show(model, prompts, results, row):
    """Print one beginning and its continuations; ⏎ is the end of a line, ■ of a text."""

    def line(ids):
        text = model.tokenizer.decode(ids).replace("<|endoftext|>", "■")
        return text.replace("\n", "⏎")

    print("beginning:", line(prompts[row]))
    for name, (rows, _) in results.items():
        print(f"\n{name}:\n    {line(rows[row])}")


show(bard, bard_prompts, bard_results, row=2)

# %%
show(poet, poet_prompts, poet_results, row=0)

# %% [markdown]
# A character � is the beginning of a Chinese character whose other bytes did not come. The model
# knows bytes, not characters, and at a high temperature it breaks them more often.
#
# Three numbers say what one can see. *Likelihood*: the mean log-probability that the model itself
# gives to a token of the text. *Repetition*: the share of 4-grams (four tokens in a row) that have
# stood in the same text before. *Diversity*: of all pairs of tokens in the eight texts together,
# how many are different.


# %%
def repetition(ids, n=4):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


def diversity(rows):
    pairs = [pair for row in rows for pair in itertools.pairwise(row)]
    return len(set(pairs)) / len(pairs)


measured = {}
for language, results in (("Shakespeare", bard_results), ("Tang poems", poet_results)):
    print(f"{language:17}nats per token   repeated 4-grams   different pairs")
    for name, (rows, log_probs) in results.items():
        likelihood = np.mean(np.concatenate(log_probs))
        repeated = np.mean([repetition(row) for row in rows])
        measured[language, name] = likelihood, repeated, diversity(rows)
        print(f"  {name:15}{likelihood:14.2f}{repeated:18.1%}{diversity(rows):18.1%}")
    greedy, author = measured[language, "greedy"], measured[language, "the author"]
    assert greedy[0] > author[0]
    assert greedy[1] > author[1]

# %% [markdown]
# Read the rows against the author's. Greedy and beam search write what the model finds far more
# likely than anything the author wrote, and much of it is repetition. **The most likely text
# is not a typical text**, as the most likely outcome of a hundred throws of a biased coin is a
# hundred heads. Drawing at temperature 1 comes close to the author in all three numbers. Lower
# temperatures, top-k and top-p lie between: they leave out the unlikely tokens, where a small model
# makes its mistakes, and pay with some variety.
#
# **Seeds.** The darts are numbers from a seed. A row depends on its own seed alone, so a text can
# be had again, alone or in any company.

# %%
seeds = list(range(8))
prompts = ["春"] * 8
together = poet.generate(prompts, max_new_tokens=12, seed=seeds)
turned_round = poet.generate(prompts, max_new_tokens=12, seed=seeds[::-1])
alone = poet.generate("春", max_new_tokens=12, seed=[3])
print("seed 3, fourth of eight:", repr(together[3]))
print("seed 3, fifth of eight: ", repr(turned_round[4]))
print("seed 3, alone:          ", repr(alone))
assert together == turned_round[::-1]
assert alone == together[3]

# %% [markdown]
# **Stop strings.** A text ends at a token or at a *string*, wherever the borders of its tokens are:
# one speech, one verse. What is returned ends before the string.

# %%
speech = bard.generate("MACBETH.\n", max_new_tokens=80, temperature=0.7, stop="\n\n", seed=0)
verse = poet.generate("春風", max_new_tokens=40, temperature=0.7, stop="。", seed=2)
print(speech, verse, sep="\n--- and ---\n")
assert "\n\n" not in speech
assert "。" not in verse

# %% [markdown]
# **Streaming.** People read while the model writes. With byte-pair tokens that has a trap: a rare
# Chinese character is two or three tokens, none of which is text. We make the model write a given
# line of 李白 (the setting `choices` allows nothing else), and look at every step.

# %%
verse = "蠶叢及魚鳧，開國何茫然"
ids = poet.tokenizer.encode(verse)
print(f"{len(verse)} characters, {len(ids)} tokens")
print("decoded one by one:", [poet.tokenizer.decode([i]) for i in ids])
pieces = list(poet.stream("李白\n", max_new_tokens=40, choices=[verse], seed=0))
print("streamed:          ", pieces)
assert "".join(pieces) == verse
assert not any("\ufffd" in piece for piece in pieces)

# %% [markdown]
# `stream` waits until a character is whole; it also waits where a stop string may have begun.
#
# **Time.** Now the cache, measured on a model that is large enough for its arithmetic to matter.
# Its weights are random, since the text is not. We take the time after each token (`callback` is
# called after each pass of the model, which brings one token here), once with the cache, and once
# without: a full pass over the whole text for each new token, in a compiled graph.

# %%
context_length = 128 if FAST else 512
config = gk.GPTConfig(
    vocabulary_size=1024,
    max_sequence_length=context_length,
    num_layers=1 if FAST else 4,
    num_heads=4,
    hidden_dim=256,
)
timed = gk.GPTCausalLM(config)
settings = {"temperature": 0, "cache_length": context_length}
_ = timed.generate([1], max_new_tokens=2, callback=lambda new: None, **settings)  # compiles

# %%
clock = [time.perf_counter()]
timed.generate(
    [1],
    max_length=context_length,
    callback=lambda new: clock.append(time.perf_counter()),
    **settings,
)
with_cache = np.diff(clock)


@tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)], autograph=False)
def last_logits(token_ids):
    return timed.backbone(token_ids)[:, -1]


# %%
lengths = np.linspace(16, context_length, 9).astype(int)
without = []
for length in [lengths[0], *lengths]:  # the first once more: it traces the graph
    token_ids = tf.ones([1, length], tf.int32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        last_logits(token_ids).numpy()
        times.append(time.perf_counter() - start)
    without.append(np.median(times))
without = np.array(without[1:])
near = [np.median(with_cache[max(length - 16, 0) : length]) for length in lengths]
print("tokens so far:         ", lengths)
print("without / with cache:  ", (without / near).round(1))
whole = np.interp(np.arange(len(with_cache)), lengths, without).sum()
print(f"for all {context_length} tokens: {whole / with_cache.sum():.1f} times as long without")

# %% [markdown]
# The ratios grow with the text: without a cache a token costs in proportion to all that stands
# before it. With one, it costs one pass of one token, and a look at the kept keys and values.
#
# ## Look
#
# **A distribution under each setting.** The next token after a beginning, for the Shakespeare
# model. The bars of a panel sum to at most 1; the number in its title says how many tokens can
# still come.

# %%
prompt = "MACBETH.\nI will not"
raw = bard(np.array([bard.tokenizer.encode(prompt)]))[0, -1:]
shown = np.argsort(-np.array(raw[0]))[:14]
names = [bard.tokenizer.decode([i]).replace(" ", "␣").replace("\n", "⏎") for i in shown]
panels = [("temperature", 1.0), ("temperature", 0.5), ("temperature", 2.0)]
panels += [("top_k", 5), ("top_p", 0.5), ("min_p", 0.1)]
figure, grid = plt.subplots(2, 3, figsize=(10, 5), sharex=True, sharey=True, layout="constrained")
for axes, (name, value) in zip(grid.flat, panels):
    changed = gk.generation.PROCESSORS[name].apply(raw, tf.constant(value))
    probabilities = tf.nn.softmax(changed)[0].numpy()
    axes.bar(range(14), probabilities[shown], color="#56B4E9", edgecolor="black")
    axes.set_title(f"{name} = {value}: {(probabilities > 0).sum():,} tokens", fontsize="medium")
    axes.set_xticks(range(14), names, rotation=60, fontfamily="monospace")
for axes in grid[:, 0]:
    axes.set_ylabel("probability")
figure.supxlabel(f"next token after “{prompt.splitlines()[-1]}”, the 14 likeliest")
plt.show()

# %% [markdown]
# **The same for Chinese.** After four of the five characters of a verse, after a whole verse, after
# a family name. This poet expects a comma after four characters as much as after five: it knows
# that marks come often, and does not count.

# %%
if chinese:
    display(gk.plots.next_tokens(poet, ["春眠不覺", "白日依山盡", "李"]))  # noqa: F821
else:
    print("no font here has Chinese glyphs; gk.plots.chinese_font() says how to get one")

# %% [markdown]
# **Log-probability along a text.** One point for each token. The author's line jumps up and down:
# a hard word, then an easy ending. So does the line of what was drawn at temperature 1. Greedy
# stays in a narrow band near the top: it never says anything that surprises the model. (The mean
# over eight texts hides the jumps; so here is one text of each.)

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for axes, name, colour in zip(panels, ["the author", "temperature 1", "greedy"], COLOURS[5:]):
    curve = bard_results[name][1][2]
    axes.plot(curve, color=colour, marker=".", linewidth=1)
    axes.axhline(np.mean(curve), color="black", linestyle="--")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
    axes.text(0.5, -11, f"mean {np.mean(curve):.1f} (dashed)", va="top", bbox=box)
    axes.set(title=name, xlabel="position (tokens)")
panels[0].set_ylabel("log-probability (nats)")
panels[0].set_ylim(-12.5, 0)
plt.show()

# %% [markdown]
# **Diversity against likelihood.** Each point is a strategy. The way from the lower right to the
# upper left is the way from greedy to a high temperature; the author stands far from the right end.

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
names = ["the author", *strategies]
for axes, language in zip(panels, ("Shakespeare", "Tang poems")):
    for name, marker, colour in zip(names, "*ov^sDPX", ["black", *COLOURS], strict=False):
        likelihood, _, different = measured[language, name]
        size = 220 if name == "the author" else 80
        style = {"marker": marker, "color": colour, "edgecolor": "black", "label": name}
        axes.scatter(likelihood, different, s=size, **style)
    axes.set(title=language, xlabel="likelihood (nats per token)", ylabel="different pairs (share)")
    axes.grid(alpha=0.3)
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# **Time for each token.** Without a cache the line climbs with every token that stands before the
# new one; with a cache it is nearly flat.

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
smooth = [np.median(with_cache[max(i - 8, 0) : i + 8]) for i in range(len(with_cache))]
axes.plot(lengths, without * 1000, "s--", color="#D55E00", label="without a cache")
axes.plot(
    np.arange(len(smooth)) + 1, np.array(smooth) * 1000, color="#0072B2", label="with a cache"
)
axes.set(xlabel="tokens so far", ylabel="time for one token (ms)", ylim=(0, None))
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# ## What goes wrong
#
# **Greedy runs in circles.** You have seen it in the table. Here are three remedies. By both
# numbers they look like a success; read a text before you believe them.

# %%
remedies = {
    "greedy": {},
    "repetition_penalty=1.3": {"repetition_penalty": 1.3},
    "frequency_penalty=1": {"frequency_penalty": 1.0},
    "no_repeat_ngram_size=3": {"no_repeat_ngram_size": 3},
}
length = 20 if FAST else 64
print("                        repeated 4-grams   nats per token")
for name, settings in remedies.items():
    found = bard.generate_with_scores(
        bard_prompts, max_new_tokens=length, temperature=0, **settings
    )
    repeated = np.mean([repetition(row[0].token_ids) for row in found])
    likelihood = np.mean(np.concatenate([row[0].log_probs for row in found]))
    print(f"{name:24}{repeated:16.1%}{likelihood:17.2f}")
    remedies[name] = (repeated, found[2][0].token_ids)
assert remedies["no_repeat_ngram_size=3"][0] == 0
print("\nno_repeat_ngram_size=3 writes:", repr(bard.tokenizer.decode(remedies[name][1])))

# %% [markdown]
# What no longer repeats itself is not good for that reason: penalties and bans push the model to
# tokens that it did not want, and a ban also forbids names and line ends that ought to come again.
# The fourth remedy, and the best, is to draw.
#
# **Too hot.** The share of the words that exist, in the sense that the plays have them. The small
# model invents some even at 0.5, and the hotter it is the more, until the language falls apart.

# %%
known = set("".join(gk.datasets.corpora.load("shakespeare")).split())
for t in (0.5, 0.8, 1.0, 1.3, 1.7):
    texts = bard.generate(["I will"] * 8, max_new_tokens=length, temperature=t, seed=0)
    written = [word for text in texts for word in text.split()[:-1]]  # the last one may be cut
    share = np.mean([word in known for word in written])
    print(f"temperature {t}: {share:6.1%} known words   {written[2:9]}")

# %% [markdown]
# **Beams are all alike.** Beam search looks for the likeliest text, and then the second likeliest,
# which is the first with a comma moved. Four beams of each beginning, against eight draws for one
# of them: the share of positions at which two of them have the same token.


# %%
def agreement(rows):
    pairs = itertools.combinations(rows, 2)
    return np.mean([np.mean([a == b for a, b in zip(*pair)]) for pair in pairs])


prompts = bard_prompts
settings = {"max_new_tokens": length, "seed": 0}
beams = bard.generate_with_scores(
    prompts, strategy=strategies["beam search"]["strategy"], **settings
)
draws = bard.generate_with_scores([prompts[2]] * 8, temperature=0.7, **settings)
for continuation in beams[2]:
    print(f"{continuation.score:6.2f} {bard.tokenizer.decode(continuation.token_ids)[-60:]!r}")
alike = np.mean([agreement([beam.token_ids for beam in found]) for found in beams])
drawn_alike = agreement([row[0].token_ids for row in draws])
print(f"four beams agree at {alike:.0%} of the positions, eight draws at {drawn_alike:.0%}")
assert alike > drawn_alike

# %% [markdown]
# **One k does not fit all.** Where the next token is nearly certain, ten tokens are too many; where
# it is open, ten are too few. Take the position in the held-out play at which the model is surest
# and the one at which it is least sure (by the *entropy*, the mean surprise that it expects).

# %%
some = bard_windows[:16]
all_logits = bard.predict(some, verbose=0).reshape(-1, 1024)
probabilities = -np.sort(-keras.ops.convert_to_numpy(keras.ops.softmax(all_logits)))
entropy = -(probabilities * np.log(probabilities + 1e-12)).sum(axis=-1)
cumulative = probabilities.cumsum(axis=-1)
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for place, style in ((entropy.argmin(), "-"), (entropy.argmax(), "--")):
    row, column = divmod(int(place), some.shape[1])
    before = bard.tokenizer.decode(some[row, max(column - 5, 0) : column + 1])
    needed = int((cumulative[place] < 0.9).sum()) + 1
    print(f"after {before!r}: top-k 10 keeps {cumulative[place][9]:.0%} of the probability,")
    print(f"    top-p 0.9 keeps {needed} tokens")
    name = before.replace("\n", "⏎")
    axes.plot(range(1, 1025), cumulative[place], style, color="black", label=f"after “{name}”")
axes.axvline(10, color="#D55E00", linestyle=":", label="top-k, k = 10")
axes.axhline(0.9, color="#0072B2", linestyle="-.", label="top-p, p = 0.9")
axes.set(xscale="log", xlabel="most likely tokens kept", ylabel="their probability together")
axes.legend()
plt.show()

# %% [markdown]
# Top-p takes as many as the case needs. That is the whole reason for it.
#
# **A prompt that ends with a space.** In byte-pair tokens a space belongs to the word after it. A
# prompt with a space at its end forces a token that is rare in the training text (one in two
# hundred, most of them before capitals), and the word must then begin without its space, which
# common words hardly ever do. Measured on words of the held-out play: the
# log-probability of the *same* word after both prompts.

# %%
play = bard.tokenizer.decode(bard_windows[:40].ravel())
starts = [i for i in range(200, len(play) - 50, 97)][: 20 if FAST else 120]
contexts, following = [], []
for i in starts:
    space = play.index(" ", i)
    word = play[space + 1 :].split()[0]
    if word.isalpha():
        contexts.append(play[space - 60 : space])
        following.append(word)
good = bard.score([" " + word for word in following], prompts=contexts)
bad = bard.score(following, prompts=[context + " " for context in contexts])
print(f"“{contexts[0][-12:]}” and “ {following[0]}”: {good[0].sum():.1f} nats")
print(f"“{contexts[0][-12:]} ” and “{following[0]}”: {bad[0].sum():.1f} nats")
print(f"mean of {len(good)} words, space with the word:   {np.mean([s.sum() for s in good]):.2f}")
print(f"mean of {len(bad)} words, space with the prompt: {np.mean([s.sum() for s in bad]):.2f}")

# %% [markdown]
# The second should have been the *easier* task: it was given the space for nothing. Strip your
# prompts. (Chinese has no spaces and not this trap; it has the one of the streamed bytes instead.)
#
# ## Exercises
#
# 1. *Easy.* Three words have logits 2, 1 and 0. What are their probabilities at temperature 0.5
#    with top-k 2? Do it with a pencil, then with `gk.generation.PROCESSORS`.
# 2. *Easy.* For the toy model with 夜, 風 and 雨: how much of the probability of all texts of six
#    words do the best 1, 3, 10 and 100 have? How many beams does it take to find the best one?
# 3. *Medium.* *Speculative decoding* guesses several tokens and checks them all in one step. Let
#    `gk.generation.PromptLookup` continue a text greedily. Is it the same text? How many tokens
#    does a step bring (count the calls of `callback`), with a model that repeats itself and with
#    one that does not?
# 4. *Open.* In a poem of five-character lines, a comma or a full stop stands after every fifth
#    character. Train a better poet (with the optimizer `gk.training.muon`, say), and find settings
#    with which the share of such verses is as high as in the real poems, while the texts repeat
#    hardly more.
#
# Solutions: `solutions/07_saying_it.ipynb`.
#
# ## Further reading
#
# - A. Holtzman et al., *The Curious Case of Neural Text Degeneration*, 2020: section 3 for top-p,
#   section 4 for why the likeliest text is not a human one; figure 2 is our picture of
#   log-probabilities.
# - A. Fan, M. Lewis and Y. Dauphin, *Hierarchical Neural Story Generation*, 2018, section 5.4:
#   top-k.
# - N. Keskar et al., *CTRL*, 2019, section 4.1: the repetition penalty.
# - Y. Wu et al., *Google's Neural Machine Translation System*, 2016, section 7: beam search and its
#   length penalty.
# - R. Pope et al., *Efficiently Scaling Transformer Inference*, 2022, section 2: what the KV cache
#   costs in memory and time.
# - Y. Leviathan, M. Kalman and Y. Matias, *Fast Inference from Transformers via Speculative
#   Decoding*, 2023, section 2.
