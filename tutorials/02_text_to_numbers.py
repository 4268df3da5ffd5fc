# %% [markdown]
# # 2. Text to numbers
#
# Time on 2 CPU cores: about 1 minute, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which trains fewer tokenizers. You need chapter 0; one section of this chapter
# uses the n-gram models of chapter 1.

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
from collections import Counter
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=[s["color"] for s in gk.plots.STYLES])
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# A network multiplies numbers, and a text is no number. The *tokenizer* stands between them: it
# cuts a text into tokens and gives each its id, and it turns ids back into text. It is made once,
# before any training, and it decides how long the texts are that a model sees. At the end of the
# chapter you will be able to
#
# - write a Chinese character as its three bytes, with a pencil;
# - train *byte-pair encoding* by hand, encode with it, and get the tokens that the library gets;
# - count what a text costs in tokens, in English and in Chinese, and say why the costs differ;
# - say what word segmentation and stop words were for, and why a GPT needs neither;
# - recognise five mistakes with tokenizers, none of which raises an error.
#
# ## The idea
#
# What should a token be? A *character*? Then there are few kinds in English and thousands in
# Chinese, and whoever meets an emoji has no id for it. A *word*? Then sequences are short, but
# nobody has a list of all words, and Chinese does not even write where words end. A *byte*? Each
# text in the world is a sequence of bytes, of which there are 256. Nothing is ever unknown, but
# sequences get long. *Byte-pair encoding* begins with the bytes, and makes a token of each sequence
# of bytes that comes often: frequent words become one token, rare ones some, and unknown ones, at
# worst, one for each byte.

# %%
plays = gk.datasets.corpora.load("shakespeare")
poems = gk.datasets.corpora.load("tang_poems")
train_plays, new_play = plays[:-1], plays[-1]
train_poems, new_poems = [p for i, p in enumerate(poems) if i % 10], poems[::10]

sentence = "The moon, 明月" if chinese else "The moon, the moonlight"
gk.plots.tokenization(
    sentence,
    {
        "characters": gk.tokenizers.CharacterTokenizer.train(sentence),
        "bytes": gk.tokenizers.BytePairTokenizer.train("a", vocabulary_size=257),
        "byte pairs of the plays and poems": gk.tokenizers.BytePairTokenizer.train(
            [*train_plays, *train_poems], vocabulary_size=2048
        ),
        "byte pairs of GPT-2": gk.tokenizers.BytePairTokenizer.gpt2(),
    },
)

# %% [markdown]
# Each box is a token. A space is drawn as ␣ and belongs to the word after it. Numbers in ‹ › are
# bytes, in hexadecimal, of a character that was cut; such a box has a broken border.
#
# ## By hand
#
# **Bytes.** Unicode gives each character a number, its *code point*. UTF-8 writes code points below
# 128, which are ASCII's letters, as one byte, and those of Chinese as three: `1110` and 4 bits of
# the number, then twice `10` and 6 bits.

# %%
point = ord("月")
bits = f"{point:016b}"
print(f"月 is code point {point}, in 16 bits {bits[:4]} {bits[4:10]} {bits[10:]}")
by_hand = bytes([0b11100000 + (point >> 12), 0b10000000 + (point >> 6 & 63), 128 + (point & 63)])
for byte in by_hand:
    print(f"{byte:08b} = {byte} = {byte:02X} in hexadecimal")
assert by_hand == "月".encode()
print("moon:", list(b"moon"), " 月:", list("月".encode()))

# %% [markdown]
# The moon has four bytes in English and three in Chinese. The first byte of a character tells how
# many follow, and those that follow all begin with `10`, as no first byte does; so whoever lands in
# the middle of a text knows whether it is inside a character.
#
# **Training byte-pair encoding.** Take the words of a corpus with their counts. At first each byte
# is a token. Count all pairs of neighbouring tokens, make the most frequent pair a new token, and
# do it again. Where two pairs are equally frequent, the one with the older tokens is taken. GPT-2
# sorts the 256 bytes in an order of its own, which matters for such ties alone.


# %%
def merged(tokens, pair):
    """The tokens of a word after a pair was merged wherever it stands."""
    result = []
    for token in tokens:
        if result and (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return result


# %%
def train(words, number):
    """Learn the merges of words with counts; print each."""
    age = gk.tokenizers.BytePairTokenizer.gpt2().pieces(range(256))  # a token's place is its id
    split = {word: [bytes([byte]) for byte in word.encode()] for word in words}
    merges = []
    for _ in range(number):
        counts = Counter()
        for word, tokens in split.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        best = max(counts, key=lambda p: (counts[p], -age.index(p[0]), -age.index(p[1])))
        print(f"{counts[best]:2} times: {best[0]} + {best[1]} -> id {len(age)}")
        merges.append(best)
        age.append(best[0] + best[1])
        split = {word: merged(tokens, best) for word, tokens in split.items()}
    return merges


# %% [markdown]
# The classical example, from the paper that took byte-pair encoding over from data compression for
# translation:

# %%
words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
merges = train(words, 6)

# %% [markdown]
# `est`, a real ending of English, was found by counting alone. On Chinese bytes the same procedure
# has to put the characters together first, and nobody tells it where they begin and end. Here are
# four verses by 李白, cut at the punctuation as GPT-2 would cut them.

# %%
verses = ["床前明月光", "疑是地上霜", "舉頭望明月", "低頭思故鄉"]
chinese_merges = train(Counter(verses), 7)
for first, second in chinese_merges:
    joined = first + second
    print(joined.hex(" ").upper(), "=", joined.decode(errors="replace"))

# %% [markdown]
# What prints as � is a part of a character. The counting knows nothing of characters: `8E E6 9C` is
# the end of 明 and the beginning of 月, because the two come together. 頭, which stands twice,
# becomes a token, and so does 明月, the bright moon. 月 alone never does.
#
# **Encoding.** A new text is not counted. Its bytes are merged in the order in which the merges
# were learned: of all pairs that stand in the word, the one with the lowest *rank* first.


# %%
def encode(word, merges):
    """The tokens of a word."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    tokens = [bytes([byte]) for byte in word.encode()]
    while True:
        best = min(pairwise(tokens), key=lambda pair: ranks.get(pair, len(ranks)), default=None)
        if best not in ranks:
            return tokens
        tokens = merged(tokens, best)


for word in ("low", "lowest", "newer", "月"):
    print(f"{word}: {encode(word, merges)}")
print("with the Chinese merges:", encode("明月", chinese_merges), encode("月", chinese_merges))

# %% [markdown]
# `lowest` was in no text and has two tokens, both of which mean something. 月 is unknown to the
# English merges and costs three tokens; the Chinese ones make two of it, and one of 明月.
#
# **Words before byte pairs.** Until a few years ago the first step was to cut a text into *words*.
# Chinese needed a dictionary for that. *Maximum matching* takes, from the left, the longest word
# that the dictionary has; or, from the right, the longest one that ends there.


# %%
def maximum_matching(text, dictionary, from_left=True):
    """Cut a text into the longest words that the dictionary has, or single characters."""
    words = []
    while text:
        for length in range(len(text), 0, -1):
            word = text[:length] if from_left else text[-length:]
            if word in dictionary or length == 1:
                break
        words.append(word)
        text = text[length:] if from_left else text[:-length]
    return words if from_left else words[::-1]


# to research, graduate student, life, origin, south capital (Nanjing), city, mayor, Yangtze, ...
dictionary = {"研究", "研究生", "生命", "起源", "南京", "南京市", "市長", "長江", "大橋"}
for text in ("研究生命起源", "南京市長江大橋"):
    for from_left in (True, False):
        direction = "left " if from_left else "right"
        print(f"from the {direction}:", " / ".join(maximum_matching(text, dictionary, from_left)))

# %% [markdown]
# 研究 / 生命 / 起源 is "to research the origin of life"; the other direction sees a graduate
# student (研究生). The second sentence is the Yangtze bridge of Nanjing for both, but a dictionary
# without 南京市 would read it otherwise, and so exercise 3 goes on. The cut is a guess that is
# made before the model has read a word, and that nothing after it can mend.
#
# ## The formula
#
# Let $n(a, b)$ be how often token $b$ follows token $a$ inside a word of the corpus. Training
# repeats, for $k = 1, 2, \dots$ until the vocabulary is full,
#
# $$(a_k, b_k) = \arg\max_{(a, b)} \, n(a, b) \qquad
#   \text{then replaces each } a_k\, b_k \text{ by one token}$$
#
# Encoding replaces, in a word with tokens $t_1 \dots t_m$, the pair of the lowest rank $k$ among
# its pairs $(t_i, t_{i+1})$, until none of them is a merge. The size of the vocabulary is $V = 256
# + \text{merges} + \text{special tokens}$.
#
# If a text of $C$ characters has $N$ tokens, it costs $N/C$ tokens per character. A loss of $L$
# nats per token is $L \cdot N / (C \ln 2)$ bits per character: the number to compare when tokens
# differ.
#
# Two formulas from the time of words. *Zipf's law*: the $r$-th most frequent word comes about
# $1/r$ times as often as the first, $f(r) \propto r^{-s}$ with $s$ near 1. And the weight of word
# $w$ in document $d$, when $N_D$ documents are searched for what they are about:
#
# $$\text{tf-idf}(w, d) = f_d(w) \cdot \ln \frac{N_D}{\text{number of documents that have } w}$$
#
# ## The class
#
# `gk.tokenizers.BytePairTokenizer.train` learns the same merges, from the words as documents. The
# ids from 256 on are the merges; the last one, $V - 1$, is a special token that ends documents.

# %%
corpus = [word for word, count in words.items() for _ in range(count)]
toy = gk.tokenizers.BytePairTokenizer.train(corpus, vocabulary_size=256 + 6 + 1)
assert toy.pieces(range(256, 262)) == [a + b for a, b in merges]
for word in ("low", "lowest", "newer", "月"):
    assert toy.pieces(toy.encode(word)) == encode(word, merges)
    print(word, toy.encode(word), toy.pieces(toy.encode(word)))

chinese_toy = gk.tokenizers.BytePairTokenizer.train(verses, vocabulary_size=256 + 7 + 1)
assert chinese_toy.pieces(range(256, 263)) == [a + b for a, b in chinese_merges]
for verse in [*verses, "明月出天山"]:
    assert chinese_toy.pieces(chinese_toy.encode(verse)) == encode(verse, chinese_merges)
print("end of text:", toy.end_of_text_id, toy.special_tokens)

# %% [markdown]
# ## On real text
#
# **Three kinds of tokenizers.** Characters of the training text; byte pairs, trained; GPT-2's byte
# pairs, which were learned from English web pages. All come back exactly, except that characters
# the tokenizer does not know are refused.

# %%
letters = gk.tokenizers.CharacterTokenizer.train(train_plays, end_of_text=True)
trained = gk.tokenizers.BytePairTokenizer.train(train_plays, vocabulary_size=2048)
gpt2 = gk.tokenizers.BytePairTokenizer.gpt2()
line = "If music be the food of love, play on."
for name, tokenizer in (("characters", letters), ("plays", trained), ("GPT-2", gpt2)):
    ids = tokenizer.encode(line)
    assert tokenizer.decode(ids) == line
    print(f"{name:10} V = {tokenizer.vocabulary_size:6,}, {len(ids):2} tokens: {ids[:8]} ...")
try:
    letters.encode("明月")
except ValueError as error:
    print(error)

# %% [markdown]
# **Inside the graph.** A tokenizer is also a Keras layer, which gives the same ids with TensorFlow
# operations alone. So it can run in a `tf.data` pipeline and be stored in a SavedModel.
# `encode_padded` makes a rectangle of texts of different lengths, and a *mask* that says what is
# padding.

# %%
layer = trained.in_graph()
lines = ["Play on.", "If music be", "月"]
ragged = layer(tf.constant(lines))
print("ragged:", ragged.to_list())
assert ragged.to_list() == trained.encode(lines)
token_ids, mask = layer.encode_padded(lines, sequence_length=5)
print("ids:\n", token_ids.numpy(), "\nmask:\n", mask.numpy().astype(int))
print("back:", [text.decode() for text in layer.detokenize(ragged).numpy()])

# %% [markdown]
# **What it costs.** Tokens per character, of a new play and of new poems, by tokenizers of several
# sizes: trained on the plays, on the poems, and on both.

# %%
sizes = (257, 512, 1024) if FAST else (257, 512, 1024, 2048, 4096)
new_texts = {"plays": [new_play], "poems": new_poems}


def cost(tokenizer, texts):
    """Tokens per character."""
    return sum(map(len, tokenizer.encode(texts))) / sum(map(len, texts))


costs, trained_on = {}, {"plays": train_plays, "poems": train_poems}
trained_on["both"] = [*train_plays, *train_poems]
print("trained on   asked for   vocabulary   tokens per character: new play   new poems")
for name, texts in trained_on.items():
    for asked in sizes:
        tokenizer = gk.tokenizers.BytePairTokenizer.train(texts, vocabulary_size=asked)
        found = tokenizer.vocabulary_size
        costs[name, asked] = [found, *(cost(tokenizer, new) for new in new_texts.values())]
        english, han = costs[name, asked][1:]
        print(f"{name:10}{asked:12,}{found:13,}{english:33.3f}{han:12.3f}")
print(f"GPT-2{50257:30,}{cost(gpt2, [new_play]):33.3f}{cost(gpt2, new_poems):12.3f}")

# %% [markdown]
# Read the table from the top. With bytes alone, English costs one token per character, and Chinese
# close to three. Merges make both cheaper, where the training text has the language. The poems run
# out of pairs that come twice, so a vocabulary may be smaller than was asked for.
#
# **Is Chinese expensive, then?** Per character, yes. But a Chinese character says more than a
# letter. A fairer question is what the same *meaning* costs, and that needs the same text twice.

# %%
same = {
    "English": "Before my bed the bright moonlight, as if there were frost on the ground. "
    "I raise my head and see the bright moon, I lower it and think of home.",
    "Chinese": "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。",
}
both = gk.tokenizers.BytePairTokenizer.train(trained_on["both"], vocabulary_size=4096)
print("            characters   bytes   GPT-2's tokens   tokens of plays and poems")
for language, text in same.items():
    counts = [len(text), len(text.encode()), len(gpt2.encode(text)), len(both.encode(text))]
    print("{:10}{:12}{:8}{:17}{:28}".format(language, *counts))

# %% [markdown]
# In characters and in bytes the poem is the shorter text; in GPT-2's tokens it is the longer one.
# The cost is not in the language. It is in what the tokenizer was trained on.
#
# **Stop words,** and what they were for. Before there were language models that read a whole text,
# a text was a bag of words: which words, how often. The most frequent ones are the same in all
# texts, and say nothing of this one. So they were struck out by a list of *stop words*, or weighed
# down by tf-idf. Here are the leading words of three plays by each measure.

# %%
bags = [Counter(re.findall(r"[a-z]+", play.lower())) for play in plays]
documents_with = Counter(word for bag in bags for word in bag)
for bag in bags[1:4]:
    weights = {w: f * np.log(len(bags) / documents_with[w]) for w, f in bag.items()}
    print("by count: ", *[word for word, _ in bag.most_common(9)])
    print("by tf-idf:", *sorted(weights, key=weights.get, reverse=True)[:9], "\n")

# %% [markdown]
# By count, all plays are about `the` and `and`. By tf-idf, which is 0 for whatever all nine plays
# have, you can name each play. For search and for sorting texts that is what one wants. For a model
# that *writes* it is ruin, as one line shows:

# %%
stop_words = {word for word, _ in sum(bags, Counter()).most_common(100)}
tokens = re.findall(r"[a-z]+", "To be, or not to be: that is the question.".lower())
print("all words:         ", *tokens)
print("without stop words:", *[word for word in tokens if word not in stop_words])
total = sum(sum(bag.values()) for bag in bags)
struck = sum(bag[word] for bag in bags for word in stop_words)
print(f"{struck / total:.0%} of all words of the plays are struck out by {len(stop_words)} words")

# %% [markdown]
# A GPT must predict every token, the small words most of all, for they carry the grammar; and it
# reads `not` in its place, where it turns the sentence round. It needs no list of words to leave
# out, and no dictionary to cut by: attention (chapter 4) finds out which earlier tokens matter, and
# layers above the tokens put them together to words, each time anew and from the context.
#
# ## Look
#
# **Vocabulary and cost.** The table as a picture. Where the training text has no Chinese, the line
# for Chinese stays up however large the vocabulary. GPT-2's is drawn at its 50,257.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True, layout="constrained")
styles = {"plays": ("#0072B2", "o-"), "poems": ("#D55E00", "s--"), "both": ("#009E73", "^-.")}
for column, (axes, texts) in enumerate(zip(panels, new_texts.values()), start=1):
    for label, (colour, style) in styles.items():
        points = np.array([costs[label, asked] for asked in sizes])
        axes.plot(points[:, 0], points[:, column], style, color=colour, label=f"trained: {label}")
    axes.plot(50257, cost(gpt2, texts), "k*", markersize=11, label="GPT-2")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("size of the vocabulary (tokens)")
    axes.set_title("a new play (English)" if column == 1 else "new poems (Chinese)")
    axes.set_xticks([256, 1024, 4096, 16384, 65536], ["256", "1,024", "4,096", "16,384", "65,536"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
panels[0].set_ylabel("tokens per character")
panels[1].legend(loc="lower right")
plt.show()

# %% [markdown]
# For a language that fills its training text, each doubling of the vocabulary buys less than the
# one before. (Chinese beside so much English has to wait for its turn.) That is no
# accident:
#
# **Zipf's law.** How often the $r$-th most frequent word, character or token comes. Both axes are
# logarithmic, so a power of $r$ is a straight line; the dotted one falls as $1/r$.

# %%
figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for label, tokens, style in (
    ("words of the plays", re.findall(r"[a-z]+", " ".join(plays).lower()), "-"),
    ("byte pairs of the plays", np.concatenate(trained.encode(plays)).tolist(), "--"),
    ("characters of the poems", list("".join(poems)), "-."),
):
    counts = np.array(sorted(Counter(tokens).values(), reverse=True))
    axes.loglog(range(1, len(counts) + 1), counts / len(tokens), style, label=label)
    print(f"{label}: {len(counts):,} kinds, {(counts <= 2).mean():.0%} of them come at most twice")
ranks = np.array([1, 10_000])
axes.loglog(ranks, 0.1 / ranks, "k:", label="1/rank")
axes.set_xlabel("rank r")
axes.set_ylabel("share of all tokens")
axes.legend()
plt.show()

# %% [markdown]
# A few words come all the time, and a long tail comes once or twice. A vocabulary of words spends
# more than half its ids, and a model more than half its embeddings, on that tail, and still has no
# id for tomorrow's name. Byte pairs cut the tail off: a rare word is spelled from parts that are
# not rare, so that from about the hundredth rank on the curve of the byte pairs lies above that of
# the words, nearly to its end. (Where it drops are tokens that were only steps on the way to longer
# ones, and are hardly ever left over.) Characters of Chinese behave like words.
#
# ## What goes wrong
#
# **Somebody else's tokenizer.** A model with a window of 1,024 tokens: how many characters of each
# language does it see at once? What the tokenizer costs is paid in context, in time and in money.

# %%
for name, tokenizer in (("GPT-2's", gpt2), ("ours, for plays and poems", both)):
    english, han = cost(tokenizer, [new_play]), cost(tokenizer, new_poems)
    print(
        f"{name:26} English {1024 / english:6.0f} characters, Chinese {1024 / han:5.0f}; "
        f"Chinese characters of one token: "
        f"{np.mean([len(tokenizer.encode(c)) == 1 for c in ''.join(new_poems) if c.isalpha()]):.0%}"
    )
if chinese:
    shown = {"GPT-2": gpt2, "plays and poems": both}
    display(gk.plots.tokenization(same["Chinese"], shown))  # noqa: F821

# %% [markdown]
# **Half characters.** Cut a text after a number of tokens, as every window and every limit on new
# tokens does, and the cut may fall inside a character. What is left decodes to �. Text that is
# shown while it is made needs a decoder that waits for the rest.

# %%
ids = gpt2.encode("床前明月光")
for length in (7, 8, 9):
    print(length, "tokens:", gpt2.decode(ids[:length]))
decoder = gpt2.stream_decoder()
print("piece by piece:", [decoder.decode([i]) for i in ids])
cut = [gpt2.decode(gpt2.encode(poem)[:64]).endswith("�") for poem in poems]
print(f"{np.mean(cut):.0%} of the poems, cut after 64 tokens, end in half a character")

# %% [markdown]
# **Leading spaces.** A space belongs to the word after it. So `moon` and ` moon` are two different
# tokens, and a prompt that ends in a space ends in a token that no training text has there.

# %%
for text in ("moon", " moon", "the moon", "the ", "the"):
    print(f"{text!r:11} {gpt2.encode(text)} {gpt2.pieces(gpt2.encode(text))}")
play_ids = np.array(gpt2.encode(new_play))
space = gpt2.encode(" ")[0]
pieces = gpt2.pieces(play_ids[1:])
followed = Counter(piece[:1].isalpha() for i, piece in zip(play_ids, pieces) if i == space)
print(f"the lone space, in {len(play_ids):,} tokens of the play: {sum(followed.values())} times,")
print(f"with a letter after it {followed[True]} times")

# %% [markdown]
# Ask for the next word after `the`, not after `the␣`: a model has hardly ever seen a word begin
# after a lone space. Strip prompts at their end.
#
# **A changed tokenizer with old weights.** Ids are numbers of rows in a table. Train a tokenizer
# again on slightly more text, and most rows mean something else, while nothing has a wrong shape. A
# trigram model of chapter 1, scored with its own tokenizer and with one that is as good and of the
# same size:

# %%
own = gk.tokenizers.BytePairTokenizer.train(train_plays, vocabulary_size=1024)
other = gk.tokenizers.BytePairTokenizer.train(train_plays[1:], vocabulary_size=1024)
model = gk.NGramLM(3, own).fit(train_plays)
same_meaning = np.mean([a == b for a, b in zip(*(t.pieces(range(1024)) for t in (own, other)))])
print(f"{same_meaning:.0%} of the ids mean the same in both; equal: {own == other}")
for name, tokenizer in (("its own", own), ("the other", other)):
    loss = -model.log_probabilities(tokenizer.encode(new_play)).mean()
    print(f"{name:10} tokenizer: {loss:.3f} nats per token, digest {tokenizer.digest()[:12]}")
print(f"equal chances: {np.log(1024):.3f}")

# %% [markdown]
# No error, only a bad model. Keep tokenizer and weights in one file, as `model.save` does, and when
# in doubt compare the digests.
#
# **Special tokens in text.** `<|endoftext|>` ends a document. What if a user types it? If the
# typed text became the special token, anybody could end the document, or in a chat speak in
# another's name. So text is text, unless you say otherwise.

# %%
typed = "Good night.<|endoftext|>"
print("as text:   ", gpt2.encode(typed))
print("if allowed:", gpt2.encode(typed, allowed_special="all"))
assert gpt2.end_of_text_id not in gpt2.encode(typed)
assert gpt2.decode(gpt2.encode(typed)) == typed
assert gpt2.encode(typed, allowed_special=["<|endoftext|>"])[-1] == gpt2.end_of_text_id

# %% [markdown]
# The other way round it goes wrong as easily: whoever joins documents with the *string*
# `<|endoftext|>` before encoding teaches the model a strange word of several tokens, and no end.
#
# ## Exercises
#
# 1. *Easy.* Write the bytes of 詩 with a pencil, from its code point 35,433. How many tokens of
#    GPT-2 is it? And how many bytes has é, of code point 233? (Two bytes: `110` and 5 bits, `10`
#    and 6 bits.)
# 2. *Easy.* List the ten longest tokens of a tokenizer of 4,096 tokens trained on the plays, and of
#    one trained on the poems. What do they tell about the corpus? Which would you rather not have?
# 3. *Medium.* Take 南京市 out of the dictionary and cut 南京市長江大橋 again. Then use the tokens
#    of a byte-pair tokenizer of the poems as a dictionary, cut the new poems by maximum matching,
#    and compare the number of pieces with byte-pair encoding's, on runs of characters all of which
#    have a token. Does one cut finer? Make up tokens and a word for which the two must differ.
# 4. *Open.* One vocabulary of 4,096 tokens for two languages: train it on all poems and on 1, 2, 4
#    and 8 plays, and draw the cost of each language against the share of Chinese. What would you
#    choose for a model of both?
#
# Solutions: `solutions/02_text_to_numbers.ipynb`.
#
# ## Further reading
#
# - R. Sennrich, B. Haddow and A. Birch, *Neural Machine Translation of Rare Words with Subword
#   Units*, 2016, section 3.2: byte-pair encoding, with `low`, `lower`, `newest` and `widest`.
# - A. Radford et al., *Language Models are Unsupervised Multitask Learners* (GPT-2), 2019, section
#   2.2: bytes instead of characters, and why words are split first.
# - T. Kudo and J. Richardson, *SentencePiece*, 2018: tokenizers for languages without spaces.
# - A. Petrov et al., *Language Model Tokenizers Introduce Unfairness Between Languages*, 2023: the
#   cost of the same text in many languages.
# - K. Spärck Jones, *A Statistical Interpretation of Term Specificity and Its Application in
#   Retrieval*, 1972: where idf comes from.
