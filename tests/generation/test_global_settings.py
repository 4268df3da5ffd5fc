"""Generation under Keras's and TensorFlow's global settings."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk


@pytest.fixture(params=[pytest.param("bfloat16", marks=pytest.mark.xla), "float16", "float64"])
def floatx(request):
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)  # made from floatx once, at its first use
    yield request.param
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def test_every_floatx_generates_and_scores(floatx, character_tokenizer):
    model = gk.GPTCausalLM(tiny_config(num_layers=1), tokenizer=character_tokenizer)
    prompts = ["hello", "a"]
    texts = model.generate(prompts, max_new_tokens=4, temperature=0)
    for prompt, text in zip(prompts, texts, strict=True):
        assert "".join(model.stream(prompt, max_new_tokens=4, temperature=0)) == text[len(prompt) :]
    [scored] = model.generate_with_scores("hello", max_new_tokens=4, temperature=0)
    again = model.score(scored.token_ids, prompts="hello")
    assert again.dtype == np.float32
    tolerance = 1e-6 if floatx == "float64" else 0.05
    np.testing.assert_allclose(again, scored.log_probs, atol=tolerance)


DETERMINISTIC = """
import tensorflow as tf, gpt_keras as gk
tf.config.experimental.enable_op_determinism()
tokenizer = gk.tokenizers.CharacterTokenizer("abc")
config = gk.GPTConfig(vocabulary_size=3, max_sequence_length=16, num_layers=1, num_heads=1,
                      hidden_dim=4)
model = gk.GPTCausalLM(config, tokenizer=tokenizer)
settings = {"max_new_tokens": 5, "seed": 0, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2}
plain = model.generate([[1, 2], [0]], **settings)
assert plain == model.generate([[1, 2], [0]], **settings)
model.generate([1, 2], max_new_tokens=3, strategy=gk.generation.BeamSearch(2))
model.score([0, 1, 2])
model.export("served")
served = tf.saved_model.load("served")
text = served.generate(text=["ab"], max_new_tokens=5, seed=0)["text"].numpy()[0].decode()
assert text == model.generate("ab", max_new_tokens=5, seed=0)
print("fine")
"""


@pytest.mark.slow
def test_op_determinism(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", DETERMINISTIC], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.stdout.endswith("fine\n"), result.stderr[-2000:]
