"""Tokenizers in a SavedModel give the same ids and text in a process that has only TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest
import strange_texts
import tensorflow as tf
from test_exactness import TRICKY
from test_gpt1 import CHARACTERS, MARKS

from gpt_keras.tokenizers import GPT1Tokenizer

pytestmark = pytest.mark.slow

PADDED = {
    "sequence_length": 5,
    "append_end_of_text": True,
    "padding_side": "left",
    "truncation_side": "left",
}
TEXTS = ["Hello world", "", "it's  2 o'clock\n\n 詩", "To be<|endoftext|>or<|endoftext|>"]
TEXTS_OF = {
    "gpt2": [*TEXTS, *TRICKY, *strange_texts.draw(200, seed=5)],
    "characters": TEXTS,
    "gpt1": ["The TOWERS, x\u302e\ua9c0y", "", "naïve 詩가"],
}

# keras is made impossible to import: a server has only TensorFlow. One process loads all models,
# as its start takes most of the time.
SERVER = """
import json, os, sys
sys.modules["keras"] = None
import tensorflow as tf


def found(name, texts):
    module = tf.saved_model.load(os.path.join(sys.argv[1], name))
    strings = tf.constant(texts)
    flat, row_splits = module.tokenize(strings)
    ids = tf.RaggedTensor.from_row_splits(flat, row_splits)
    decoded = module.detokenize(flat, row_splits).numpy().tolist()
    if name == "gpt1":
        lists = flat.numpy().tolist(), row_splits.numpy().tolist()
        return [*lists, [text.decode() for text in decoded]]
    token_ids, mask = module.encode_padded(strings)
    joined, rest = [b""] * len(texts), tf.fill([len(texts)], "")
    for i in range(int(ids.bounding_shape()[1])):
        next_ids = ids[:, i : i + 1]
        pieces, rest = module.detokenize_stream(next_ids.values, next_ids.row_splits, rest)
        for j, piece in enumerate(pieces.numpy()):
            piece.decode("utf-8")  # whole characters
            joined[j] += piece
    assert joined == strings.numpy().tolist()
    assert decoded == strings.numpy().tolist()
    return [ids.to_list(), token_ids.numpy().tolist(), mask.numpy().tolist()]


texts_of = json.loads(sys.stdin.read())
print(json.dumps({name: found(name, texts) for name, texts in texts_of.items()}))
assert not {name for name in sys.modules if name.startswith("gpt_keras")}
assert "keras" not in {name for name, module in sys.modules.items() if module}
"""


def save(layer, path, with_rest=True):
    """Save a layer's functions; `with_rest`, those of padded rows and of streams, too."""
    module = tf.Module()
    module.layer = layer
    strings = tf.TensorSpec([None], tf.string)
    ids = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)]

    @tf.function(input_signature=[strings])
    def tokenize(strings):
        ids = module.layer(strings)
        return ids.values, ids.row_splits

    @tf.function(input_signature=[strings])
    def encode_padded(strings):
        return tuple(module.layer.encode_padded(strings, **PADDED))

    @tf.function(input_signature=ids)
    def detokenize(values, row_splits):
        return module.layer.detokenize(tf.RaggedTensor.from_row_splits(values, row_splits))

    @tf.function(input_signature=[*ids, strings])
    def detokenize_stream(values, row_splits, rest):
        ids = tf.RaggedTensor.from_row_splits(values, row_splits)
        return module.layer.detokenize_stream(ids, rest)

    module.tokenize, module.detokenize = tokenize, detokenize
    if with_rest:
        module.encode_padded, module.detokenize_stream = encode_padded, detokenize_stream
    tf.saved_model.save(module, str(path))


@pytest.fixture(scope="module")
def gpt1(plays):
    corpus = [plays[0], MARKS, CHARACTERS, " ".join(MARKS)]
    return GPT1Tokenizer.train(corpus, 600, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="module")
def served(gpt2, characters, gpt1, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name, tokenizer in (("gpt2", gpt2), ("characters", characters)):
        save(tokenizer.in_graph(allowed_special="all"), folder / name)
    save(gpt1.in_graph(), folder / "gpt1", with_rest=False)
    run = subprocess.run(
        [sys.executable, "-c", SERVER, str(folder)],
        input=json.dumps(TEXTS_OF),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", ["gpt2", "characters"])
def test_ids_text_and_padded_rows(name, request, served):
    tokenizer, texts = request.getfixturevalue(name), TEXTS_OF[name]
    token_ids, mask = tokenizer.encode_padded(texts, **PADDED, allowed_special="all")
    assert served[name] == [tokenizer.encode(texts, "all"), token_ids.tolist(), mask.tolist()]


def test_ids_and_text_of_gpt1(gpt1, served):
    ids = gpt1.encode(TEXTS_OF["gpt1"])
    flat = [i for row in ids for i in row]
    row_splits = np.cumsum([0, *map(len, ids)]).tolist()
    assert served["gpt1"] == [flat, row_splits, gpt1.decode(ids)]
