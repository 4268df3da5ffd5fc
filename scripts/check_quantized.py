"""Check that int8 weights increase the perplexity of a real model by at most 1%.

    python scripts/check_quantized.py [--file SmolLM2-135M-Instruct.Q4_1.gguf] [--tokens 4000]

The model is the one of `check_pretrained.py`. The text is the beginnings of the bundled plays. This
is weight-only quantization by Keras: each channel has 127 steps up to its largest weight.
"""

import argparse
import math
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from check_pretrained import fetched

import gpt_keras as gk

LIMIT = 0.01
WINDOW = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", type=pathlib.Path, help="path of the GGUF file, if you have it")
    parser.add_argument("--tokens", type=int, default=4000, help="approximate number of tokens")
    arguments = parser.parse_args()
    model = gk.GPTCausalLM.from_preset(arguments.file or fetched())
    plays = [play[:20_000] for play in gk.datasets.corpora.load("shakespeare")]
    length = arguments.tokens // len(plays)
    ids = [model.tokenizer.encode(play)[:length] for play in plays]
    before = report("float32", model, ids)
    model.quantize(config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=None))
    change = report("int8", model, ids) / before - 1
    print(f"perplexity changes by {change:+.2%}")
    return 1 if change > LIMIT else 0


def report(name: str, model: gk.CausalLM, ids: list[list[int]]) -> float:
    """Print the size and perplexity of a model; return the perplexity."""
    result = gk.evaluation.perplexity(model, ids, sequence_length=WINDOW, batch_size=4)
    size = sum(math.prod(weight.shape) * weight.value.dtype.size for weight in model.weights)
    print(
        f"{name}: perplexity {result.perplexity:.3f} of {result.num_tokens:,} tokens, "
        f"weights of {size / 1e6:,.0f} MB",
        flush=True,
    )
    return result.perplexity


if __name__ == "__main__":
    sys.exit(main())
