# %% [markdown]
# # Solutions to chapter 2
#
# Time on 2 CPU cores: under 1 minute.

# %%
import os
import re

import matplotlib.pyplot as plt
import numpy as np

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
plays = gk.datasets.corpora.load("shakespeare")
poems = gk.datasets.corpora.load("tang_poems")
train_plays, new_play = plays[:-1], plays[-1]
train_poems, new_poems = [p for i, p in enumerate(poems) if i % 10], poems[::10]
gpt2 = gk.tokenizers.BytePairTokenizer.gpt2()

# %% [markdown]
# ## Exercise 1
#
# 35,433 is `1000 101001 101001` in sixteen bits, so the bytes are `11101000`, `10101001` and
# `10101001`: E8 A9 A9. 233 is `00011 101001` in eleven bits: `11000011` and `10101001`, C3 A9.
# For 詩 GPT-2 has no token; it takes three, one for each byte. é it has met often enough.

# %%
for character in "詩é":
    pieces = gpt2.pieces(gpt2.encode(character))
    print(
        f"{ord(character):6} {character.encode().hex(' ').upper():9} {len(pieces)} tokens {pieces}"
    )
assert "詩".encode() == bytes([0b11101000, 0b10101001, 0b10101001])
assert "é".encode() == bytes([0b11000011, 0b10101001])

# %% [markdown]
# ## Exercise 2
#
# In the plays: long words that come often, which is what one wants. In the poems: titles of whole
# series, each of which stands above several poems, and a refrain. Those belong to this corpus and
# not to its language, and each takes an id that a more useful word could have had. Cleaning the
# text comes before training the tokenizer.

# %%
for name, texts in (("plays", train_plays), ("poems", train_poems)):
    tokenizer = gk.tokenizers.BytePairTokenizer.train(texts, vocabulary_size=4096)
    tokens = tokenizer.pieces(range(tokenizer.vocabulary_size - 1))
    longest = sorted(tokens, key=len, reverse=True)[:10]
    print(f"{name}: {[token.decode(errors='replace') for token in longest]}")

# %% [markdown]
# ## Exercise 3
#
# Without 南京市 the two directions disagree: from the left 南京 / 市長 / 江 / 大橋, "Nanjing,
# mayor, Jiang, great bridge"; from the right 南京 / 市 / 長江 / 大橋, the city and its Yangtze
# bridge.


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


dictionary = {"研究", "研究生", "生命", "起源", "南京", "市長", "長江", "大橋"}
for from_left in (True, False):
    print(" / ".join(maximum_matching("南京市長江大橋", dictionary, from_left)))

# %% [markdown]
# With the same tokens as a dictionary, the longest words need as many pieces as byte-pair encoding:
# in verses of five characters there are few longer tokens that could be in each other's way. (Only
# runs of known characters are compared, for maximum matching knows no bytes.)

# %%
tokenizer = gk.tokenizers.BytePairTokenizer.train(train_poems, vocabulary_size=8192)
tokens = {t.decode(errors="replace") for t in tokenizer.pieces(range(tokenizer.vocabulary_size))}
verses = [v for poem in new_poems for v in re.findall(r"\w+", poem) if set(v) <= tokens]
pairs = [tokenizer.encode(verse) for verse in verses]
words = [maximum_matching(verse, tokens) for verse in verses]
print(f"{len(verses)} runs, {sum(map(len, verses))} characters")
print(f"byte-pair encoding {sum(map(len, pairs))} pieces, longest words {sum(map(len, words))}")

# %% [markdown]
# Where they must differ: let `b` and `c` be the most frequent pair, so that they are merged first,
# and `ab` and `cd` later. In `abcd` byte-pair encoding makes `bc` at once, and neither `ab` nor
# `cd` is to be had any more; maximum matching knows nothing of an order and takes both.

# %%
corpus = "bc\n" * 9 + "ab\n" * 6 + "cd\n" * 3
tokenizer = gk.tokenizers.BytePairTokenizer.train(corpus, vocabulary_size=260)
tokens = {t.decode(errors="replace") for t in tokenizer.pieces(range(tokenizer.vocabulary_size))}
print("merged:       ", [p.decode() for p in tokenizer.pieces(range(256, 259))])
print("byte pairs:   ", [p.decode() for p in tokenizer.pieces(tokenizer.encode("abcd"))])
print("longest words:", maximum_matching("abcd", tokens))

# %% [markdown]
# ## Exercise 4
#
# With a fixed number of ids, what one language gains the other loses. Compare the ends of the two
# curves: giving Chinese five times its share costs English less than a tenth more tokens, and saves
# Chinese about a fifth. So in models of many languages the smaller ones are sampled more often than
# they come, for the tokenizer, too.

# %%
costs = []
numbers = (1, 4) if FAST else (1, 2, 4, 8)
for number in numbers:
    corpus = [*train_poems, *train_plays[:number]]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(corpus, vocabulary_size=4096)
    share = sum(len(p.encode()) for p in train_poems) / sum(len(t.encode()) for t in corpus)
    english, han = (
        sum(map(len, tokenizer.encode(texts))) / sum(map(len, texts))
        for texts in ([new_play], new_poems)
    )
    costs.append((share, english, han))
    print(f"{number} plays, {share:.0%} Chinese: {english:.3f} and {han:.3f} tokens per character")
share, english, han = np.array(costs).T
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
axes.plot(share, english, "o-", color="#0072B2", label="new play (English)")
axes.plot(share, han, "s--", color="#D55E00", label="new poems (Chinese)")
axes.set_xlabel("share of Chinese in the training text (bytes)")
axes.set_ylabel("tokens per character")
axes.set_ylim(bottom=0)
axes.legend()
plt.show()
