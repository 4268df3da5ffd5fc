"""The command `gpt-keras evaluate`: perplexity on text, and the tasks of a suite."""

import pathlib
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
) -> None:
    """Measure a model's perplexity on text, or evaluate it on the tasks of a suite.

    For example: gpt-keras evaluate my_model new_text.txt

    Over a suite: gpt-keras evaluate my_model --suite quick --data my_data --output results. If the
    run is interrupted, the same command goes on where it stopped.

    Args:
        model: Directory written by gpt-keras train or save_to_preset, or a .keras file.
        corpus: Held-out text, which the model was not trained on: a text file, a directory with
            .txt and .md files (each file is a document), or a bundled corpus (shakespeare or
            tang_poems). Each token is scored once.
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
    """
    for_corpus = {"stride": stride, "keep_line_ends": keep_line_ends or None}
    for_suite = {"data": data, "output": output, "limit": limit, "seed": seed}
    for_suite["compare_with"] = compare_with
    if (corpus is None) == (suite is None):
        raise ValueError("`corpus` or `suite` must be given, and not both.")
    if corpus is not None:
        _check_absent(for_suite, "corpus")
        _print_perplexity(model, adapter, corpus, batch_size, stride, keep_line_ends)
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


def _print_perplexity(model, adapter, corpus, batch_size, stride, keep_line_ends) -> None:
    documents = read_corpus(corpus)
    found = gk.evaluation.perplexity(
        load_language_model(model, adapter),
        documents,
        stride=stride,
        batch_size=batch_size,
        keep_line_ends=keep_line_ends,
    )
    print(f"perplexity          {found.perplexity:.4f}")
    print(f"loss                {found.loss:.4f} nats per token")
    print(f"bits per character  {found.bits_per_character:.4f}")
    print(f"bits per byte       {found.bits_per_byte:.4f}")
    print(f"tokens              {found.num_tokens:,} in {len(documents):,} documents")


def _evaluate_suite(settings: dict[str, Any], batch_size: int) -> None:
    from gpt_keras.checks import check_positive_int
    from gpt_keras.evaluation.suite_data import read_suite
    from gpt_keras.evaluation.suite_report import write_report
    from gpt_keras.evaluation.suite_run import check_evaluation_folder, run_tasks

    check_positive_int("batch_size", batch_size)
    output = pathlib.Path(settings["output"])
    suite = _load_suite(settings["suite"])
    tasks = read_suite(suite, settings["data"], limit=settings["limit"], seed=settings["seed"])
    check_evaluation_folder(output, tasks)
    check_writable(settings["output"])
    others = _load_others(output, settings["compare_with"] or ())
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
            settings=settings,
            on_progress=progress,
        )
    except KeyboardInterrupt:
        print(progress.interrupted(), file=sys.stderr)
        raise
    print(f"\n{result}\n")
    if others:
        comparison = gk.evaluation.compare_suites({_name(output): result, **others})
        _draw(output / "comparison.png", comparison.results)
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


def _load_others(output: pathlib.Path, folders) -> dict[str, Any]:
    """Return the results of earlier runs by the names of their folders."""
    folders = [output, *map(pathlib.Path, folders)]
    names = [_name(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len({folder.absolute() for folder in folders}) < len(folders):
        raise ValueError(
            f"`compare_with` must name other folders than `output`, each once, got "
            f"{', '.join(map(str, folders[1:]))}."
        )
    return {
        name: gk.evaluation.load_results(folder) for name, folder in zip(names[1:], folders[1:])
    }


def _name(folder: pathlib.Path) -> str:
    return folder.absolute().name


def _draw(path: pathlib.Path, results: dict[str, Any]) -> None:
    from gpt_keras.atomic import atomic_file

    figure = gk.plots.evaluation(results)
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
