"""Benchmark of tokenizers against other libraries, and of corpus preparation.

    python scripts/benchmark_tokenizers.py [--megabytes 200] [--repeats 15]

tiktoken and keras-hub are measured if they are installed. All paths encode the same texts, one
after the other, in a random order for each repeat. The tables show medians. The token ids of each
path are compared with the ids of the `tokenizers` engine.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tokenizers

import gpt_keras as gk
from gpt_keras.datasets.token_cache import encode_corpus
from gpt_keras.tokenizers.byte_pair import byte_characters

# GPT-2's pre-tokenization pattern. tiktoken's regex engine supports its look-ahead `(?!\S)`.
GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200, help="size of the prepared corpus")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each path")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        CHILDREN[arguments.child[0]](arguments.child[1])
        return
    plays = [
        paragraph + "\n\n"
        for play in gk.datasets.corpora.load("shakespeare")
        for paragraph in play.split("\n\n")
    ]
    compare("English (the bundled plays, paragraphs)", plays, arguments.repeats)
    poems = gk.datasets.corpora.load("tang_poems")
    compare("Chinese (the bundled poems, five times)", poems * 5, arguments.repeats)
    memory_in_graph()
    prepare_corpus(arguments.megabytes)


def compare(title: str, texts: list[str], repeats: int) -> None:
    """Print the speed of each path on a batch of texts."""
    paths = paths_of(texts)
    num_bytes = sum(len(text.encode()) for text in texts)
    results = {name: as_lists(path()) for name, path in paths.items()}  # also the warm-up
    times = {name: [] for name in paths}
    draw = random.Random(0)
    for _ in range(repeats):
        # The order is random, since a path may slow down the next one.
        for name, path in draw.sample(list(paths.items()), len(paths)):
            began = time.perf_counter()
            path()
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    expected = results["tokenizers, batch"]
    base = medians.get("keras-hub, in graph")
    print(f"\n{title}: {num_bytes / 1e6:.2f} MB, {len(texts):,} texts")
    print(f"{'':28}{'MB/s':>8}{'x keras-hub':>13}{'ids':>10}  equal to the engine")
    for name, seconds in medians.items():
        ratio = f"{base / seconds:.1f}" if base else "-"
        ids = results[name]
        print(
            f"{name:28}{num_bytes / seconds / 1e6:8.2f}{ratio:>13}{sum(map(len, ids)):10,}  "
            f"{'yes' if ids == expected else 'no'}"
        )


def paths_of(texts: list[str]) -> dict:
    """Return a function for each way to encode the texts, by name."""
    ours = gk.tokenizers.BytePairTokenizer.gpt2()
    engine = tokenizers.Tokenizer.from_str(ours.to_json())
    model = json.loads(ours.to_json())["model"]
    paths = {
        "tokenizers, one by one": lambda: [engine.encode(text).ids for text in texts],
        "tokenizers, batch": lambda: [e.ids for e in engine.encode_batch_fast(texts)],
        "gpt_keras, eager": lambda: ours.encode(texts),
    }
    strings = tf.constant(texts)
    in_graph = tf.function(ours.in_graph())
    paths["gpt_keras, in graph"] = lambda: in_graph(strings)
    try:
        import tiktoken
    except ImportError:
        print("tiktoken is not installed: skipped")
    else:
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        ranks = {bytes(byte_of[c] for c in token): i for token, i in model["vocab"].items()}
        encoding = tiktoken.Encoding(
            "gpt2", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens={}
        )
        paths["tiktoken, one by one"] = lambda: [encoding.encode_ordinary(t) for t in texts]
        paths["tiktoken, batch"] = lambda: encoding.encode_ordinary_batch(texts)
    try:
        import keras_hub
    except ImportError:
        print("keras-hub is not installed: skipped")
    else:
        merges = [" ".join(merge) for merge in model["merges"]]
        hub = tf.function(keras_hub.tokenizers.BytePairTokenizer(model["vocab"], merges))
        paths["keras-hub, in graph"] = lambda: hub(strings)
    return paths


def as_lists(ids: list[list[int]] | tf.RaggedTensor) -> list[list[int]]:
    return ids.to_list() if isinstance(ids, tf.RaggedTensor) else ids


def memory_in_graph() -> None:
    """Print the growth of memory with the size of the batch."""
    print("\nIn graph, one batch of English: memory beyond what a batch of 1 MB needs")
    sizes = (1, 2, 4, 8, 16)
    peaks = [int(run_child("in_graph", size)) for size in sizes]
    for size, peak in zip(sizes[1:], peaks[1:]):
        grown = (peak - peaks[0]) / 1e6
        print(f"{size:4} MB{grown:10.0f} MB{grown / (size - 1):8.0f} MB per MB of text")


def in_graph_child(megabytes: str) -> None:
    """Encode one batch of the given size and print the peak memory in bytes."""
    layer = tf.function(gk.tokenizers.BytePairTokenizer.gpt2().in_graph())
    text = "".join(gk.datasets.corpora.load("shakespeare"))[:1_000_000]
    paragraphs = text.split("\n\n") * int(megabytes)
    layer(tf.constant(paragraphs))
    print(peak_memory())


def prepare_corpus(megabytes: int) -> None:
    """Print the speed and memory of encoding a large file to ids on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "corpus.txt"
        print("\nEncoding a text file to ids on disk, including reading and hashing the file. The")
        print("text is the bundled plays, repeated, with a changed letter in every 50th word")
        for size in (megabytes // 8, megabytes):
            write_corpus(path, size * 1_000_000)
            seconds, tokens, peak, before = run_child("corpus", path).split()
            mb = path.stat().st_size / 1e6
            print(
                f"{mb:6.0f} MB{float(seconds):8.1f} s{mb / float(seconds):8.2f} MB/s"
                f"{int(tokens):14,} tokens   peak memory {int(peak) / 1e6:,.0f} MB, "
                f"{(int(peak) - int(before)) / 1e6:,.0f} MB more than before"
            )


def write_corpus(path: pathlib.Path, num_bytes: int) -> None:
    """Write the bundled plays repeatedly, with a changed letter in every 50th word."""
    plays = [play.split(" ") for play in gk.datasets.corpora.load("shakespeare")]
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    with path.open("w", encoding="utf-8", newline="") as file:
        while file.tell() < num_bytes:
            for words in plays:
                words = list(words)
                for i in range(draw.randrange(50), len(words), 50):
                    at = draw.randrange(len(words[i]) + 1)
                    words[i] = words[i][:at] + draw.choice(letters) + words[i][at + 1 :]
                file.write(" ".join(words))


def corpus_child(path: str) -> None:
    """Encode the file; print seconds, tokens, peak memory, and peak memory before it."""
    tokenizer = gk.tokenizers.BytePairTokenizer.gpt2()
    with tempfile.TemporaryDirectory() as cache:
        encode_corpus(gk.datasets.corpora.load("tang_poems"), tokenizer, cache)  # the warm-up
        before = peak_memory()
        began = time.perf_counter()
        encoded = encode_corpus([pathlib.Path(path)], tokenizer, cache)
        print(time.perf_counter() - began, len(encoded.ids), peak_memory(), before)


CHILDREN = {"in_graph": in_graph_child, "corpus": corpus_child}


def run_child(name: str, argument) -> str:
    """Run a function of this script in a new process and return its output."""
    command = [sys.executable, __file__, "--child", name, str(argument)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def peak_memory() -> int:
    """Return the peak memory of this process in bytes (Linux)."""
    # `ru_maxrss` of getrusage would include the memory of the parent process.
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM.")


if __name__ == "__main__":
    main()
