"""Ways to classify texts: bag of words, small models, SmolLM2 with LoRA.

    python scripts/finetuning_data.py FOLDER
    python scripts/finetuning_experiments.py pretrain FOLDER sentiment
    python scripts/finetuning_experiments.py run FOLDER sentiment bag_of_words lstm --sizes 100 1000
    python scripts/finetuning_experiments.py run FOLDER sentiment lora --smollm2 SMOLLM2 --seeds 0 1
    python scripts/finetuning_experiments.py report FOLDER

SMOLLM2 is a file or folder of SmolLM2-135M-Instruct. Call `run` once for each seed of `lora` and
`full`: compiled steps stay in memory.

The methods:

- `bag_of_words`: logistic regression on TF-IDF of words and word pairs (of characters and character
  pairs for Chinese).
- `lstm`, `scratch`: a small LSTM and a small GPT, trained on the labels only.
- `pretrained`: the same small GPT, pretrained here by `pretrain` on texts without labels.
- `frozen`: logistic regression on the last hidden state of SmolLM2. It is computed once and kept.
- `lora`, `full`: SmolLM2 with LoRA of rank 8, and with all weights trained.

Every method sees the same rows. The test has 1,000 rows and the validation 500. Validation chooses
the regularization of the regressions and the epoch of the networks. A seed decides which rows are
the labels, the initial weights and the order. Results are appended to FOLDER/results.jsonl, with
whether each test row was right, so that `report` compares methods row by row.
"""

import argparse
import collections
import itertools
import json
import pathlib
import resource
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from finetuning_data import SEPARATOR
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gpt_keras as gk

NUM_TEST, NUM_VALIDATION = 1000, 500
VOCABULARY_SIZE = 8192
# For each task: tokens of a text that a model reads, and words after the text for SmolLM2. It would
# say the answer next, so its last hidden state says much about the class. `lora` and `full` start
# with a head that compares the answers, each by its first token.
TASKS = {
    "sentiment": (64, "\nSentiment:", {"negative": " negative", "positive": " positive"}),
    "spam": (128, "\nCategory:", {"ham": " normal", "spam": " spam"}),
    "chinese": (128, "\nSentiment:", {"negative": " negative", "positive": " positive"}),
}
# Passes over the labels by their number: few labels need many.
EPOCHS = {
    "lstm": {100: 20, 1000: 15, 7000: 6},
    "scratch": {100: 20, 1000: 15, 7000: 6},
    "pretrained": {100: 15, 1000: 8, 7000: 4},
    "lora": {100: 6, 1000: 3, 7000: 1},
    "full": {100: 6, 1000: 3, 7000: 1},
}
LEARNING_RATES = {"lstm": 2e-3, "scratch": 1e-3, "pretrained": 1e-3, "lora": 5e-4, "full": 5e-5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("pretrain", "run", "report"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=pathlib.Path)
        if name != "report":
            command.add_argument("task", choices=TASKS)
        if name == "pretrain":
            command.add_argument("--steps", type=int, default=2400)
        if name == "run":
            command.add_argument("methods", nargs="+", choices=["bag_of_words", "frozen", *EPOCHS])
            command.add_argument("--sizes", type=int, nargs="+", default=[1000])
            command.add_argument("--seeds", type=int, nargs="+", default=[0])
            command.add_argument("--smollm2", help="file or folder of SmolLM2-135M")
    settings = parser.parse_args()
    if settings.command == "report":
        report(settings.folder)
        return
    data = Data(settings.folder, settings.task)
    if settings.command == "pretrain":
        pretrain(data, settings.steps)
        return
    for size in settings.sizes:
        for method in settings.methods:
            for seed in settings.seeds:
                run(data, method, size, seed, settings.smollm2)


class Data:
    """The rows of a task: for training, validation and test."""

    def __init__(self, folder: pathlib.Path, task: str):
        self.folder, self.task = folder, task
        self.num_tokens, self.question, self.answers = TASKS[task]
        path = folder / f"{task}.csv"
        num_rows = sum(1 for _ in gk.records.read_rows(path, ["text", "label"]))
        data = gk.datasets.classification(
            path,
            text="text",
            label="label",
            validation_fraction=NUM_VALIDATION / num_rows,
            test_fraction=NUM_TEST / num_rows,
        )
        self.class_names = data.class_names
        self.train, self.validation, self.test = data.train, data.validation, data.test

    def labeled(self, size: int, seed: int) -> gk.datasets.LabeledTexts:
        """Return `size` rows for training, with the same share of each class as the whole."""
        rows = np.random.default_rng(seed).permutation(len(self.train.labels))
        labels = self.train.labels[rows]
        # Rank of each row within its class, as a share: its first rows have the lowest ranks.
        rank = np.zeros(len(rows))
        for label in range(len(self.class_names)):
            own = labels == label
            rank[own] = (np.arange(own.sum()) + 0.5) / own.sum()
        rows = rows[np.argsort(rank, kind="stable")[:size]]
        return gk.datasets.LabeledTexts(self.train.texts[rows], self.train.labels[rows])

    def unlabeled(self) -> list[str]:
        """Return texts for pretraining; none is in the validation or the test."""
        if self.task == "sentiment":
            return (self.folder / "reviews.txt").read_text(encoding="utf-8").split(SEPARATOR)
        return self.train.texts.tolist()


class Batches:
    """Rows of token ids in batches of similar length, in another order each epoch.

    Lengths are multiples of 32, so that XLA compiles few shapes. In training, the rows that do not
    fill a batch are left out, other ones each epoch.
    """

    def __init__(self, rows, labels, batch_size, pad_id, seed=None):
        self.rows, self.labels, self.batch_size = rows, labels, min(batch_size, len(rows))
        self.pad_id, self.seed = pad_id, seed
        self.lengths = np.array([len(row) for row in rows])

    def indices(self, epoch: int = 0) -> list[np.ndarray]:
        """Return the rows of each batch of an epoch."""
        order = np.arange(len(self.rows))
        if self.seed is None:
            order = order[np.argsort(self.lengths, kind="stable")]
            return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(order)
        batches = []
        for begin in range(0, len(order), 16 * self.batch_size):
            own = order[begin : begin + 16 * self.batch_size]
            own = own[np.argsort(self.lengths[own], kind="stable")]
            batches += [own[i : i + self.batch_size] for i in range(0, len(own), self.batch_size)]
        batches = [batch for batch in batches if len(batch) == self.batch_size]
        return [batches[i] for i in random.permutation(len(batches))]

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return token ids, labels, and weights: 0 for rows that only fill up the batch."""
        length = 32 * -(-self.lengths[index].max() // 32)
        ids = np.full((self.batch_size, length), self.pad_id, np.int32)
        for row, i in zip(ids, index):
            row[: self.lengths[i]] = self.rows[i]
        labels = np.zeros(self.batch_size, np.int32)
        labels[: len(index)] = self.labels[index]
        weights = np.zeros(self.batch_size, np.float32)
        weights[: len(index)] = 1
        return ids, labels, weights

    def dataset(self) -> tf.data.Dataset:
        """Return the batches of an epoch for `fit`, which asks for them once an epoch."""
        epochs = itertools.count()

        def batches():
            for index in self.indices(next(epochs)):
                yield self.batch(index)

        signature = (
            tf.TensorSpec((self.batch_size, None), tf.int32),
            tf.TensorSpec((self.batch_size,), tf.int32),
            tf.TensorSpec((self.batch_size,), tf.float32),
        )
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(len(self.indices())))


def pretrain(data: Data, steps: int) -> None:
    """Train the small GPT on texts without labels."""
    texts = data.unlabeled()
    sample = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:5000]]
    tokenizer = gk.tokenizers.BytePairTokenizer.train(sample, VOCABULARY_SIZE)
    keras.utils.set_random_seed(0)
    train, validation = gk.datasets.language_modeling(
        texts, tokenizer, sequence_length=128, batch_size=16, validation_fraction=0.01
    )
    model = gk.GPTCausalLM(small_config(dropout=0.0), tokenizer)
    print(f"{len(texts):,} texts, {model.count_params():,} parameters", flush=True)
    model.compile(gk.training.muon(total_steps=steps))
    began = time.perf_counter()
    model.fit(
        train.repeat(),
        epochs=6,
        steps_per_epoch=steps // 6,
        validation_data=validation,
        callbacks=[gk.callbacks.Throughput()],
        verbose=2,
    )
    print(f"{time.perf_counter() - began:.0f} s")
    model.save_to_preset(data.folder / f"small_{data.task}")


def small_config(dropout: float = 0.1) -> gk.GPTConfig:
    return gk.presets.nano.nano(
        192, vocabulary_size=VOCABULARY_SIZE, max_sequence_length=128, dropout=dropout
    )


def run(data: Data, method: str, size: int, seed: int, smollm2: str | None) -> None:
    """Train and test one method, and append the result."""
    examples = data.labeled(size, seed)
    if method == "frozen":
        texts = [*examples.texts, *data.validation.texts, *data.test.texts]
        features = smollm2_features(data, texts, smollm2)
    keras.utils.set_random_seed(seed)
    began, cpu_began = time.perf_counter(), time.process_time()
    if method == "bag_of_words":
        scores, details = bag_of_words(data, examples)
    elif method == "frozen":
        scores, details = linear_head(data, examples, features)
    else:
        scores, details = network(data, examples, method, seed, smollm2)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    is_right = (scores > 0) == (data.test.labels == 1)
    precision, recall, _ = precision_recall_curve(data.test.labels, scores)
    result = {
        "task": data.task,
        "method": method,
        "size": size,
        "seed": seed,
        "accuracy": float(is_right.mean()),
        "precision_at_95": float(precision[recall >= 0.95].max()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **details,
        "right": "".join(str(int(right)) for right in is_right),
    }
    with (data.folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(result) + "\n")
    print({key: value for key, value in result.items() if key != "right"}, flush=True)


def bag_of_words(data, examples):
    chinese = data.task == "chinese"
    best = None
    for c in (0.1, 1, 10, 100):
        words = TfidfVectorizer(
            analyzer="char" if chinese else "word",
            token_pattern=r"(?u)\b\w+\b",
            ngram_range=(1, 2),
            sublinear_tf=True,
        )
        model = make_pipeline(words, LogisticRegression(C=c, max_iter=1000))
        model.fit(examples.texts.tolist(), examples.labels)
        accuracy = model.score(data.validation.texts.tolist(), data.validation.labels)
        if best is None or accuracy > best[0]:
            best = accuracy, model
    scores = best[1].decision_function(data.test.texts.tolist())
    return scores, {"trained": int(best[1][-1].coef_.size + 1), "validation": best[0]}


def linear_head(data, examples, features):
    best = None
    for c in (1e-4, 1e-3, 1e-2, 0.1, 1):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        model.fit([features[text] for text in examples.texts], examples.labels)
        validation = [features[text] for text in data.validation.texts]
        accuracy = model.score(validation, data.validation.labels)
        if best is None or accuracy > best[0]:
            best = accuracy, model
    scores = best[1].decision_function([features[text] for text in data.test.texts])
    return scores, {"trained": int(best[1][-1].coef_.size + 1), "validation": best[0]}


def smollm2_features(data, texts, smollm2) -> dict[str, np.ndarray]:
    """Return the last hidden state of each text; compute missing ones, keep all."""
    path = data.folder / f"features_{data.task}.npz"
    features = {}
    if path.exists():
        with np.load(path, allow_pickle=True) as file:
            features = dict(zip(file["texts"], file["states"]))
    texts = [text for text in dict.fromkeys(texts) if text not in features]
    if not texts:
        return features
    model = gk.GPTCausalLM.from_preset(smollm2)
    rows = token_rows(data, texts, model.tokenizer, data.question)
    batches = Batches(rows, np.zeros(len(rows)), 32, model.tokenizer.end_of_text_id)
    hidden_states = tf.function(model.backbone.hidden_states, jit_compile=True)
    began = time.perf_counter()
    for index in batches.indices():
        hidden = hidden_states(batches.batch(index)[0]).numpy()
        states = hidden[np.arange(len(index)), batches.lengths[index] - 1]
        features.update(zip([texts[i] for i in index], states))
    print(f"features of {len(rows):,} texts: {time.perf_counter() - began:.0f} s", flush=True)
    np.savez(path, texts=np.array(list(features), object), states=list(features.values()))
    return features


def token_rows(data, texts, tokenizer, question="") -> list[list[int]]:
    suffix = tokenizer.encode(question) if question else []
    limit = data.num_tokens - len(suffix)
    return [[*ids[:limit], *suffix] for ids in tokenizer.encode(list(texts))]


def network(data, examples, method, seed, smollm2):
    question, batch_size = "", 32
    if method in ("lora", "full"):
        model = gk.GPTCausalLM.from_preset(smollm2)
        question, batch_size = data.question, 16
    else:
        model = gk.GPTCausalLM.from_preset(data.folder / f"small_{data.task}")
        tokenizer = model.tokenizer
        if method == "lstm":
            size = small_config().num_parameters
            lstm = gk.LSTMBackbone.of_size(size, VOCABULARY_SIZE, num_layers=2, dropout=0.3)
            model = gk.CausalLM(lstm, tokenizer)
        else:
            weights = model.get_weights()
            model = gk.GPTCausalLM(small_config(), tokenizer)
            if method == "pretrained":
                model.set_weights(weights)
    classifier = gk.GPTClassifier(model, class_names=data.class_names)
    if question:
        answers = [data.answers[name] for name in data.class_names]
        tokens = [ids[0] for ids in model.tokenizer.encode(answers)]
        embeddings = model.backbone.token_embedding.embeddings.numpy()[tokens]
        classifier.head.set_weights([embeddings.T, np.zeros(len(tokens))])
    if method == "lora":
        classifier.enable_lora(8)
    rows = [
        token_rows(data, part.texts, model.tokenizer, question)
        for part in (examples, data.validation, data.test)
    ]
    pad = classifier.pad_id
    train = Batches(rows[0], examples.labels, batch_size, pad, seed=seed)
    validation = Batches(rows[1], data.validation.labels, 50, pad)
    test = Batches(rows[2], data.test.labels, 50, pad)
    nearest = min(EPOCHS[method], key=lambda size: abs(size - len(rows[0])))
    epochs = EPOCHS[method][nearest]
    steps = epochs * len(train.indices())
    classifier.compile(
        gk.training.adamw(
            LEARNING_RATES[method], warmup_steps=max(1, steps // 10), total_steps=steps
        ),
        jit_compile=method != "lstm",  # an unrolled LSTM takes minutes to compile
    )
    best = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=epochs, restore_best_weights=True
    )
    history = classifier.fit(
        train.dataset(),
        epochs=epochs,
        validation_data=validation.dataset(),
        callbacks=[best],
        verbose=2,
    )
    scores = np.zeros(len(rows[2]))
    for index in test.indices():
        logits = classifier.predict_on_batch(test.batch(index)[0])[: len(index)]
        scores[index] = logits[:, 1] - logits[:, 0]
    report = gk.finetuning.trainable_report(classifier)
    with tempfile.TemporaryDirectory() as folder:
        if method == "lora":
            classifier.save_adapter(folder)
        else:
            classifier.save_to_preset(pathlib.Path(folder) / "preset")
        num_bytes = sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*.*"))
    return scores, {
        "trained": report["trainable"],
        "parameters": classifier.count_params(),
        "validation": max(history.history["val_accuracy"]),
        "epochs": epochs,
        "bytes": num_bytes,
    }


def report(folder: pathlib.Path) -> None:
    """Print means over seeds, and each method against the bag of words row by row."""
    results = [json.loads(line) for line in (folder / "results.jsonl").open()]
    groups = collections.defaultdict(list)
    for result in results:
        groups[result["task"], result["size"], result["method"]].append(result)
    print("| task | labels | method | seeds | accuracy | precision at recall 0.95 | trained | s |")
    print("|---|---|---|---|---|---|---|---|")
    for (task, size, method), own in sorted(groups.items()):
        mean = {k: np.mean([r[k] for r in own]) for k in ("accuracy", "precision_at_95", "seconds")}
        print(
            f"| {task} | {size:,} | {method} | {len(own)} | {mean['accuracy']:.3f} "
            f"| {mean['precision_at_95']:.3f} | {own[0]['trained']:,} | {mean['seconds']:.0f} |"
        )
    print("\nDifference of accuracy from the bag of words, and its standard error over test rows:")
    for (task, size, method), own in sorted(groups.items()):
        base = {r["seed"]: r for r in groups[task, size, "bag_of_words"]}
        pairs = [(r, base[r["seed"]]) for r in own if r["seed"] in base]
        if method == "bag_of_words" or not pairs:
            continue
        # One number a test row: the mean difference over the seeds.
        rows = np.mean([np.subtract(bits(r), bits(b)) for r, b in pairs], axis=0)
        error = rows.std(ddof=1) / np.sqrt(len(rows))
        print(
            f"{task} {size} {method}: {rows.mean():+.3f}, standard error {error:.3f}, "
            f"{rows.mean() / error:+.1f} errors, {len(pairs)} seeds"
        )


def bits(result) -> np.ndarray:
    return np.array([int(bit) for bit in result["right"]])


if __name__ == "__main__":
    main()
