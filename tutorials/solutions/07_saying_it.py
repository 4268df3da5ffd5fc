# %% [markdown]
# # Solutions to chapter 7
#
# Time on 2 CPU cores: about 1 minute.

# %%
import itertools
import os
import re

import keras
import numpy as np
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.presets.nano import nano

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Exercise 1
#
# At temperature 0.5 the logits are 4, 2 and 0; top-k 2 leaves 4 and 2. Only their difference
# counts: $1 / (1 + e^{-2}) = 0.88$ for the first word, $0.12$ for the second, 0 for the third.

# %%
logits = tf.constant([[2.0, 1.0, 0.0]])
for name, value in (("temperature", 0.5), ("top_k", 2)):
    logits = gk.generation.PROCESSORS[name].apply(logits, tf.constant(value))
probabilities = tf.nn.softmax(logits)[0].numpy()
print(probabilities.round(3))
np.testing.assert_allclose(probabilities, [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 0], rtol=1e-6)

# %% [markdown]
# ## Exercise 2
#
# Six words make 729 texts. The probability is spread thin: the best text of all has little of it,
# and this is a model with three words. So the best text says little about what the model writes.

# %%
table = np.array([[0.10, 0.50, 0.40], [0.32, 0.35, 0.33], [0.04, 0.90, 0.06]])
steps, words = 6, "夜風雨"


def probability(path):
    return np.prod([table[i, j] for i, j in itertools.pairwise((0, *path))])


paths = sorted(itertools.product(range(3), repeat=steps), key=probability, reverse=True)
for count in (1, 3, 10, 100):
    print(f"the best {count:3} of {len(paths)}: {sum(map(probability, paths[:count])):.1%}")

# %%
for num_beams in range(1, 6):
    beams = {(): 1.0}
    for _ in range(steps):
        longer = {
            (*path, word): share * table[path[-1] if path else 0, word]
            for path, share in beams.items()
            for word in range(3)
        }
        beams = dict(sorted(longer.items(), key=lambda item: -item[1])[:num_beams])
    best = next(iter(beams))
    text = "夜" + "".join(words[i] for i in best)
    print(num_beams, "beams:", text, f"{beams[best]:.4f}", "the best" if best == paths[0] else "")

# %% [markdown]
# ## Exercise 3
#
# The text is the same, as it must be: a guess is kept only where the model would have chosen it.
# `PromptLookup` guesses that the text goes on as it did where the last tokens stood before. A model
# that has hardly been trained repeats itself, and most guesses are right. One that has been trained
# for longer does not (it may know a poem of its training text by heart), and hardly any are. Where
# a text *ought* to repeat what stands before it, as in a summary or in corrected code, good models
# gain, too.

# %%
poems = gk.datasets.corpora.load("tang_poems")
hanzi = gk.tokenizers.CharacterTokenizer.train(poems, end_of_text=True)
train, validation = gk.datasets.language_modeling(poems, hanzi, sequence_length=64, batch_size=8)


def trained(steps):
    """A poet after so many steps."""
    keras.utils.set_random_seed(0)
    config = nano(
        64 if FAST else 128,
        vocabulary_size=hanzi.vocabulary_size,
        max_sequence_length=128,
        num_layers=1 if FAST else 3,
    )
    model = gk.GPTCausalLM(config, tokenizer=hanzi, end_token_ids=())  # no poem ends early
    optimizer = gk.training.muon(1e-2, warmup_steps=steps // 10, total_steps=steps)
    model.compile(optimizer, jit_compile=steps > 100)
    model.fit(train.repeat(), steps_per_epoch=steps, verbose=2)
    return model


beginner, poet = trained(20), trained(40 if FAST else 500)

# %%
length = 20 if FAST else 90


def continued(model, strategy):
    """The greedy text, and the number of passes that it took."""
    passes = []
    settings = {"max_new_tokens": length, "temperature": 0, "callback": passes.append}
    return model.generate("春", strategy=strategy, **settings), len(passes)


for name, model in (("beginner", beginner), ("poet", poet)):
    plain, as_many = continued(model, gk.generation.Sampling())
    guessed, fewer = continued(model, gk.generation.PromptLookup(num_tokens=5))
    assert guessed == plain
    print(f"{name}: {as_many / fewer:.2f} tokens for each pass of the model")
    print(guessed[:40], "...\n")

# %% [markdown]
# ## Exercise 4
#
# One way to look at it: count the verses between two marks, and among them those of five
# characters, in poems that begin with such a verse. The prompts are from two poems that were held
# out, for a poem of the training text the poet may know by heart.


# %%
def five_characters(texts):
    """Share of verses with five characters; one that no mark ends is cut, and does not count."""
    verses = [v for text in texts for v in re.split("[，。？！\n]+", text)[:-1] if v]
    return np.mean([len(verse) == 5 for verse in verses]) if verses else 0.0


def repeated(texts):
    """Share of the runs of four characters that stand in the same text before."""
    runs = [[text[i : i + 4] for i in range(len(text) - 3)] for text in texts]
    return np.mean([1 - len(set(own)) / max(len(own), 1) for own in runs])


prompts = [
    "在嶽詠蟬\n駱賓王\n西陸蟬聲唱，南冠客思侵。\n",
    "涼思\n李商隱\n客去波平檻，蟬休露滿枝。\n",
]
unseen = hanzi.decode(np.concatenate([x for x, _ in validation.as_numpy_iterator()]).ravel())
assert all(prompt in unseen for prompt in prompts)
bodies = [poem.split("\n", 2)[2] for poem in poems]  # without title and author
real = [body for body in bodies if len(body) > 40 and re.match(r"\w{5}[，。]", body)]
print(f"real poems: {five_characters(real):.0%} of five, {repeated(real):.1%} repeated")

# %%
for temperature, top_p in ((0, 1.0), (0.5, 1.0), (0.8, 0.9), (0.8, 0.6), (1.0, 0.9), (1.0, 1.0)):
    settings = {"temperature": temperature, "top_p": top_p, "max_new_tokens": length, "seed": 0}
    texts = [text.split("<|endoftext|>")[0] for text in poet.generate(prompts * 8, **settings)]
    new = [text[len(prompt) :] for text, prompt in zip(texts, prompts * 8)]
    print(
        f"temperature {temperature}, top-p {top_p}: {five_characters(new):.0%} of five, "
        f"{repeated(texts):.1%} repeated, {np.mean([len(text) for text in new]):.0f} characters"
    )
print(texts[0], texts[1], sep="\n")

# %% [markdown]
# Most verses have the form, not quite as many as in the real poems, and fewest at temperature 1;
# the poems are short, and none repeats itself. (Sixteen short poems for each row: differences of
# ten percent are chance.) Read the two: the form is about all that there is to be had from 27,000
# characters.
