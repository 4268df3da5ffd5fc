"""Write tests/fixtures/evaluation_tasks.json with lm-evaluation-harness.

Run this script once, in a separate environment. The tests need only the file that it writes:

    pip install lm-eval==0.4.13 gpt_keras
    python scripts/make_task_fixtures.py

For each task of gpt_keras, rows in the form of the public dataset, written for this purpose, go
through the task file of lm-evaluation-harness, without and with two solved examples. The file holds
its requests, the right answers, and its metrics for drawn log-likelihoods.
"""

import json
import os
import pathlib
import tempfile
from importlib import metadata

os.environ["DISABLE_MULTIPROC"] = "1"  # for the bootstrap

import lm_eval.tasks
import numpy as np
from lm_eval.api.metrics import stderr_for_metric
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

FIXTURE = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "evaluation_tasks.json"

# Name of a task here, and its file in lm-evaluation-harness.
FILES = {
    "piqa": "piqa/piqa.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "commonsenseqa": "commonsense_qa/default.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "blimp": "blimp/adjunct_island.yaml",
    "ceval": "ceval/ceval-valid_law.yaml",
}


def options(*texts: str, labels: str = "ABCDE") -> dict:
    return {"text": list(texts), "label": list(labels[: len(texts)])}


def piqa(goal, sol1, sol2, label):
    return {"goal": goal, "sol1": sol1, "sol2": sol2, "label": label}


def openbookqa(question, choices, answer):
    return {"id": "x", "question_stem": question, "choices": choices, "answerKey": answer}


def question(text, choices, answer):
    return {"id": "x", "question": text, "choices": choices, "answerKey": answer}


def boolq(passage, text, label):
    return {"passage": passage, "question": text, "idx": 0, "label": label}


def hellaswag(activity, a, b, endings, label):
    return {
        "ind": 1,
        "activity_label": activity,
        "ctx_a": a,
        "ctx_b": b,
        "ctx": f"{a} {b}",
        "endings": endings,
        "label": label,
    }


def blimp(good, bad):
    return {"sentence_good": good, "sentence_bad": bad, "pairID": "0"}


def ceval(text, a, b, c, d, answer):
    row = {"id": 0, "question": text, "A": a, "B": b, "C": c, "D": d, "answer": answer}
    return row | {"explanation": "", "subject": "法学"}


# The first three rows are evaluated, the others are solved examples.
ROWS = {
    "piqa": [
        piqa("Keep bread fresh. ", "Put it in a box. ", "Put it in the rain. ", 0),
        piqa("how do you whisk eggs?", "With a fork", "With a spoon, slowly\nfor an hour", 0),
        piqa("Café: make “foam”", "Heat the milk.", "Cool it.", 0),
        piqa("Sharpen a pencil.", "Bend it.", "Turn it in a sharpener.", 1),
        piqa("Clean a window.", "Use water and paper.", "Use sand.", 0),
        piqa("Boil water.", "Use ice.", "Use a kettle.", 1),
    ],
    "openbookqa": [
        openbookqa("A magnet attracts ", options("wood", "iron", "glass", "paper"), "B"),
        openbookqa("Ice melts when it is", options("warm", "cold", "dark", "wet"), " A"),
        openbookqa("Bees make", options("milk", "wax", "wool", "silk and thread"), "B"),
        openbookqa("The sun is a", options("star", "moon", "planet", "comet"), "A"),
        openbookqa("Fish breathe with", options("lungs", "skin", "gills", "fins"), "C"),
    ],
    "commonsenseqa": [
        question("Where is a pen?  ", options("desk", "sea", "sky", "soup", "sun"), "A"),
        question("What is cold?", options("fire", "snow", "a lamp", "tea", "wool"), "B"),
        question("Who bakes?", options("a cat", "a tailor", "rain", "a king", "a baker"), "E"),
        question("What flies?", options("stone", "bird", "desk", "shoe", "fish"), "B"),
        question("What burns?", options("sand", "ice", "wood", "water", "salt"), "C"),
    ],
    "boolq": [
        boolq("Basalt -- Basalt is a rock. It is dark.", "is basalt a rock", 1),
        boolq("The lake is frozen in winter.", "is the lake warm in winter", 0),
        boolq("A yard has three feet.", "is a yard longer than a foot", 1),
        boolq("Oaks are trees.", "are oaks fish", 0),
        boolq("Rome lies on a river.", "does rome lie on a river", 1),
    ],
    "arc_easy": [
        question("Which is a metal?", options("tin", "oak", "milk", "air"), "A"),
        question("Which is alive?", options("rock", "moss", "sand", labels="123"), "2"),
        question("What do plants need?\nChoose.", options("light", "noise", "salt", "oil"), "A"),
        question("Which is a liquid?", options("ice", "steam", "water", "wood"), "C"),
        question("Which is hot?", options("snow", "lava", "fog", "dew"), "B"),
    ],
    "hellaswag": [
        hellaswag(
            "Making tea",
            "A woman fills a kettle.",
            "she",
            ["waits.", "[step] pours  it. [title] Then drinks", "sings [substeps] loudly.", "x"],
            "1",
        ),
        hellaswag(
            "Home [title] Garden",
            "[header] How to plant a tree [title] Dig a hole.  Be careful.",
            "",
            ["Put it in.", "Eat it.", " Sell  it. ", "[title] Go."],
            "0",
        ),
        hellaswag("Ski", "A man SKIS.", "the Man falls", ["and rises.", "up.", "in.", "so"], "0"),
        hellaswag("Cook", "A cook cuts.", "he", ["burns.", "sleeps.", "stirs.", "flies."], "2"),
        hellaswag("Row", "A boat [x] moves.", "it", ["sinks.", "turns.", "is", "was"], "1"),
    ],
    "lambada": [
        {"text": "He looked at the dog, and the dog looked back at the\nman"},
        {"text": "“Well,” she said, “open the   door"},
        {"text": "Nothing is so hard as to say no"},
        {"text": "They came home late, and the house was dark"},
        {"text": "She gave him the book, and he read the book"},
    ],
    "blimp": [
        blimp("Who did Ann see before leaving?", "Who did Ann leave before seeing?"),
        blimp("The cats sleep.", "The cats sleeps."),
        blimp("Bob hurt himself.", "Bob hurt herself."),
        blimp("A dog barks.", "A dog bark."),
        blimp("These books fell.", "This books fell."),
    ],
    "ceval": [
        ceval("下列哪一项是合同？ ", "买卖", "天气", "颜色", "声音", "A"),
        ceval("____是法律的渊源。", "小说", "宪法", "诗歌", "谚语", "B"),
        ceval("审判由谁进行？", "学生", "农民", "医生", "法院", "D"),
        ceval("谁制定法律？", "议会", "商店", "工厂", "车站", "A"),
        ceval("罚款是一种什么？", "奖励", "节日", "处罚", "职业", "C"),
    ],
}
ROWS["arc_challenge"] = ROWS["arc_easy"][::-1]


def harness_task(name: str, rows: list[dict], folder: pathlib.Path) -> ConfigurableTask:
    """Return a task of lm-evaluation-harness with other rows."""
    files = {}
    for split, own in (("test", rows[:3]), ("train", rows[3:])):
        files[split] = str(folder / f"{name}_{split}.jsonl")
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in own]
        pathlib.Path(files[split]).write_text("".join(lines), encoding="utf-8")
    config = {
        "include": str(pathlib.Path(lm_eval.tasks.__file__).parent / FILES[name]),
        "task": f"our_{name}",
        "tag": [],
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "validation_split": None,
        "training_split": None,
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return TaskManager(include_defaults=False).load([str(file)])["tasks"][f"our_{name}"]


def entry(name: str, task: ConfigurableTask, num_examples: int, generator) -> dict:
    items, results = [], []
    task.config.num_fewshot = num_examples
    for doc in task.eval_docs:
        context = task.fewshot_context(doc, num_fewshot=num_examples)
        requests = task.construct_requests(doc, context)
        requests = requests if isinstance(requests, list) else [requests]
        answers = [
            (float(generator.normal(-3 * len(r.args[1]) ** 0.7, 2)), bool(generator.random() < 0.5))
            for r in requests
        ]
        results.append(task.process_results(doc, answers))
        items.append(
            {
                "requests": [list(request.args) for request in requests],
                "log_probabilities": [answer[0] for answer in answers],
                "is_greedy": [answer[1] for answer in answers],
                "results": {key: float(value) for key, value in results[-1].items()},
            }
        )
        if task.OUTPUT_TYPE == "multiple_choice":
            gold, choices = task.doc_to_target(doc), task.doc_to_choice(doc)
            items[-1]["answer"] = choices.index(gold) if isinstance(gold, str) else gold
    metrics = {}
    for metric in results[0]:
        values = [result[metric] for result in results]
        aggregate = task.aggregation()[metric]
        error = stderr_for_metric(aggregate, 100_000)(values)
        metrics[metric] = [float(aggregate(values)), float(error)]
    return {"num_examples": num_examples, "items": items, "metrics": metrics}


def main() -> None:
    generator = np.random.default_rng(0)
    tasks = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder
        for name, rows in ROWS.items():
            task = harness_task(name, rows, pathlib.Path(folder))
            entries = [entry(name, task, number, generator) for number in (0, 2)]
            tasks[name] = {"rows": rows[:3], "examples": rows[3:], "entries": entries}
    content = {"made_with": f"lm-eval {metadata.version('lm-eval')}", "tasks": tasks}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    FIXTURE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
