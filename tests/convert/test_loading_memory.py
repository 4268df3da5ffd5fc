"""What loading holds at once: the weights, a piece of one of them, and the tokenizer."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.convert.model_parts import read_tokenizer
from gpt_keras.convert.name_map import Source, assign, weight_shapes
from gpt_keras.models.gpt import random_weights

PIECE_BYTES = 4 * 2**20


class Tensors:
    """Random tensors that tell how much of them was asked for at once."""

    def __init__(self, shapes):
        random = np.random.default_rng(0)
        self.values = {name: random.random(shape, "f4") for name, shape in shapes.items()}
        self.largest = 0

    def shapes(self):
        return {name: values.shape for name, values in self.values.items()}

    def read(self, name):
        return Rows(self, self.values[name])


class Rows:
    def __init__(self, tensors, values):
        self.tensors, self.values = tensors, values

    def __getitem__(self, rows):
        self.tensors.largest = max(self.tensors.largest, self.values[rows].nbytes)
        return self.values[rows]

    def __array__(self, dtype=None, copy=None):
        return self[:]


@pytest.mark.parametrize("transpose", [False, True])
def test_large_tensors_are_read_in_pieces(transpose):
    config = tiny_config(vocabulary_size=40_000, hidden_dim=32, tie_embeddings=False)
    sources = {
        path: Source(path, transpose=transpose and len(shape) == 2)
        for path, shape in weight_shapes(config).items()
    }
    shapes = weight_shapes(config)
    tensors = Tensors({p: source.shape_there(shapes[p]) for p, source in sources.items()})
    assert max(values.nbytes for values in tensors.values.values()) > PIECE_BYTES
    gpt = gk.GPT(config)
    assign(gpt, sources, tensors)
    assert PIECE_BYTES / 2 < tensors.largest <= PIECE_BYTES
    for variable in gpt.variables:
        if variable.path in sources:
            expected = tensors.values[variable.path]
            expected = expected.T if sources[variable.path].transpose else expected
            np.testing.assert_array_equal(variable, expected)


def test_a_tokenizer_with_more_ids_than_the_model_is_left_out(tmp_path):
    tokenizer = gk.tokenizers.CharacterTokenizer("abcd")
    tokenizer.save(tmp_path)
    assert read_tokenizer(tmp_path, tokenizer.vocabulary_size) == tokenizer
    with pytest.warns(UserWarning, match=r"token ids only.* has \d+ ids, more than the model's 3"):
        assert read_tokenizer(tmp_path, 3) is None


MEASURE = """
import pathlib, sys
import gpt_keras as gk

def memory(what):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

gk.GPTCausalLM(gk.GPTConfig(vocabulary_size=9, max_sequence_length=8, num_layers=1, num_heads=1,
                            hidden_dim=4))
before = memory("VmRSS")
model = gk.convert.load(sys.argv[1])
assert model.tokenizer is not None
print((memory("VmHWM") - before) / (4 * model.count_params()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["folder", "model.gguf"])
def test_gpt2_small_and_its_tokenizer_take_little_more_than_its_weights(name, tmp_path):
    with random_weights(False):
        model = gk.GPTCausalLM(
            gk.presets.get("gpt2_small"), tokenizer=gk.tokenizers.BytePairTokenizer.gpt2()
        )
    write = gk.convert.to_gguf if name.endswith(".gguf") else gk.convert.to_huggingface
    write(model, tmp_path / name)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / name)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for file in tmp_path.rglob("model.*"):
        file.unlink()  # half a gigabyte, which pytest would keep
    assert 1 < float(result.stdout) <= 1.3
