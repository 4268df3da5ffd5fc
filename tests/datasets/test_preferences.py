"""Preferences: forms of rows, tokens of answers, batches, and what is refused."""

import json

import numpy as np
import pytest
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.datasets.length_buckets import bucketed_order, row_lengths

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def said(role, content):
    return {"role": role, "content": content}


def user(content):
    return said("user", content)


def answer(content):
    return [said("assistant", content)]


@pytest.fixture(scope="module")
def model():
    tokenizer = gk.tokenizers.BytePairTokenizer.train(
        "the cat sat on the mat", 270, special_tokens=("<|im_start|>", "<|im_end|>")
    )
    config = tiny_config(
        vocabulary_size=tokenizer.vocabulary_size, num_layers=1, max_sequence_length=128
    )
    ends = [tokenizer.special_tokens["<|im_end|>"]]
    return gk.GPTCausalLM(config, tokenizer=tokenizer, chat_template=CHATML, end_token_ids=ends)


def read(model, *rows, **settings):
    return gk.datasets.preferences(list(rows), model, **{"validation_fraction": 0} | settings)


def test_texts(model):
    row = {"prompt": "Q: 1+1=", "chosen": " 2", "rejected": " 3<|im_end|>"}
    found = read(model, row).train
    assert found.texts(0, model.tokenizer) == ("Q: 1+1=", " 2<|im_end|>", " 3<|im_end|><|im_end|>")
    end = model.end_token_ids[0]
    assert found.prompts[0].tolist() == model.tokenizer.encode("Q: 1+1=")
    assert found.chosen[0].tolist() == [*model.tokenizer.encode(" 2"), end]
    # The text of an end token is no end token.
    assert found.rejected[0].tolist() == [*model.tokenizer.encode(" 3<|im_end|>"), end]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [user("Hi")], "chosen": answer("Hello"), "rejected": answer("No")},
        {"chosen": [user("Hi"), *answer("Hello")], "rejected": [user("Hi"), *answer("No")]},
        {"prompt": "Hi", "chosen": [user("Hi"), *answer("Hello")]}
        | {"rejected": [user("Hi"), *answer("No")]},
        {"prompt": "Hi", "chosen": answer("Hello"), "rejected": answer("No")},
        {"prompt": [user("Hi") | {"name": None}], "chosen": np.array(answer("Hello"))}
        | {"rejected": answer("No")},
    ],
    ids=["explicit", "implicit", "both", "a text and messages", "parquet"],
)
def test_forms_of_messages(model, row):
    prompt, chosen, rejected = read(model, row).train.texts(0, model.tokenizer)
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (chosen, rejected) == ("Hello<|im_end|>", "No<|im_end|>")


def test_several_turns_and_the_models_own_prompt(model):
    begin = [said("system", "Be short."), user("Hi"), *answer("Hello"), user("Bye")]
    row = {"chosen": [*begin, *answer("Bye.")], "rejected": [*begin, *answer("Why?")]}
    found = read(model, row).train
    template = gk.chat.ChatTemplate(model.chat_template)
    assert found.prompts[0].tolist() == template.encode(begin, model.tokenizer)
    assert found.texts(0, model.tokenizer)[1:] == ("Bye.<|im_end|>", "Why?<|im_end|>")


def test_files(model, tmp_path):
    rows = [
        {"prompt": [user(f"Hi {i}")], "chosen": answer("Hello"), "rejected": answer("No")}
        for i in range(3)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import csv

    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: json.dumps(v) for k, v in row.items()} for row in rows)
    expected = read(model, *rows).train
    for name in ("a.jsonl", "a.csv"):
        found = gk.datasets.preferences(tmp_path / name, model, validation_fraction=0).train
        assert [found.texts(i, model.tokenizer) for i in range(3)] == [
            expected.texts(i, model.tokenizer) for i in range(3)
        ]


def test_prompts_that_are_too_long(model):
    begin = [said("system", "Be short."), user("Hi " * 30), *answer("Hello"), user("Bye")]
    rows = [
        {"prompt": begin, "chosen": answer("A"), "rejected": answer("B")},
        {"prompt": "x" * 80 + "end", "chosen": "A", "rejected": "BC"},
        {"prompt": "short", "chosen": "A", "rejected": "B"},
    ]
    with pytest.warns(UserWarning, match="2 of 3 prompts lost their beginning"):
        data = read(model, *rows, sequence_length=60)
    assert data.report.num_shortened == 2
    assert max(data.train.sizes) == 61  # the last token is only a target
    texts = [data.train.texts(i, model.tokenizer)[0] for i in range(3)]
    system = "<|im_start|>system\nBe short.<|im_end|>\n"
    assert texts[0] == system + "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    assert texts[1].endswith("xxend")
    assert texts[2] == "short"


def test_the_split_is_by_prompt(model):
    rows = [{"prompt": f"{i % 10}?", "chosen": f"{i}", "rejected": f"{i}!"} for i in range(40)]
    data = read(model, *rows, validation_fraction=0.3, seed=1)
    parts = [{part.texts(i, model.tokenizer)[0] for i in range(len(part))} for part in data[:2]]
    assert not parts[0] & parts[1]
    assert data.report.counts == {"train": 28, "validation": 12}
    assert data.report.num_prompts == 10
    again = read(model, *rows, validation_fraction=0.3, seed=1)
    assert [*map(list, again.train.chosen)] == [*map(list, data.train.chosen)]


def test_contradictions_are_counted(model):
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.warns(UserWarning, match="1 of 3 pairs contradict"):
        report = read(model, row, row, {**row, "chosen": "c", "rejected": "b"}).report
    assert (report.num_duplicates, report.num_contradictions) == (1, 1)
    assert "contradicting an earlier pair: 1" in str(report)


def test_an_answer_without_an_end_token_is_counted(model):
    plain = gk.GPTCausalLM(model.config, tokenizer=model.tokenizer, end_token_ids=[])
    assert read(plain, {"prompt": "a", "chosen": "b", "rejected": "c"}).report.num_without_end == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "`chosen` must have an answer"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "`rejected` must have an answer"),
        ({"prompt": "a", "chosen": [], "rejected": answer("b")}, "`chosen` must have an answer"),
        ({"prompt": "a", "chosen": "b"}, "no column 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "must differ, but are equal"),
        ({"prompt": " ", "chosen": "b", "rejected": "c"}, "`prompt` must have a text"),
        ({"chosen": "b", "rejected": "c"}, "`prompt` must have a text"),
        ({"prompt": [user("a")], "chosen": "b", "rejected": "c"}, "must be a text if"),
        ({"prompt": "a", "chosen": "b", "rejected": answer("c")}, "both be texts"),
        ({"prompt": "a", "chosen": 3, "rejected": "c"}, "must be a text or a list of messages"),
        ({"prompt": "a", "chosen": ["b"], "rejected": ["c"]}, "message 0 of `chosen` must be"),
        ({"prompt": "a\ud800", "chosen": "b", "rejected": "c"}, "lone surrogate"),
        ({"chosen": answer("b"), "rejected": answer("c")}, "do not begin with the same"),
        (
            {"chosen": [user("a")], "rejected": [user("a"), *answer("c")]},
            "`chosen` must have an answer after the prompt",
        ),
        (
            {"prompt": [user("a")], "chosen": [user("a"), *answer("b")], "rejected": answer("c")},
            "must hold messages of the assistant after the prompt, got one of the user",
        ),
        (
            {"prompt": answer("a"), "chosen": answer("b"), "rejected": answer("c")},
            "last message of `prompt` must be of the user or tool",
        ),
        (
            {"prompt": [user("a")], "chosen": answer(" "), "rejected": answer("c")},
            "`chosen` must have an answer, but a message is empty",
        ),
        (
            {"prompt": [said("judge", "a"), user("b")], "chosen": answer("b")}
            | {"rejected": answer("c")},
            "role",
        ),
        ({"prompt": "a", "chosen": "x" * 130, "rejected": "b"}, "must fit into sequence_length"),
        (
            {"prompt": [user("x" * 120)], "chosen": answer("b"), "rejected": answer("c")},
            "must fit into sequence_length=128",
        ),
    ],
)
def test_bad_rows_are_named(model, tmp_path, row, message):
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "good", "chosen": "b", "rejected": "c"}
    path.write_text("\n".join(map(json.dumps, [good, row, good, row])))
    with pytest.raises(ValueError, match=rf"pairs.jsonl, line 2: .*{message}") as caught:
        gk.datasets.preferences(path, model)
    assert "1 more rows have errors" in str(caught.value)
    assert str(caught.value).rstrip(".").endswith("line 4")


def test_other_bad_arguments(model):
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    messages = {"prompt": "a", "chosen": answer("b"), "rejected": answer("c")}
    without = gk.GPTCausalLM(model.config)
    plain = gk.GPTCausalLM(model.config, tokenizer=model.tokenizer)
    refusing = gk.GPTCausalLM(
        model.config,
        tokenizer=model.tokenizer,
        chat_template="{{ raise_exception('no') }}",
    )
    other = gk.GPTCausalLM(
        model.config,
        tokenizer=model.tokenizer,
        chat_template="{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    )
    for rows, of, settings, message in [
        ([row], without, {}, "`model` must be a CausalLM with a tokenizer"),
        ([messages], plain, {}, "row 0: the row has messages, but the model has no chat_template"),
        ([messages], refusing, {}, "row 0: The chat template refuses"),
        ([messages], other, {}, "row 0: the chat template writes the prompt in another way"),
        ([], model, {}, "must have pairs, but is empty"),
        ([row], model, {"validation_fraction": 0.5}, "The validation part is empty"),
        ([row], model, {"sequence_length": 129}, "at most 128"),
        ([row], model, {"sequence_length": 0}, "`sequence_length` must be"),
        ([row], model, {"validation_fraction": 1}, "`validation_fraction` must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(of, *rows, **settings)


def make_pairs(count=11, seed=0):
    generator = np.random.default_rng(seed)
    parts = [
        [generator.integers(1, 50, generator.integers(1, 30)).astype("int32") for _ in range(3)]
        for _ in range(count)
    ]
    return gk.datasets.PreferencePairs(*map(tuple, zip(*parts)))


def test_batches_hold_each_pair_once_with_its_mask():
    pairs = make_pairs()
    found = []
    for batch in pairs.batches(4, seed=3, num_lengths=3).as_numpy_iterator():
        assert batch["token_ids"].shape == batch["answer_mask"].shape
        assert batch["token_ids"].shape[:2] == (4, 2)
        for ids, mask in zip(batch["token_ids"], batch["answer_mask"]):
            if mask.any():
                starts = mask.argmax(axis=1)
                assert starts[0] == starts[1]
                found.append(
                    (ids[0, : starts[0]].tolist(), *(ids[i][mask[i]].tolist() for i in (0, 1)))
                )
    expected = zip(
        *(map(np.ndarray.tolist, part) for part in (pairs.prompts, pairs.chosen, pairs.rejected))
    )
    assert sorted(found) == sorted(expected)


def test_batches_are_a_function_of_seed_and_epoch():
    pairs = make_pairs()

    def epochs(seed, count=2):
        data = pairs.batches(4, seed=seed)
        return [[b["token_ids"].tolist() for b in data.as_numpy_iterator()] for _ in range(count)]

    assert epochs(0) == epochs(0)
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0) != epochs(1)
    assert epochs(None)[0] == epochs(None)[1]


def test_references_stay_with_their_pairs():
    pairs = make_pairs()
    reference = np.array([[ids.sum(), -ids.sum()] for ids in pairs.prompts], "float32")
    pairs = gk.datasets.PreferencePairs(pairs.prompts, pairs.chosen, pairs.rejected, reference)
    for batch in pairs.batches(4, seed=0).as_numpy_iterator():
        prompt = ~np.cumsum(batch["answer_mask"][:, 0], axis=1).astype(bool)
        sums = (batch["token_ids"][:, 0] * prompt).sum(axis=1)
        np.testing.assert_array_equal(batch["reference"], np.stack([sums, -sums], axis=1))


def test_buckets_leave_little_padding():
    sizes = np.repeat([10, 100], 20)
    lengths = row_lengths(sizes, 2)
    assert lengths.tolist() == [16, 100]
    order = bucketed_order(np.searchsorted(lengths, sizes), 4, seed=0)
    assert sorted(order.reshape(-1)) == [*range(40)]
    assert all(len(set(sizes[batch])) == 1 for batch in order)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gk.datasets.PreferencePairs(([1],), ([2],), ()), "0 rejected"),
        (
            lambda: gk.datasets.PreferencePairs(([1],), ([2],), ([3],), np.zeros(2)),
            r"`reference` must have the shape \(1, 2\)",
        ),
        (lambda: gk.datasets.PreferencePairs((), (), ()).batches(2), "at least one pair"),
        (lambda: make_pairs().batches(0), "`batch_size` must be"),
        (lambda: make_pairs().batches(2, num_lengths=0), "`num_lengths` must be"),
        (lambda: make_pairs().batches(2, seed="a"), "`seed` must be"),
    ],
)
def test_bad_pairs(make, message):
    with pytest.raises(ValueError, match=message):
        make()
