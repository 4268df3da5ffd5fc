# %% [markdown]
# # Solutions to chapter 9
#
# Time on 2 CPU cores: about half a minute.

# %%
import json
import pathlib
import struct
import tempfile

import gguf
import keras
import numpy as np

import gpt_keras as gk

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Exercise 1
#
# 884,736 weights. In F32 each takes 4 bytes, in F16 2. In Q8_0 a block of 32 takes 2 + 32 = 34
# bytes, in Q4_1 2 + 2 + 16 = 20.

# %%
count = 576 * 1536
by_hand = {"F32": 4 * count, "F16": 2 * count, "Q8_0": count // 32 * 34, "Q4_1": count // 32 * 20}
for name, size in by_hand.items():
    values, bytes_each = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    print(f"{name:5}{size:10,} bytes")
    assert size == count // values * bytes_each

# %% [markdown]
# ## Exercise 2
#
# Without the prompt for the assistant the text ends after the user's turn, and the model has to say
# who speaks next. Most often it would begin the assistant's turn by itself, but it might as well
# write another question for the user. The tokens that differ are those of the last line.

# %%
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
template = gk.chat.ChatTemplate(TEMPLATE)
messages = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "意大利呢？"},  # and Italy?
]
tokenizer = gk.tokenizers.BytePairTokenizer.train(
    gk.datasets.corpora.load("shakespeare")[0], 512, special_tokens=["<|im_start|>", "<|im_end|>"]
)
print(template.render(messages))
with_prompt = template.encode(messages, tokenizer)
without = template.encode(messages, tokenizer, add_generation_prompt=False)
assert with_prompt[: len(without)] == without
print("only with the prompt:", [tokenizer.decode([i]) for i in with_prompt[len(without) :]])

# %% [markdown]
# ## Exercise 3
#
# Take a width and an inner width that differ, so that the shapes tell. GPT-2's `c_fc` is `(inputs,
# outputs)`, Llama's `up_proj` is `(outputs, inputs)`. The square kernels have no such mark: they
# are the ones with which one goes wrong.


# %%
def shapes(config):
    """Names and shapes of the tensors in a model's safetensors file."""
    folder = pathlib.Path(tempfile.mkdtemp()) / "model"
    gk.convert.to_huggingface(gk.GPTCausalLM(config), folder)
    data = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    print(json.loads((folder / "config.json").read_text())["model_type"])
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


size = {"vocabulary_size": 50, "max_sequence_length": 16, "num_layers": 1, "num_heads": 2}
size |= {"hidden_dim": 8, "intermediate_dim": 20}
llama = gk.presets.get("llama2_7b").replace(num_key_value_heads=2, head_dim=4, **size)
for config in (gk.GPTConfig(**size), llama):
    for name, shape in shapes(config).items():
        if len(shape) == 2 and ".0." in name:
            found = ""
            if sorted(shape) == [8, 20]:
                widens = any(part in name for part in ("c_fc", "up_proj", "gate_proj"))
                inputs_first = (shape == [8, 20]) == widens
                found = "(inputs, outputs)" if inputs_first else "(outputs, inputs)"
            print(f"  {name:40}{shape!s:10}{found}")

# %% [markdown]
# `c_fc`, `up_proj` and `gate_proj` widen from 8 to 20; `c_proj` and `down_proj` come back. `c_attn`
# makes queries, keys and values of 8 each out of 8 and is (8, 24): inputs first, too.
#
# ## Exercise 4
#
# One way to look at it: the scale of a block must span from its smallest to its largest weight. One
# large weight spoils only its own block of 32, but with one scale for the table it spoils all.


# %%
def relative_error(weights, length):
    """Error of 4 bits with a scale and a smallest value for every `length` weights."""
    blocks = weights.reshape(-1, length)
    smallest = blocks.min(axis=1, keepdims=True)
    step = (blocks.max(axis=1, keepdims=True) - smallest) / 15
    back = np.round((blocks - smallest) / step) * step + smallest
    return np.sqrt(np.mean((back - blocks) ** 2) / np.mean(blocks**2))


generator = np.random.default_rng(0)
normal = generator.normal(size=(576, 1536))
outliers = np.where(generator.random(normal.shape) < 0.001, 20 * normal, normal)
for name, weights in (("normal", normal), ("with outliers", outliers)):
    errors = {length: relative_error(weights, length) for length in (32, 1536, normal.size)}
    print(f"{name:14}" + "".join(f"  {n:,} weights: {e:6.1%}" for n, e in errors.items()))
