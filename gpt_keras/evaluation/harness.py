"""A model for lm-evaluation-harness. Only this module imports the package lm_eval."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

from gpt_keras.chat.template import ChatTemplate
from gpt_keras.checks import check_positive_int, check_seed
from gpt_keras.evaluation.context_pairs import encode_pairs, encode_texts, prefix_id
from gpt_keras.generation import PROCESSORS, BeamSearch, fold_in
from gpt_keras.generation.continuations import score_continuations
from gpt_keras.models import CausalLM
from gpt_keras.version import __version__

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import (
        handle_stop_sequences,
        normalize_gen_kwargs,
        postprocess_generated_text,
    )
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(
        "`HarnessModel` needs lm-evaluation-harness: pip install 'gpt_keras[harness]'"
    ) from error

_logger = logging.getLogger(__name__)

# The settings of `HFLM`, the harness's own class for transformers.
_DEFAULT_LENGTH = 2048
_MOST_NEW_TOKENS = 256
_TOP_K = 50

# Batches between two writes to the harness's cache of results. An interrupted run loses at most
# these.
_BATCHES = 64


class HarnessModel(TemplateLM):
    """Model for lm-evaluation-harness.

    `lm_eval.simple_evaluate(model=gk.evaluation.HarnessModel(model), tasks=[...])` evaluates it.

    The harness runs every task of text with it: log-likelihoods of choices, rolling
    log-likelihoods, and generated answers, with few-shot examples and with the model's chat
    template (`apply_chat_template=True`). Texts are encoded and cut as in the harness's `HFLM`, so
    figures can be compared with figures of the same weights in transformers. A context runs once
    for all its continuations.

    A model with a LoRA adapter is evaluated in the same way. Sampled answers depend on `seed` and
    on the number of the request, so a second run gives the same answers.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer.

    Args:
        model: A `CausalLM` with a tokenizer.
        batch_size: Number of rows in a batch.
        seed: Seed of sampled answers.

    Raises:
        ValueError: `model` is not a `CausalLM` with a tokenizer, or another argument is out of its
            range.
        ImportError: The package lm-eval is not installed.

    Example:
        >>> import gpt_keras as gk
        >>> tokenizer = gk.tokenizers.CharacterTokenizer("abc ", end_of_text=True)
        >>> config = gk.presets.get("tiny").replace(vocabulary_size=5)
        >>> model = gk.GPTCausalLM(config, tokenizer=tokenizer)
        >>> harness_model = gk.evaluation.HarnessModel(model)
        >>> harness_model.max_length, harness_model.eot_token_id
        (32, 4)
        >>> # lm_eval.simple_evaluate(model=harness_model, tasks=["piqa"])
    """

    def __init__(self, model: CausalLM, batch_size: int = 8, seed: int = 0):
        super().__init__()
        if not isinstance(model, CausalLM) or model.tokenizer is None:
            raise ValueError(f"`model` must be a CausalLM with a tokenizer, got {model!r}.")
        check_positive_int("batch_size", batch_size)
        check_seed(seed)
        self.model = model
        self.tokenizer = model.tokenizer
        self.batch_size = batch_size
        self.seed = seed

    # Tokens

    @property
    def eot_token_id(self) -> int | None:
        """Id of the end-of-text token; None if the tokenizer lacks one."""
        return self.tokenizer.end_of_text_id

    @property
    def prefix_token_id(self) -> int:
        """Id of the token that stands for an empty context."""
        return prefix_id(self.tokenizer)

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens; 2,048 for a model without a limit."""
        return self.model.max_sequence_length or _DEFAULT_LENGTH

    @property
    def max_gen_toks(self) -> int:
        """Largest number of new tokens of a task that gives none."""
        return _MOST_NEW_TOKENS

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Return the token ids of a text.

        Args:
            string: The text.
            add_special_tokens: Whether the ids begin like a prompt. Default: yes, unless the text
                itself begins with the start-of-text token.
            **kwargs: Ignored.
        """
        if add_special_tokens is None:
            return encode_texts(self.tokenizer, [string])[0]
        return self.tokenizer.encode(string, "all", add_start_of_text=add_special_tokens)

    def tok_decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of token ids.

        Args:
            tokens: The ids.
            skip_special_tokens: Whether special tokens are left out.
        """
        if skip_special_tokens:
            special = {*self.tokenizer.special_tokens.values()}
            tokens = [token_id for token_id in tokens if token_id not in special]
        return self.tokenizer.decode(list(tokens))

    # Log-likelihoods

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return `(log_likelihood, is_greedy)` of each `(context, continuation)`.

        Args:
            requests: Instances of the harness.
            disable_tqdm: Whether to show no progress bar.
        """
        pairs = [request.args for request in requests]
        encoded = encode_pairs(self.tokenizer, pairs)
        return self._loglikelihood_tokens(
            [(pair, *ids) for pair, ids in zip(pairs, encoded, strict=True)], disable_tqdm
        )

    def _loglikelihood_tokens(
        self, requests, disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Log-likelihoods")
        # Equal contexts are neighbours, so that they share a pass.
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i][1]), requests[i][1]))
        found, num_cut = [None] * len(requests), 0
        block = _BATCHES * self.batch_size
        for part in (order[i : i + block] for i in range(0, len(order), block)):
            scores = score_continuations(
                self.model,
                [(requests[i][1], [requests[i][2]]) for i in part],
                batch_size=self.batch_size,
                progress=bar.update,
            )
            for i, (score,) in zip(part, scores, strict=True):
                found[i] = score.log_probability, score.is_greedy
                num_cut += score.was_cut
                if requests[i][0] is not None:  # a window of a rolling log-likelihood has no text
                    self.cache_hook.add_partial("loglikelihood", requests[i][0], found[i])
        bar.close()
        if num_cut:
            _logger.warning(
                "%d of %d texts were longer than %d tokens and lost tokens on the left.",
                num_cut,
                len(requests),
                self.max_length + 1,
            )
        return found

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, in windows of `max_length` tokens.

        Args:
            requests: Instances of the harness.
            disable_tqdm: Whether to show no progress bar.
        """
        texts = [request.args[0] for request in requests]
        windows, owners = [], []
        for i, ids in enumerate(encode_texts(self.tokenizer, texts)):
            rolling = get_rolling_token_windows(
                token_list=ids,
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            found = [(None, *make_disjoint_window(window)) for window in rolling]
            windows += found
            owners += [i] * len(found)
        totals = [0.0] * len(texts)
        scores = self._loglikelihood_tokens(windows, disable_tqdm)
        for i, (log_likelihood, _) in zip(owners, scores, strict=True):
            totals[i] += log_likelihood
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    # Generated answers

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Return the generated answer of each `(context, settings)`.

        A context that leaves no room for the new tokens is cut on the left.

        Args:
            requests: Instances of the harness.
            disable_tqdm: Whether to show no progress bar.

        Raises:
            ValueError: A setting is unknown, or the new tokens alone fill the model's context.
        """
        given = [request.args for request in requests]
        contexts = encode_texts(self.tokenizer, [context for context, _ in given])
        groups: dict[str, list[int]] = {}
        for i, (_, settings) in enumerate(given):
            groups.setdefault(repr(sorted(settings.items())), []).append(i)
        answers = [""] * len(given)
        bar = tqdm(total=len(given), disable=disable_tqdm, desc="Generated answers")
        for group in groups.values():
            settings, most, until = self._settings(given[group[0]][1])
            room = self.max_length - most
            if room < 1:
                raise ValueError(
                    f"`max_gen_toks` must be less than the model's {self.max_length} tokens, got "
                    f"{most}."
                )
            group.sort(key=lambda i: len(contexts[i]), reverse=True)
            for first in range(0, len(group), self.batch_size):
                batch = group[first : first + self.batch_size]
                prompts = [contexts[i][-room:] or [self.prefix_token_id] for i in batch]
                seeds = [int(fold_in(self.seed, i)) for i in batch]
                # XLA compiles for each number of rows, so the last batch has as many as the others.
                missing = self.batch_size - len(batch) if first else 0
                rows = self.model.generate(
                    prompts + prompts[-1:] * missing,
                    max_new_tokens=most,
                    seed=seeds + seeds[-1:] * missing,
                    **settings,
                )
                for i, prompt, row in zip(batch, prompts, rows):
                    text = self.tok_decode(row[len(prompt) :])
                    answers[i] = postprocess_generated_text(text, until, think_end_token=None)
                    self.cache_hook.add_partial("generate_until", given[i], answers[i])
                bar.update(len(batch))
        bar.close()
        return answers

    def _settings(self, given: dict[str, Any]) -> tuple[dict[str, Any], int, list[str]]:
        """Return arguments of `generate`, the number of new tokens, and the stop strings."""
        settings = dict(normalize_gen_kwargs(given, self.max_gen_toks))
        most = settings.pop("max_gen_toks")
        end = self.tokenizer.end_of_text
        until = [text for text in handle_stop_sequences(settings.pop("until"), end) if text]
        do_sample, num_beams = settings.pop("do_sample"), settings.pop("num_beams", 1)
        settings = {name: value for name, value in settings.items() if value is not None}
        unknown = sorted(settings.keys() - PROCESSORS.keys())
        if unknown:
            raise ValueError(
                "Settings of generation must be until, max_gen_toks, do_sample, num_beams or one "
                f"of {', '.join(PROCESSORS)}; got {', '.join(unknown)}."
            )
        if do_sample:
            settings.setdefault("top_k", _TOP_K)  # the default of transformers
        else:
            settings["temperature"] = 0.0
        if num_beams > 1:
            settings["strategy"] = BeamSearch(num_beams)
            settings.pop("temperature")
        return settings | {"stop": [text for text in until if text != end]}, most, until

    # Chat templates

    @property
    def tokenizer_name(self) -> str:
        """Name of tokenizer and chat template, for the harness's cache of requests."""
        content = f"{self.tokenizer.digest()}\n{self.model.chat_template}"
        return f"gpt_keras-{hashlib.sha256(content.encode()).hexdigest()[:32]}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the source of the model's chat template, or an empty text.

        Args:
            chat_template: Ignored, because a model has one template.
        """
        return self.model.chat_template or ""

    def apply_chat_template(
        self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as a prompt, in the format of the model's chat template.

        If the template refuses a system message, the message is left out.

        Args:
            chat_history: Messages, dicts of `role` and `content`.
            add_generation_prompt: Whether the prompt ends with the beginning of the model's answer.
                If not, it ends inside the last message, which the model continues.

        Raises:
            ValueError: The model has no chat template, or the template refuses the conversation.
        """
        if self.model.chat_template is None:
            raise ValueError("`model` must have a chat_template for `apply_chat_template`.")
        tokenizer = self.tokenizer
        variables = {"bos_token": tokenizer.start_of_text, "eos_token": tokenizer.end_of_text}
        template = ChatTemplate(
            self.model.chat_template, {name: text or "" for name, text in variables.items()}
        )
        messages = list(chat_history)
        try:
            text = template.render(messages, add_generation_prompt)
        except ValueError:
            without_system = [m for m in messages if m["role"] != "system"]
            if len(without_system) == len(messages):
                raise
            _logger.warning("The chat template refuses a system message, which is left out.")
            messages = without_system
            text = template.render(messages, add_generation_prompt)
        if add_generation_prompt:
            return text
        # As with `continue_final_message` in transformers: the text ends with the last content.
        content = messages[-1]["content"]
        begin = text.rindex(content.strip())
        end = begin + len(content.lstrip())
        if text[begin:end] != content:
            end = begin + len(content.strip())
        return text[:end]

    # Report

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness writes into its results about the model."""
        return {
            "model_num_parameters": self.model.count_params(),
            "model_dtype": self.model.backbone.compute_dtype,
            "model_source": f"gpt_keras {__version__}",
        }
