"""The command `gpt-keras finetune`."""

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from .files import check_output
from .finetuning_chat import finetune_chat
from .finetuning_classification import finetune_classifier
from .finetuning_dpo import finetune_dpo
from .finetuning_grpo import finetune_grpo
from .finetuning_run import AGAIN, Run
from .runs import check_no_run, interrupted_settings
from .task_models import check_no_task

# The keyword arguments of a task's function are the options of the task, with their defaults.
_TASKS = {
    "classification": finetune_classifier,
    "chat": finetune_chat,
    "dpo": finetune_dpo,
    "grpo": finetune_grpo,
}
_USES = {
    "classification": 'gpt-keras classify {output} "..."',
    "chat": "gpt-keras chat {output}",
    "dpo": 'gpt-keras generate {output} "..."',
    "grpo": 'gpt-keras generate {output} "..."',
}


def finetune(
    model: str,
    data: str,
    output: str,
    *,
    task: Literal["classification", "chat", "dpo", "grpo"] = "classification",
    validation_fraction: float | None = None,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    target_layer_names: list[str] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    sequence_length: int | None = None,
    learning_rate: float | None = None,
    dtype: Literal["float32", "mixed_bfloat16", "mixed_float16"] | None = None,
    seed: int = 0,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    layout: Literal["entailment", "similarity"] | None = None,
    validation: str | None = None,
    test: str | None = None,
    test_fraction: float | None = None,
    group: str | None = None,
    drop_duplicates: bool = False,
    freeze_backbone: bool = False,
    pooling: Literal["last", "extract"] | None = None,
    dropout: float | None = None,
    class_weight: Literal["balanced"] | None = None,
    max_new_tokens: int | None = None,
    beta: float | None = None,
    reward: str | None = None,
    num_generations: int | None = None,
    temperature: float | None = None,
    resume: bool = False,
) -> None:
    """Fine-tune a language model, and save it.

    The task classification makes a classifier from a table of texts and labels. The task chat makes
    a chat model from conversations. The task dpo trains a model to prefer chosen answers over
    rejected ones, and the task grpo trains it on the rewards that a function gives. A part of the
    data is held out, and the model is measured on it. By default LoRA adapters are trained, which
    needs little memory. The output directory contains the model (adapters included), report.md,
    run.json and run.yaml. The model is saved after each epoch. Ctrl-C stops training and saves the
    current model. The same command with --resume continues an interrupted training exactly.

    For a classifier: gpt-keras finetune smollm2_135m_instruct reviews.csv my_classifier --text
    review --label stars. For a chat model: gpt-keras finetune my_model conversations.jsonl
    my_chat_model --task chat.

    Args:
        model: Name of a pretrained model, such as smollm2_135m_instruct; or a directory written by
            gpt-keras train or save_to_preset, a .keras file, a .gguf file, a Hugging Face folder or
            hf://owner/name[@revision].
        data: A .csv, .tsv, .jsonl, .json or .parquet file. For classification: texts and labels.
            For chat: a column messages (a list of role and content), conversations (ShareGPT), or
            instruction, input and output (Alpaca). For dpo: prompt, chosen and rejected, texts or
            lists of messages. For grpo: prompt, texts or lists of messages.
        output: New or empty directory for the trained model.
        task: Kind of training. classification predicts one label for each text. chat answers
            messages; a model without a chat template gets ChatML. dpo is direct preference
            optimization: the chosen answer of each pair becomes more probable than the rejected
            one. grpo is group relative policy optimization: of several sampled answers, the answers
            with high rewards become more probable.
        validation_fraction: Fraction of data that is held out for validation, in [0, 1). The
            default is 0.1, or 0 with validation.
        lora_rank: Rank of the LoRA adapters; 0 trains all weights of the model instead. The default
            is 8, or 0 with freeze_backbone.
        lora_alpha: Adapters are scaled by lora_alpha / lora_rank. The default is lora_rank.
        target_layer_names: Layers that get an adapter, by name or by regular expression, such as
            query value. The default is query and value. This flag must come after the positional
            arguments.
        epochs: Number of passes over the training part. The default is 3, or 1 for
            dpo and grpo.
        batch_size: Number of rows per batch. The default is 16 for classification, else 8.
        sequence_length: Except for grpo, the longest row in tokens, special tokens included. Longer
            texts are cut, and longer conversations lose their oldest messages; the report counts
            them. The default is 512 for classification, else 1024, or the model's context length if
            that is shorter.
        learning_rate: Peak learning rate, reached after warm-up. A cosine schedule then lowers it
            to a tenth. The default is 5e-4 for adapters, 6.25e-5 for all weights and 1e-3 for the
            head of a classifier alone. For dpo and grpo it is 1e-5 for adapters and 1e-6 for all
            weights.
        dtype: Dtype policy of the model. mixed_bfloat16 and mixed_float16 are for GPUs; they keep
            the weights in float32. The default is the policy with which the model was saved, or
            float32.
        seed: Random seed of the whole run: split, order, head, adapters and dropout.
        text: For classification, the column of the texts. The default is text.
        text_pair: For classification, the column of second texts, if each label belongs to a pair
            of texts.
        label: For classification, the column of the labels: names or integers. The default is
            label.
        layout: For classification, the kind of pairs. entailment is for ordered pairs, such as
            premise and hypothesis; similarity is for pairs without order, and reads each pair in
            both orders. The default is entailment. Only with text_pair.
        validation: For classification, the file with the validation part, if it is not drawn from
            data. It has the same columns and labels.
        test: For classification, the file with the test part, if it is not drawn from data. It has
            the same columns and labels.
        test_fraction: For classification, the fraction of data that is held out for the test, in
            [0, 1). The default is 0.1, or 0 with test.
        group: For classification, a column whose equal values must stay in one part, such as an
            author.
        drop_duplicates: For classification, whether to keep one row of rows with the same text and
            label, and no row of a text with several labels. Equal texts are always in the same
            part.
        freeze_backbone: For classification, whether to train only the head of the classifier.
        pooling: For classification, the token whose hidden state the head reads. last is the last
            token of the text; extract adds special tokens around the text, as in GPT-1, which only
            lora_rank 0 trains. The default is last.
        dropout: For classification, the dropout rate before the head, in [0, 1). The default is
            0.1.
        class_weight: For classification, the weights of the classes in the loss. balanced gives
            each class the same total weight, however many texts it has.
        max_new_tokens: For chat, dpo and grpo, the largest number of tokens of an answer. Held-out
            questions are answered before and after training. The default is 64 for grpo, else twice
            the longest right answer, from 32 to 256.
        beta: For dpo and grpo, the strength of the pull to the model before training. The default
            is 0.1 for dpo and 0.04 for grpo.
        reward: For grpo, the function that returns a number for each completion, called as
            function(prompts=..., completions=...). It is module:function or file.py:function.
        num_generations: For grpo, the number of completions of each prompt that are compared. The
            default is 8.
        temperature: For grpo, the temperature of sampling. The default is 1.
        resume: Whether to continue the training in output, from its newest checkpoint. The other
            arguments must be as before, but epochs may be larger. The learning-rate schedule then
            follows the new number of epochs.
    """
    given = dict(locals())
    began = time.perf_counter()
    options = _options(task, given)
    from gpt_keras.checks import check_positive_int, check_seed

    # All arguments are checked before training, and the cheap checks come first.
    settings = {"model": model, "data": data, "output": output, "task": task} | options
    if resume:
        interrupted_settings(output, settings, ("epochs",))
    else:
        check_no_run(output, AGAIN, _USES[task])
        check_output(output)
    for name in ("epochs", "batch_size"):
        check_positive_int(name, options[name])
    check_seed(seed)
    check_no_task(model)
    _TASKS[task](model, data, Run(output, settings, began), **options)


def _options(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task, with its defaults where none is given.

    Raises:
        ValueError: An option of another task is given.
    """
    defaults = {name: _keyword_arguments(function) for name, function in _TASKS.items()}
    for name, value in given.items():
        others = [other for other in defaults if name in defaults[other]]
        if others and task not in others and not _is_default(value):
            raise ValueError(
                f"`{name}` is an option of the task {' and '.join(others)}, and must be left out "
                f"with the task {task}; got {value!r}."
            )
    return {
        name: default if _is_default(given[name]) else given[name]
        for name, default in defaults[task].items()
    }


def _keyword_arguments(function: Callable) -> dict[str, Any]:
    """Return the defaults of the keyword-only arguments of a function."""
    parameters = inspect.signature(function).parameters.values()
    return {part.name: part.default for part in parameters if part.kind is part.KEYWORD_ONLY}


def _is_default(value: Any) -> bool:
    return value is None or value is False
