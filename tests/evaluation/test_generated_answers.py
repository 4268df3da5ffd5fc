"""Answers to a task's prompts: training on its rows, generation, scores."""

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk

TASK = gk.datasets.PromptTask(
    name="reverse",
    prompt="{{ word }}?",
    target="{{ reversed }}",
    references="right",
    target_delimiter=" ",
    metrics=["exact_match", "token_f1", "rouge", "bleu", "chrf"],
    max_new_tokens=6,
)
WORDS = ["ab", "abc", "cab", "aabb", "bca", "cc"]
TABLE = [{"word": w, "reversed": w[::-1], "right": [w[::-1], "x"]} for w in WORDS]


@pytest.fixture(scope="module")
def trained():
    """A model that has learned the table by heart."""
    tokenizer = gk.tokenizers.CharacterTokenizer("abcx ?!", end_of_text=True)
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, max_sequence_length=16)
    model = gk.GPTCausalLM(config, tokenizer=tokenizer)
    model.compile(gk.training.adamw(0.02, warmup_steps=5), jit_compile=False)
    data = gk.datasets.prompted(TASK, TABLE, model)
    batches = data.batches(6, seed=0, num_lengths=1).repeat()
    model.fit(batches, steps_per_epoch=100, verbose=0)
    return model


def test_a_model_trained_on_a_task_answers_it(trained):
    weights = [np.array(weight) for weight in trained.weights]
    result = gk.evaluation.answers(trained, TASK, TABLE, batch_size=4)
    assert [answer.text for answer in result.answers] == [word[::-1] for word in WORDS]
    assert [answer.prompt for answer in result.answers] == [f"{word}?" for word in WORDS]
    assert result.answers[1].references == ("cba", "x")
    assert result.answers[1].place == "`source`, row 1"
    names = ["exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"]
    assert list(result.scores) == names
    assert result.scores["exact_match"] == result.scores["token_f1"] == 1
    assert result.scores["chrf"] == 100
    assert list(result.answers[0].scores) == names[:6]
    assert result.share_stopped == 1
    assert result.num_cut == 0
    assert "exact_match 1.000" in str(result)
    assert all(np.array_equal(*pair) for pair in zip(weights, trained.weights))


def test_scores_are_means_over_the_answers(trained):
    table = [row | {"right": ["ba"]} for row in TABLE]
    result = gk.evaluation.answers(trained, TASK, table, batch_size=6)
    found = [answer.text for answer in result.answers]
    for name in ("exact_match", "token_f1"):
        expected = getattr(gk.evaluation, name)(found, ["ba"] * 6)
        assert result.scores[name] == pytest.approx(expected) == pytest.approx(1 / 6)
        assert [answer.scores[name] for answer in result.answers] == [1, 0, 0, 0, 0, 0]
    assert result.scores["bleu"] == gk.evaluation.bleu(found, ["ba"] * 6).score
    assert result.scores["chrf"] == gk.evaluation.chrf(found, ["ba"] * 6) < 70


def test_answers_are_what_generate_gives_in_any_batch(spread_model):
    rows = [{"word": w, "reversed": "x", "right": ["x"]} for w in WORDS]
    task = TASK.replace(metrics="exact_match", stop="a", max_new_tokens=7)
    prompts = [f"{word}?" for word in WORDS]
    settings = {"temperature": 1.0}
    seeds = [int(gk.generation.fold_in(3, i)) for i in range(len(prompts))]
    texts = spread_model.generate(prompts, max_new_tokens=7, stop="a", seed=seeds, **settings)
    expected = [text.removeprefix(prompt) for text, prompt in zip(texts, prompts)]
    assert len(set(expected)) > 3
    for batch_size in (4, 64):
        result = gk.evaluation.answers(
            spread_model, task, rows, batch_size=batch_size, seed=3, **settings
        )
        assert [answer.text for answer in result.answers] == [text.strip() for text in expected]
    stopped = [len(text) < 7 for text in expected]
    assert [answer.has_stopped for answer in result.answers] == stopped
    assert result.share_stopped == np.mean(stopped)


def test_a_long_prompt_is_cut_on_the_left_and_counted(trained):
    table = [{"word": "ccccccccccccc ab", "reversed": "ba", "right": ["ba"]}, TABLE[0]]
    result = gk.evaluation.answers(trained, TASK, table)
    assert result.num_cut == 1
    expected = trained.generate("cccccc ab?", max_new_tokens=6, temperature=0)
    assert result.answers[0].text == expected.removeprefix("cccccc ab?").strip()
    assert result.answers[0].prompt == "ccccccccccccc ab?"
    with pytest.raises(ValueError, match=r"`max_new_tokens` must be less than .*=16, got 16"):
        gk.evaluation.answers(trained, TASK, table, max_new_tokens=16)


def test_an_answer_that_reaches_the_limit_has_not_stopped(trained):
    result = gk.evaluation.answers(trained, TASK, TABLE[:2], max_new_tokens=3)
    assert [answer.text for answer in result.answers] == ["ba", "cb"]
    # " ba" has 3 tokens: the end token would be the fourth.
    assert result.share_stopped == 0
    assert gk.evaluation.answers(trained, TASK, TABLE[:2], max_new_tokens=4).share_stopped == 0.5


def test_a_users_metric_and_settings(trained):
    def share_of_a(found, references):
        assert references == [["ba", "x"], ["cba", "x"]]
        return sum(text.count("a") for text in found) / len(found)

    result = gk.evaluation.answers(
        trained, TASK.replace(metrics="exact_match"), TABLE[:2], metrics={"a": share_of_a}, stop="a"
    )
    assert result.scores == {"exact_match": 0, "a": 0}
    assert [answer.text for answer in result.answers] == ["b", "cb"]
    beams = gk.generation.BeamSearch(2)
    result = gk.evaluation.answers(trained, TASK, TABLE[:2], strategy=beams)
    assert result.scores["exact_match"] == 1


def test_prompts_in_the_chat_template(trained):
    trained.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    try:
        result = gk.evaluation.answers(trained, TASK, TABLE, apply_chat_template=True)
        assert result.scores["exact_match"] == 1  # the template adds nothing
        trained.chat_template = "{% for m in messages %}!{{ m.content }}{% endfor %}"
        other = gk.evaluation.answers(trained, TASK, TABLE[:1], apply_chat_template=True)
        expected = trained.generate("!ab?", max_new_tokens=6, temperature=0)
        assert other.answers[0].text == expected.removeprefix("!ab?").strip()
    finally:
        trained.chat_template = None
    with pytest.raises(ValueError, match="`apply_chat_template` must be False"):
        gk.evaluation.answers(trained, TASK, TABLE, apply_chat_template=True)


def test_bad_arguments_are_refused(trained):
    answers = gk.evaluation.answers
    with pytest.raises(ValueError, match="`model` must be a CausalLM with a tokenizer"):
        answers(gk.GPTCausalLM(tiny_config()), TASK, TABLE)
    with pytest.raises(ValueError, match="`task` must be a gk"):
        answers(trained, "reverse", TABLE)
    with pytest.raises(ValueError, match="`source` must have rows"):
        answers(trained, TASK, [])
    with pytest.raises(ValueError, match=r"`metrics` must be one of exact_match, .*got 'f1'"):
        answers(trained, TASK.replace(metrics="f1"), TABLE)
    with pytest.raises(ValueError, match="`metrics` must map new names"):
        answers(trained, TASK, TABLE, metrics={"rouge1": len})
    with pytest.raises(ValueError, match="`metrics` must map new names"):
        answers(trained, TASK, TABLE, metrics=["bleu"])
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        answers(trained, TASK, TABLE, batch_size=0)
    with pytest.raises(ValueError, match="row 0: there is no column 'word'"):
        answers(trained, TASK, [{"reversed": "a", "right": ["a"]}])
    with pytest.raises(ValueError, match="`stop` must be a text"):
        answers(trained, TASK, TABLE, stop=[""])
    with pytest.raises(TypeError, match="temprature"):
        answers(trained, TASK, TABLE, temprature=1)
