"""Training gives the same in every process, and needs no more memory for more of the same words."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from gpt_keras.tokenizers import BytePairTokenizer, GPT1Tokenizer

pytestmark = pytest.mark.slow

# Memory comes first: the system tells the most that a process ever held. The words of the stream
# are all known before.
CHILD = """
import json, os, random, sys
from gpt_keras.datasets import corpora
from gpt_keras.tokenizers import BytePairTokenizer, GPT1Tokenizer


def growth():
    import resource

    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(1, 9))) for _ in range(5000)]
    known = [" ".join(draw.choices(words, k=2000)) for _ in range(100)]

    def stream(num_bytes):
        while num_bytes > 0:
            piece = draw.choice(known) + "\\n"  # a new string
            num_bytes -= len(piece)
            yield piece

    BytePairTokenizer.train(known, 600)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    BytePairTokenizer.train(stream(50_000_000), 600)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * (1 if sys.platform == "darwin" else 1024)


def byte_pair():
    return BytePairTokenizer.train([*plays, *poems], 3000).digest()


results = {"growth": growth()} if "growth" in sys.argv else {}
plays, poems = corpora.load("shakespeare"), corpora.load("tang_poems")
results["byte_pair"] = byte_pair()
os.environ["TOKENIZERS_PARALLELISM"] = "false"
results["byte_pair in one thread"] = byte_pair()
results["gpt1"] = GPT1Tokenizer.train(plays[0][:50_000], 400).digest()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def run():
    """What a process gives with these environment variables."""

    def run(*arguments, **settings):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def one_thread(run):
    return run(RAYON_NUM_THREADS="1", PYTHONHASHSEED="1")


@pytest.fixture(scope="module")
def two_threads(run):
    arguments = ["growth"] if importlib.util.find_spec("resource") else []
    return run(
        *arguments, RAYON_NUM_THREADS="2", TOKENIZERS_PARALLELISM="true", PYTHONHASHSEED="random"
    )


def test_threads_and_hash_seeds_do_not_count(plays, poems, one_thread, two_threads):
    digest = BytePairTokenizer.train([*plays, *poems], 3000).digest()
    for results in (one_thread, two_threads):
        assert results["byte_pair"] == results["byte_pair in one thread"] == digest


def test_gpt1_is_the_same_in_another_process(plays, one_thread, two_threads):
    digest = GPT1Tokenizer.train(plays[0][:50_000], 400).digest()
    assert one_thread["gpt1"] == two_threads["gpt1"] == digest


def test_memory_does_not_grow_with_a_stream_of_known_words(two_threads):
    pytest.importorskip("resource")
    assert two_threads["growth"] < 20_000_000
