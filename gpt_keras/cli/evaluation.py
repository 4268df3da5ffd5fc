"""The command `gpt-keras evaluate`: perplexity on text, and the tasks of a suite."""

import pathlib
import statistics
import sys
from typing import Any

from .files import check_writable, print_written, read_corpus
from .package import gk
from .settings import load_language_model


def evaluate(
    model: str,
    corpus: str | None = None,
    /,
    *,
    suite: str | None = None,
    data: str | None = None,
    output: str | None = None,
    adapter: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    compare_with: list[str] | None = None,
    batch_size: int = 8,
    stride: int | None = None,
    keep_line_ends: bool = False,
    field: str | None = None,
) -> None:
    """Measure a model's perplexity on text, or evaluate it on the tasks of a suite.

    For example: gpt-keras evaluate my_model new_text.txt

    Over a suite: gpt-keras evaluate my_model --suite quick --data my_data --output results. If the
    run is interrupted, the same command goes on where it stopped.

    Args:
        model: Directory written by gpt-keras train or save_to_preset, or a .keras file.
        corpus: Held-out text, which the model was not trained on: a text file (a document), a
            table (.jsonl, .json, .csv, .tsv or .parquet) with a document in each row, a directory
            of these, or a bundled corpus (shakespeare or tang_poems). Files may be compressed by
            gzip (.txt.gz, .jsonl.gz). Each token is scored once.
        suite: Suite of tasks: quick, standard or bias, or a YAML file. Not with a corpus.
        data: Directory with the data files of the suite. An error names files that are missing,
            and where to get them.
        output: Directory for the results of the suite: results.json, report.md, and the records of
            all items. A new or an empty one, or the one of an interrupted run.
        adapter: Folder of a LoRA adapter for this model, written by save_adapter or by PEFT.
        limit: Largest number of items of each task of the suite. By default, all items, or as many
            as the suite gives.
        seed: Random seed that draws the items if there is a limit. By default, they are the first
            ones.
        compare_with: Output directories of earlier runs over the same suite. The results are
            compared item by item, and drawn in comparison.png.
        batch_size: Number of windows or items per batch.
        stride: Number of tokens between the starts of two windows of a long document of the
            corpus. A smaller stride gives the tokens more context but takes longer. The default is
            the model's context length, so that windows do not overlap.
        keep_line_ends: Whether to keep CRLF and CR line ends in files of the corpus instead of
            converting them to LF. Use the same value as in training.
        field: Column of the text, if the corpus is a table. The default is text.
    """
    for_corpus = {"stride": stride, "keep_line_ends": keep_line_ends or None, "field": field}
    for_suite = {"data": data, "output": output, "limit": limit, "seed": seed}
    for_suite["compare_with"] = compare_with
    if (corpus is None) == (suite is None):
        raise ValueError("`corpus` or `suite` must be given, and not both.")
    if corpus is not None:
        _check_absent(for_suite, "corpus")
        options = {"keep_line_ends": keep_line_ends, "field": field or "text"}
        _print_perplexity(model, adapter, corpus, batch_size=batch_size, stride=stride, **options)
        return
    _check_absent(for_corpus, "suite")
    for name in ("data", "output"):
        if not for_suite[name]:
            raise ValueError(f"`{name}` must be given with `suite`.")
    if compare_with == []:
        raise ValueError("`compare_with` must name a folder or several, got none.")
    settings = {"model": model, "adapter": adapter, "suite": suite} | for_suite
    _evaluate_suite(settings, batch_size)


def _check_absent(values: dict[str, Any], other: str) -> None:
    given = [f"`{name}`" for name, value in values.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)} must be left out with `{other}`.")


def _print_perplexity(model, adapter, corpus, **options) -> None:
    from gpt_keras.corpus import digest_and_count

    texts = read_corpus(corpus, options["field"])
    _, num_documents = digest_and_count(texts, options["field"])
    found = gk.evaluation.perplexity(load_language_model(model, adapter), texts, **options)
    print(f"perplexity          {found.perplexity:.4f}")
    print(f"loss                {found.loss:.4f} nats per token")
    print(f"bits per character  {found.bits_per_character:.4f}")
    print(f"bits per byte       {found.bits_per_byte:.4f}")
    print(f"tokens              {found.num_tokens:,} in {num_documents:,} documents")


def _evaluate_suite(settings: dict[str, Any], batch_size: int) -> None:
    from gpt_keras.checks import check_positive_int
    from gpt_keras.evaluation.suites.data import read_suite
    from gpt_keras.evaluation.suites.report import write_report
    from gpt_keras.evaluation.suites.run import check_evaluation_folder, run_tasks

    check_positive_int("batch_size", batch_size)
    output = pathlib.Path(settings["output"])
    suite = _load_suite(settings["suite"])
    tasks = read_suite(suite, settings["data"], limit=settings["limit"], seed=settings["seed"])
    check_evaluation_folder(output, tasks)
    check_writable(settings["output"])
    name, others = "", {}
    if settings["compare_with"]:
        folders = [pathlib.Path(folder) for folder in settings["compare_with"]]
        name, others = _load_others(output, folders, tasks)
    language_model = load_language_model(settings["model"], settings["adapter"])
    if language_model.tokenizer is None:
        raise ValueError(f"`model` must have a tokenizer, but {settings['model']!r} has none.")
    progress = _Progress(output, sum(len(task.examples) for task in tasks))
    try:
        result = run_tasks(
            language_model,
            suite.name,
            tasks,
            output,
            batch_size=batch_size,
            settings=_for_record(settings),
            on_progress=progress,
        )
    except KeyboardInterrupt:
        print(progress.interrupted(), file=sys.stderr)
        raise
    print(f"\n{result}\n")
    if others:
        comparison = gk.evaluation.compare_suites({name: result, **others})
        _draw(output / "comparison.png", comparison)
        write_report(output, result, comparison, "comparison.png")
        print(f"{comparison}\n")
    for path in (output / "results.json", output / "report.md"):
        print_written(path)
    if others:
        print_written(output / "comparison.png")


def _load_suite(source: str) -> "gk.evaluation.Suite":
    try:
        return gk.evaluation.load_suite(source)
    except ValueError as error:  # `source` is the library's name of the argument
        raise ValueError(str(error).replace("`source`", "`suite`")) from error


def _for_record(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the results depend on."""
    return {
        name: value
        for name, value in settings.items()
        if value is not None and name != "compare_with"
    }


def _load_others(output: pathlib.Path, folders, tasks) -> tuple[str, dict[str, Any]]:
    """Return a name for this run, and the results of earlier runs by name."""
    from gpt_keras.evaluation.suites.comparison import check_comparable

    name, *others = _names([output, *folders])
    if len(folders) >= len(gk.plots.STYLES):
        most = len(gk.plots.STYLES) - 1
        raise ValueError(f"`compare_with` must name at most {most} folders, got {len(folders)}.")
    own = {data.task.name: data.description for data in tasks}
    found = {}
    for other, folder in zip(others, folders, strict=True):
        found[other] = gk.evaluation.load_results(folder)
        check_comparable(name, own, other, found[other].record["tasks"])
    return name, found


def _names(folders: list[pathlib.Path]) -> list[str]:
    """Return the names of folders, or their paths if two have the same name."""
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"`compare_with` must name other folders than `output`, each once, got "
            f"{', '.join(map(str, folders[1:]))}."
        )
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else list(map(str, folders))


def _draw(path: pathlib.Path, comparison: "gk.evaluation.SuiteComparison") -> None:
    from gpt_keras.atomic import atomic_file

    chance = {}
    for result in comparison.results.values():
        for name, task in result.tasks.items():
            # In tasks of choice, `chosen` is the choice by each accuracy.
            if all("chosen" in record for record in task.records):
                level = statistics.fmean(1 / len(record["choices"]) for record in task.records)
                chance[name] = dict.fromkeys(task.records[0]["chosen"], level)
    figure = gk.plots.evaluation(comparison.results, chance=chance)
    with atomic_file(path) as file:
        figure.savefig(file, dpi=150)


class _Progress:
    """A progress bar on a terminal; elsewhere, a line for each task."""

    def __init__(self, output: pathlib.Path, total: int):
        self._output, self._total = output, total
        self._done = {}
        self._bar = None

    def __call__(self, task: str, done: int, total: int) -> None:
        import keras

        is_new = task not in self._done
        if is_new and done < total and sys.stdout.isatty():
            print(task)
            self._bar = keras.utils.Progbar(total, unit_name="item")
        if is_new and done == total:
            print(f"{task}: {total:,} items, done before")
        elif self._bar is not None:
            self._bar.update(done, finalize=done == total)
        elif is_new:
            print(f"{task}: {total:,} items", flush=True)
        if done == total:
            self._bar = None
        self._done[task] = done

    def interrupted(self) -> str:
        """Return a message for the user."""
        done = sum(self._done.values())
        if not done:
            return "gpt-keras: no items are done yet"
        return (
            f"gpt-keras: {self._output} holds {done:,} of {self._total:,} items; the same command "
            "goes on there"
        )
