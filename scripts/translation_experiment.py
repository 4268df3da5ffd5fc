"""Train a small GPT to translate English to Chinese, beside two baselines.

    python scripts/translation_experiment.py FOLDER [--output translation] [--steps 1600]

FOLDER holds LibreOffice's help, unpacked from the Debian packages libreoffice-help-en-us and
libreoffice-help-zh-cn (MPL-2.0). Where FOLDER lacks the help, the script fetches both packages
with `apt-get download` and unpacks them there with `dpkg-deb -x`. Pages of one name hold the same
paragraphs under the same ids.

Pages are held out as a whole, and no held-out pair has a text of the training pairs. The baselines
copy the English text, and take the translation of the most similar English text in the training
pairs (cosine of TF-IDF). The script prints BLEU and chrF of all three, and ten samples.
"""

import argparse
import html.parser
import json
import os
import pathlib
import subprocess
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import gpt_keras as gk
from gpt_keras.evaluation.prediction_pairs import CHARACTER

PACKAGES = {"en": "libreoffice-help-en-us", "zh": "libreoffice-help-zh-cn"}
PAGES = {"en": "en-US", "zh": "zh-CN"}

# Tokens of a prompt and its translation together.
LENGTH = 128


class Paragraphs(html.parser.HTMLParser):
    """Texts of the paragraphs and headings of a help page, by their ids."""

    def __init__(self):
        super().__init__()
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, str | None, bool]] = []  # tag, id of a paragraph, is hidden

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("br", "img", "meta", "link", "input"):
            if tag == "br":
                self.handle_data(" ")
            return
        name = attributes.get("id") or ""
        is_text = tag in ("p", "h1", "h2", "h3", "h4", "h5") and name.startswith(("par_", "hd_"))
        # The page shows the keys of macOS only on macOS.
        self._open.append((tag, name if is_text else None, attributes.get("class") == "MAC"))

    def handle_endtag(self, tag):
        tags = [opened[0] for opened in self._open]
        if tag in tags:
            del self._open[len(tags) - 1 - tags[::-1].index(tag) :]

    def handle_data(self, data):
        name = next((name for _, name, _ in reversed(self._open) if name), None)
        if name is not None and not any(is_hidden for _, _, is_hidden in self._open):
            self.texts[name] = self.texts.get(name, "") + data


def unpack(folder: pathlib.Path) -> None:
    """Fetch the packages that `folder` lacks, and unpack them."""
    folder.mkdir(parents=True, exist_ok=True)
    for language, package in PACKAGES.items():
        if not list(pages_of(folder, language).glob("**/*.html")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
            (archive,) = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            archive.unlink()


def pages_of(folder: pathlib.Path, language: str) -> pathlib.Path:
    return folder / "usr/share/libreoffice/help" / PAGES[language] / "text"


def read_page(path: pathlib.Path) -> dict[str, str]:
    parser = Paragraphs()
    parser.feed(path.read_text(encoding="utf-8"))
    return {name: " ".join(text.split()) for name, text in parser.texts.items()}


def read_pairs(folder: pathlib.Path) -> list[dict[str, str]]:
    """Return the translated paragraphs, each pair once, with the name of their page."""
    english, chinese = (pages_of(folder, language) for language in PAGES)
    pairs = {}
    for path in sorted(english.glob("**/*.html")):
        page = path.relative_to(english)
        if (chinese / page).exists():
            translated = read_page(chinese / page)
            for name, en in read_page(path).items():
                zh = translated.get(name, "")
                # Some paragraphs are not translated yet.
                if CHARACTER.search(zh) and not CHARACTER.search(en) and len(en) > 1:
                    pairs.setdefault((en.lower(), zh), {"page": str(page), "en": en, "zh": zh})
    return list(pairs.values())


def split(pairs: list[dict[str, str]], fraction: float) -> tuple[list, list]:
    """Hold out pages; a held-out pair with a text of the training pairs is left out."""
    pages = sorted({pair["page"] for pair in pairs})
    order = np.random.default_rng(0).permutation(len(pages))
    held_out = {pages[i] for i in order[: round(fraction * len(pages))]}
    train = [pair for pair in pairs if pair["page"] not in held_out]
    known = {pair["en"].lower() for pair in train} | {pair["zh"] for pair in train}
    test = [
        pair
        for pair in pairs
        if pair["page"] in held_out and pair["en"].lower() not in known and pair["zh"] not in known
    ]
    return train, list({pair["en"].lower(): pair for pair in test}.values())


def nearest(train: list[dict[str, str]], texts: list[str]) -> list[str]:
    """Return the translation of the training text that is most similar to each text."""
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2))
    known = vectorizer.fit_transform([pair["en"] for pair in train])
    found = (vectorizer.transform(texts) @ known.T).tocsr()
    return [train[int(row.argmax())]["zh"] for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--output", default="translation", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--hidden-dim", type=int, default=192)
    parser.add_argument("--vocabulary-size", type=int, default=4096)
    parser.add_argument("--test-pairs", type=int, default=500)
    arguments = parser.parse_args()
    began = time.perf_counter()

    def report(text: str) -> None:
        print(f"[{time.perf_counter() - began:4.0f} s] {text}", flush=True)

    keras.utils.set_random_seed(0)
    unpack(arguments.folder)
    pairs = read_pairs(arguments.folder)
    train, test = split(pairs, fraction=0.08)
    num_pages = len({pair["page"] for pair in pairs})
    num_known = len(pairs) - len(train) - len(test)
    report(
        f"{len(pairs):,} pairs of {num_pages:,} pages: {len(train):,} to train, {len(test):,} held "
        f"out, {num_known} left out since training has a text of them"
    )

    texts = [text for pair in train for text in (pair["en"], pair["zh"])]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(texts, arguments.vocabulary_size)
    config = gk.presets.nano.nano(
        arguments.hidden_dim,
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=LENGTH,
        dropout=0.1,
    )
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.compile(
        gk.training.muon(warmup_steps=min(100, arguments.steps // 5), total_steps=arguments.steps)
    )

    task = gk.datasets.PromptTask.load("translation_en_zh").replace(max_new_tokens=LENGTH // 2)
    data = gk.datasets.prompted(task, train, model)

    # All three get the same pairs, which fit the model.
    def fits(pair) -> bool:
        [example] = task.examples([pair])
        return len(tokenizer.encode(example.prompt)) + task.max_new_tokens <= LENGTH

    fitting = [pair for pair in test if fits(pair)]
    order = np.random.default_rng(0).permutation(len(fitting))
    test = [fitting[i] for i in order[: arguments.test_pairs]]
    held_out = gk.datasets.prompted(task, test, model).batches(arguments.batch_size)
    report(
        f"{config.num_parameters:,} parameters, {len(data.token_ids):,} training pairs with "
        f"{sum(map(len, data.token_ids)):,} tokens ({data.num_trained:,} trained on), "
        f"{len(test)} held-out pairs"
    )
    batches = data.batches(arguments.batch_size, seed=0)
    epochs = 5
    model.fit(
        batches.repeat(),
        steps_per_epoch=arguments.steps // epochs,
        epochs=epochs,
        validation_data=held_out,
        callbacks=[gk.callbacks.CompileNotice(), gk.callbacks.Throughput()],
        verbose=2,
    )
    report(f"trained for {arguments.steps / len(batches):.1f} epochs")
    result = gk.evaluation.answers(model, task, test, batch_size=50)
    report(f"translated; {result.share_stopped:.1%} of the translations ended by themselves")

    references = [pair["zh"] for pair in test]
    outputs = {
        "copied": [pair["en"] for pair in test],
        "nearest": nearest(train, [pair["en"] for pair in test]),
        "model": [answer.text for answer in result.answers],
    }
    scores = {}
    print(f"{'':8} {'BLEU':>6} {'chrF':>6} {'exact':>6}")
    for name, texts in outputs.items():
        found = gk.evaluation.bleu(texts, references)
        scores[name] = {
            "bleu": found.score,
            "chrf": gk.evaluation.chrf(texts, references),
            "exact_match": gk.evaluation.exact_match(texts, references),
        }
        bleu, chrf, exact = scores[name].values()
        print(f"{name:8} {bleu:6.1f} {chrf:6.1f} {exact:6.1%}")
    print(found.signature)
    for i in range(min(10, len(test))):
        print(f"--- {test[i]['en']}\n")
        print(f"reference {references[i]}")
        for name in ("model", "nearest"):
            print(f"{name:9} {outputs[name][i]}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {
        "scores": scores,
        "signature": found.signature,
        "share_stopped": result.share_stopped,
        "seconds": time.perf_counter() - began,
        "settings": {name: str(value) for name, value in vars(arguments).items()},
        "samples": [
            {"en": pair["en"], "reference": pair["zh"]}
            | {name: texts[i] for name, texts in outputs.items()}
            for i, pair in enumerate(test)
        ],
    }
    path = arguments.output / "translation.json"
    path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    report(f"wrote {path}")


if __name__ == "__main__":
    main()
