"""HarnessModel gives lm-evaluation-harness what HFLM gave it (stored)."""

import builtins
import importlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import gpt_keras as gk
from gpt_keras.generation.continuations import score_continuations

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "harness"
STORED = json.loads((FOLDER / "harness.json").read_text(encoding="utf-8"))


def test_without_lm_eval(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "lm_eval":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "gpt_keras.evaluation.harness", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'gpt_keras\[harness\]'"):
        gk.evaluation.HarnessModel  # noqa: B018


def test_other_names():
    with pytest.raises(AttributeError, match="no attribute 'Harness'"):
        gk.evaluation.Harness  # noqa: B018


@pytest.mark.slow
def test_import_gpt_keras_never_imports_lm_eval():
    code = "import sys, gpt_keras; assert not {'lm_eval', 'datasets'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stored_log_likelihoods_of_transformers():
    model = gk.CausalLM.from_preset(FOLDER / "llama")
    items = STORED["items"]
    assert len(items) == 100
    found = score_continuations(model, [(context, [cont]) for context, cont, _, _ in items])
    for (score,), (_, cont, expected, is_greedy) in zip(found, items, strict=True):
        assert score.log_probability == pytest.approx(expected, abs=1e-3)
        assert (score.num_tokens, score.is_greedy) == (len(cont), is_greedy)
    assert 20 < sum(is_greedy for *_, is_greedy in items) < 80


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The tasks that HFLM ran, with their rows in local files."""
    pytest.importorskip("lm_eval")
    folder, paths = tmp_path_factory.mktemp("rows"), {}
    for name in ("train", "test"):
        paths[name] = str(folder / f"{name}.jsonl")
        lines = "".join(json.dumps(row) + "\n" for row in STORED[name])
        pathlib.Path(paths[name]).write_text(lines, encoding="utf-8")
    common = {"dataset_path": "json", "dataset_kwargs": {"data_files": paths}, "test_split": "test"}
    return [{"task": name} | common | task for name, task in STORED["tasks"].items()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORED["results"])
def test_results_are_the_ones_of_transformers(kind, tasks, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import lm_eval

    model = gk.CausalLM.from_preset(FOLDER / kind.split()[0])
    found = lm_eval.simple_evaluate(
        model=gk.evaluation.HarnessModel(model, batch_size=4),
        tasks=tasks,
        apply_chat_template=kind.endswith("chat"),
        bootstrap_iters=0,
    )
    for name, expected in STORED["results"][kind].items():
        responses = [sample["resps"] for sample in found["samples"][name]]
        assert len(responses) == len(expected["responses"])
        for ours, theirs in zip(responses, expected["responses"], strict=True):
            if name == "answer":
                assert ours == theirs
            else:
                check_log_likelihoods(ours, theirs)
        for metric, value in expected["metrics"].items():
            assert found["results"][name][metric] == pytest.approx(value, rel=1e-3), (name, metric)
    info = found["config"]
    assert info["model_num_parameters"] == model.count_params()
    assert info["model_dtype"] == "float32"


def check_log_likelihoods(ours, theirs):
    """Sums are within 1e-3; the best choice is the same unless two are close."""
    sums = []
    for ours_one, theirs_one in zip(ours, theirs, strict=True):
        (ours_one,), (theirs_one,) = ours_one, theirs_one
        if isinstance(theirs_one, list):
            assert ours_one[1] == theirs_one[1]
            ours_one, theirs_one = ours_one[0], theirs_one[0]
        assert ours_one == pytest.approx(theirs_one, abs=1e-3)
        sums.append((ours_one, theirs_one))
    order = np.argsort([theirs_one for _, theirs_one in sums])
    if len(sums) > 1 and sums[order[-1]][1] - sums[order[-2]][1] > 1e-3:
        assert np.argmax([ours_one for ours_one, _ in sums]) == order[-1]


# The contract of lm_eval, with requests made by hand


@pytest.fixture(scope="module")
def harness():
    pytest.importorskip("lm_eval")
    return gk.evaluation.HarnessModel(gk.CausalLM.from_preset(FOLDER / "llama"), batch_size=3)


def requests(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, given, i) for i, given in enumerate(arguments)]


class Hook:
    def __init__(self):
        self.found = []

    def add_partial(self, kind, arguments, answer):
        self.found.append((kind, arguments, answer))


@pytest.fixture
def hook(harness):
    hook, before = Hook(), harness.cache_hook
    harness.set_cache_hook(hook)
    yield hook
    harness.set_cache_hook(before)


def test_it_is_made_once(harness):
    assert gk.evaluation.HarnessModel is type(harness)
    assert importlib.import_module("gpt_keras.evaluation.harness").HarnessModel is type(harness)


def test_log_likelihoods_in_the_given_order(harness, hook, capsys):
    pairs = [("The cat", " sat"), ("", "Rain"), ("The cat", " lay"), ("on the hill " * 9, "sat.")]
    found = harness.loglikelihood(requests("loglikelihood", *pairs), disable_tqdm=True)
    assert "Log-likelihoods" not in capsys.readouterr().err
    for pair, (log_likelihood, is_greedy) in zip(pairs, found, strict=True):
        ids = gk.evaluation.context_pairs.encode_pair(harness.tokenizer, *pair)
        expected = harness.model.score([ids[1]], prompts=[ids[0]])[0].sum()
        assert log_likelihood == pytest.approx(expected, abs=1e-3)
        assert is_greedy in (True, False)
    expected = {("loglikelihood", *pair): answer for pair, answer in zip(pairs, found, strict=True)}
    assert {(kind, *pair): answer for kind, pair, answer in hook.found} == expected
    harness.loglikelihood(requests("loglikelihood", *pairs[:1]))
    assert "Log-likelihoods: 100%" in capsys.readouterr().err


def test_a_cut_is_reported(harness, caplog):
    pairs = [("on the hill " * 60, "sat."), ("on", " the")]
    harness.loglikelihood(requests("loglikelihood", *pairs), disable_tqdm=True)
    assert "1 of 2 texts were longer than 129 tokens" in caplog.text


def test_rolling_windows(harness, hook):
    texts = ["The cat sat. " * 40, "A bird", "<s>The cow"]
    found = harness.loglikelihood_rolling(
        requests("loglikelihood_rolling", *((text,) for text in texts)), disable_tqdm=True
    )
    tokenizer, limit = harness.tokenizer, harness.max_length
    for text, total in zip(texts, found, strict=True):
        ids = tokenizer.encode(text, "all", add_start_of_text=not text.startswith("<s>"))
        expected, first = 0.0, 0
        while first < len(ids):  # the last window has the longest context
            end = min(first + limit, len(ids))
            row = [1, *ids][max(end - limit, 0) : end]
            scores = harness.model.score([ids[end - len(row) : end]], prompts=[row[:1]])[0]
            expected += scores[first - end :].sum()
            first = end
        assert total == pytest.approx(expected, abs=2e-3)
    assert hook.found == [
        ("loglikelihood_rolling", (text,), total) for text, total in zip(texts, found, strict=True)
    ]
    empty = harness.loglikelihood_rolling(requests("loglikelihood_rolling"), disable_tqdm=True)
    assert empty == []


def test_generated_answers(harness, hook, capsys):
    settings = {"until": ["e"], "max_gen_toks": 6}
    longer = {"until": [], "max_new_tokens": 9, "temperature": 0.7}  # it samples
    given = [("The cat", settings), ("A bird sang on", longer), ("Rain " * 90, settings)]
    given += [("A hen", settings), ("A bird sang on", longer), ("", settings)]
    found = harness.generate_until(requests("generate_until", *given), disable_tqdm=True)
    assert "Generated" not in capsys.readouterr().err
    again = harness.generate_until(requests("generate_until", *given))
    assert again == found
    assert "Generated answers: 100%" in capsys.readouterr().err
    assert found[1] != found[4]  # samples of one prompt differ
    assert not any("e" in found[i] for i in (0, 2, 3, 5))
    for i in (0, 2, 3):
        ids = harness.tokenizer.encode(given[i][0], add_start_of_text=True)
        ids = ids[-(harness.max_length - 6) :]
        row = harness.model.generate(ids, max_new_tokens=6, temperature=0)
        assert found[i] == harness.tok_decode(row[len(ids) :]).split("e")[0]
    assert {(pair[0], answer) for _, pair, answer in hook.found} == {
        (pair[0], answer) for pair, answer in zip(given, found, strict=True)
    }


def test_settings_of_generation(harness):
    settings, most, until = harness._settings({"until": "x", "do_sample": False, "temperature": 1})
    assert (most, until) == (256, ["x", "</s>"])
    assert settings == {"temperature": 0.0, "stop": ["x"]}
    settings, _, _ = harness._settings({"do_sample": True, "temperature": 0.5, "top_p": 0.9})
    assert settings == {"temperature": 0.5, "top_p": 0.9, "top_k": 50, "stop": []}
    settings, _, _ = harness._settings({"num_beams": 3})
    assert settings == {"strategy": gk.generation.BeamSearch(3), "stop": []}
    with pytest.raises(ValueError, match=r"Settings of generation must be.*got best_of"):
        harness._settings({"best_of": 3})


def test_no_room_for_new_tokens(harness):
    given = requests("generate_until", ("The", {"max_gen_toks": 128}))
    with pytest.raises(ValueError, match="`max_gen_toks` must be less than the model's 128"):
        harness.generate_until(given, disable_tqdm=True)


def test_tokens(harness):
    assert (harness.eot_token_id, harness.prefix_token_id, harness.max_length) == (2, 1, 128)
    assert harness.max_gen_toks == 256
    assert harness.tok_encode("The")[0] == 1
    assert harness.tok_encode("The", add_special_tokens=False)[0] != 1
    assert harness.tok_encode("<s>The") == harness.tok_encode("The")
    ids = harness.tok_encode("The cat</s>")
    assert harness.tok_decode(ids) == "The cat"
    assert harness.tok_decode(ids, skip_special_tokens=False) == "<s>The cat</s>"


def test_chat_template(harness):
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "The cat "},
    ]
    text = "<s><system>short</s><user>Who?</s>"
    assert harness.apply_chat_template(messages[:2]) == text + "<assistant>"
    continued = harness.apply_chat_template(messages, add_generation_prompt=False)
    assert continued == text + "<assistant>The cat "
    assert harness.chat_template(True) == harness.model.chat_template
    assert harness.tokenizer_name.startswith("gpt_keras-")


def test_a_template_that_refuses_system_messages(harness, spread_model, caplog):
    model = gk.CausalLM(spread_model.backbone, tokenizer=spread_model.tokenizer)
    other = gk.evaluation.HarnessModel(model)
    assert other.chat_template(True) == ""
    with pytest.raises(ValueError, match="must have a chat_template"):
        other.apply_chat_template([{"role": "user", "content": "a"}])
    model.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content|trim }};{% endfor %}"
    )
    messages = [{"role": "system", "content": "b"}, {"role": "user", "content": "a "}]
    assert other.apply_chat_template(messages) == "a;"
    assert "system message" in caplog.text
    assert other.apply_chat_template(messages, add_generation_prompt=False) == "a"
    model.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(ValueError, match="never"):
        other.apply_chat_template(messages[1:])
    assert other.tokenizer_name != harness.tokenizer_name


def test_wrong_arguments(harness, spread_model):
    HarnessModel = type(harness)
    for model in (spread_model.backbone, gk.CausalLM(spread_model.backbone)):
        with pytest.raises(ValueError, match="`model` must be a CausalLM with a tokenizer"):
            HarnessModel(model)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        HarnessModel(spread_model, batch_size=0)
    with pytest.raises(ValueError, match="`seed` must be an integer"):
        HarnessModel(spread_model, seed=-1)
