"""How often XLA compiles: counted by the modules that it writes down, in a process of its own."""

import json
import subprocess
import sys

import pytest

from gpt_keras.generation.lengths import bucket_lengths
from gpt_keras.generation.runner import CHUNKS

SCRIPT = """
import json, os, pathlib, sys
os.environ["XLA_FLAGS"] = (
    f"--xla_dump_to={sys.argv[1]} --xla_dump_hlo_module_re=.*_step.* "
    "--xla_backend_optimization_level=0"
)
import gpt_keras as gk

def model():
    config = gk.GPTConfig(vocabulary_size=8, max_sequence_length=256, num_layers=1, num_heads=1,
                          hidden_dim=4)
    return gk.GPTCausalLM(config, tokenizer=gk.tokenizers.CharacterTokenizer("abcdefgh"))

def compiled():
    names = [path.name for path in pathlib.Path(sys.argv[1]).glob("*.before_optimizations.txt")]
    count = lambda *steps: sum(f"__{step}_step" in name for step in steps for name in names)
    return {"fill": count("fill"), "extend": count("extend", "extend_one_row")}

def run(model, prompts, stream=False, **settings):
    verb = model.stream if stream else model.generate
    return list(verb(prompts, **settings))

result = {}
model_a = model()
for i, (prompt, new) in enumerate(json.loads(sys.argv[2])):
    run(model_a, "a" * prompt, max_new_tokens=new, stream=i % 5 == 0)
result["prompts"] = compiled()
(generator,) = model_a._generators._generators.values()
functions = [generator.run, generator.start, generator.advance, generator.finish]
result["traces"] = [function.experimental_get_tracing_count() for function in functions]
for prompt, new in ((1, 9), (30, 60), (36, 9)):  # settings are no other program
    run(model_a, "a" * prompt, max_new_tokens=new, top_k=2, stop=["ab"], bad_words=["c"], seed=0)
result["settings"] = compiled()

model_b = model()
model_b.warm_up(length=60)
result["warm"] = compiled()
for prompt in (1, 2, 20, 33, 34, 40, 59):
    for new in {1, (60 - prompt) // 2 or 1, 60 - prompt}:
        run(model_b, "a" * prompt, max_new_tokens=new, stream=new > 9)
        run(model_b, list(range(8)) * 4, max_length=60, prompt_cache=gk.generation.PromptCache())
result["after warm_up"] = compiled()

model_b.warm_up(batch_size=2, length=40)
result["warm batch"] = compiled()
for prompts in (["a", "b"], ["a", "b" * 39], ["a" * 34, "a"], ["a" * 20, "b"], ["a", "a" * 33]):
    run(model_b, prompts, max_length=40)
    run(model_b, prompts, max_length=40, stream=True)
result["after warm batch"] = compiled()

model_c = model()
model_c.warm_up(length=100, cache_length=256)
result["warm cache_length"] = compiled()
for prompt, new in ((1, 1), (1, 99), (33, 60), (40, 10), (99, 1)):
    run(model_c, "a" * prompt, max_new_tokens=new, cache_length=256, stream=prompt == 40)
result["after cache_length"] = compiled()
print(json.dumps(result))
"""


def columns(prompt, new):
    """For how many columns there must be room: prompts are run in whole chunks but for a token."""
    chunk = next((size for size in CHUNKS if prompt - 1 <= size), CHUNKS[-1])
    filled = -(-(prompt - 1) // chunk) * chunk
    return chunk if filled else None, bucket_lengths(filled + new)[-1]


@pytest.mark.slow
def test_xla_compiles_once_for_each_bucket_and_not_at_all_after_warm_up(tmp_path):
    prompts = [(1 + 4 * i % 149, 1 + 7 * i % 90) for i in range(50)]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(prompts)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    shapes = {columns(prompt, new) for prompt, new in prompts}
    assert len({prompt for prompt, _ in prompts}) == 50
    assert found["prompts"] == {
        "extend": len({length for _, length in shapes}),
        "fill": len({shape for shape in shapes if shape[0]}),
    }
    assert found["traces"] == [1, 1, 1, 1]
    assert found["settings"] == found["prompts"]
    assert found["after warm_up"] == found["warm"]
    assert found["after warm batch"] == found["warm batch"]
    assert found["after cache_length"] == found["warm cache_length"]
    # One length of the cache alone: a step for one token, and one for each size of chunk.
    assert sum(found["warm cache_length"].values()) - sum(found["warm batch"].values()) == 3
