# %% [markdown]
# # Solutions to chapter 8
#
# Time on 2 CPU cores: about 1 minute.

# %%
import os

import keras
import numpy as np

import gpt_keras as gk

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Exercise 1
#
# Keys and values, 96 layers, 96 heads of 128 numbers, 2,048 tokens, 2 bytes each. With 8 heads it
# would be a twelfth.

# %%
gpt3 = gk.presets.get("gpt3_175b")
by_hand = 2 * 96 * 96 * 128 * 2048 * 2
grouped = gpt3.replace(num_key_value_heads=8)
print(f"{by_hand / 2**30:.2f} GiB, with 8 heads for keys {by_hand / 12 / 2**30:.2f} GiB")
assert by_hand == gpt3.kv_cache_bytes(1, 2048, "bfloat16")
assert by_hand == 12 * grouped.kv_cache_bytes(1, 2048, "bfloat16")

# %% [markdown]
# ## Exercise 2
#
# Take away six of the eight experts of each layer, three matrices each; attention, router and
# embeddings serve all tokens. It is not 2 x 7 billion, and the whole not 8 x 7, for only the
# feed-forward layers are there eight times. (Of the input embedding a token touches one row only;
# it is counted whole here, as is usual.)

# %%
mixtral = gk.presets.get("mixtral_8x7b")
unused = mixtral.num_layers * 6 * 3 * mixtral.hidden_dim * mixtral.intermediate_dim
active = mixtral.num_parameters - unused
print(f"{mixtral.num_parameters:,} parameters, {active:,} for each token")
print(f"that is {active / mixtral.num_parameters:.0%}")

# %% [markdown]
# ## Exercise 3
#
# One switch at a time, each added to those before it. With SwiGLU the inner width shrinks to 8/3 of
# the width, so that the number of parameters stays about the same. Differences of a few hundredths
# are smaller than those between two seeds: run it with others before you believe in an order.

# %%
plays = gk.datasets.corpora.load("shakespeare")
tokenizer = gk.tokenizers.CharacterTokenizer.train(plays, end_of_text=True)
train, held_out = gk.datasets.language_modeling(plays, tokenizer, sequence_length=32, batch_size=16)
held_out = held_out.take(8 if FAST else 40)
base = gk.presets.get("gpt2_small").replace(
    vocabulary_size=tokenizer.vocabulary_size,
    max_sequence_length=32,
    num_layers=1 if FAST else 2,
    num_heads=4,
    hidden_dim=64,
    dropout=0.0,
)


def loss_of(config, steps=10 if FAST else 100):
    """The loss on held-out text after a short training."""
    keras.utils.set_random_seed(0)
    model = gk.GPTCausalLM(config)
    model.compile(gk.training.adamw(3e-3, warmup_steps=steps // 5), jit_compile=False)
    model.fit(train.repeat(), steps_per_epoch=steps, verbose=0)
    return model.evaluate(held_out, verbose=0, return_dict=True)["loss"]


# %%
switches = {
    "GPT-2": {},
    "RMSNorm": {"norm": "rms_norm"},
    "rotary positions": {"position_embedding": "rotary"},
    "SwiGLU": {"activation": "swiglu", "intermediate_dim": 176},
    "no biases": {"use_bias": False, "use_qkv_bias": False},
    "query-key norms": {"use_qk_norm": True},
}
config, before = base, None
for name, changes in switches.items():
    config = config.replace(**changes)
    loss = loss_of(config)
    change = "" if before is None else f" ({loss - before:+.3f})"
    print(f"{name:18}{config.num_parameters:9,} parameters {loss:.3f}{change}")
    before = loss

# %% [markdown]
# ## Exercise 4
#
# Fit the law to the shorter trainings and ask it for the longest, which it has not seen. A
# training of 50 steps is not a piece of one of 200 (the warm-up differs), so do not expect a good
# prophecy from so little.

# %%
budgets = [6, 12, 18, 24, 32] if FAST else [25, 50, 75, 100, 200]
losses = [loss_of(base, steps) for steps in budgets]
tokens = 32 * 16 * np.array(budgets)
law = gk.evaluation.fit_power_law(tokens[:-1], losses[:-1])
for number, loss in zip(tokens, losses):
    print(f"{number:7,} tokens: measured {loss:.3f}, law {law(number):.3f}")
print(f"loss = {law.floor:.3f} + {law.scale:.3g} * tokens ** -{law.exponent:.3f}")
