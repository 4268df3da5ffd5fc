import itertools
import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from tiny_models import tiny_config

import gpt_keras as gk
from gpt_keras.datasets import MaskedSequences, conversations

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "床前明月光?"},
    {"role": "assistant", "content": "疑是地上霜。"},
    {"role": "user", "content": "🦕?"},
    {"role": "assistant", "content": "🦕!"},
]
SHAREGPT = [
    {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]}
    for m in CHAT
]
WRITTEN = [
    (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n床前明月光?<|im_end|>\n"
        "<|im_start|>assistant\n",
        False,
    ),
    ("疑是地上霜。<|im_end|>", True),
    ("\n<|im_start|>user\n🦕?<|im_end|>\n<|im_start|>assistant\n", False),
    ("🦕!<|im_end|>", True),
]


@pytest.fixture(scope="module")
def model():
    tokenizer = gk.tokenizers.BytePairTokenizer.train("user assistant system", 264)
    changes = {"num_layers": 1, "max_sequence_length": 256}
    config = tiny_config(vocabulary_size=tokenizer.vocabulary_size, **changes)
    return gk.chat.add_chatml(gk.GPTCausalLM(config, tokenizer=tokenizer))


def rows_of(count):
    """Conversations of different lengths."""
    return [
        {"messages": [CHAT[1], {"role": "assistant", "content": f"{i}" + "-" * (3 * i)}]}
        | {"id": i}
        for i in range(count)
    ]


def numbered(count):
    return [{"instruction": f"Say {i}.", "output": str(i)} for i in range(count)]


def read(source, model, **arguments):
    return conversations(source, model, **{"validation_fraction": 0, **arguments})


# Forms


@pytest.mark.parametrize("row", [{"messages": CHAT}, {"conversations": SHAREGPT}])
def test_the_mask_reads_as_the_answers(row, model):
    data = read([row], model)
    assert data.train.runs(0, model.tokenizer) == WRITTEN
    assert data.validation is None
    rest = read([row], model, assistant_only_loss=False).train
    whole = "".join(text for text, _ in WRITTEN) + "\n"
    assert rest.runs(0, model.tokenizer) == [(whole, True)]


def test_every_source_gives_the_same(model, tmp_path):
    rows = [{"messages": CHAT}, {"messages": CHAT[:3]}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    frame = pd.DataFrame(rows)
    as_json = frame.assign(messages=[json.dumps(row["messages"]) for row in rows])
    as_json.to_csv(tmp_path / "a.csv", index=False)
    arrays = frame.assign(messages=[np.array(row["messages"], object) for row in rows])
    sources = [tmp_path / "a.jsonl", tmp_path / "a.json", str(tmp_path / "a.csv"), frame, arrays]
    expected = read(rows, model).train
    for source in [*sources, (row for row in rows)]:
        train = read(source, model).train
        for ids, mask, *others in zip(*train, *expected, strict=True):
            np.testing.assert_array_equal(ids, others[0])
            np.testing.assert_array_equal(mask, others[1])


def test_parquet_fills_up_the_fields_of_messages(model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    said = [{**CHAT[1], "name": "Li"}, CHAT[2]]
    parquet.write_table(pyarrow.table({"messages": [CHAT, said]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", model).train.runs(0, model.tokenizer) == WRITTEN


def test_alpaca(model):
    rows = [
        {"instruction": "Add.", "input": "", "output": "3"},
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Add.", "input": None, "output": "3", "system": "Be brief."}
        | {"history": [["Hi", "Hello"]]},
    ]
    train = read(rows, model).train
    asked = ["".join(text for text, _ in train.runs(i, model.tokenizer)) for i in range(3)]
    user, assistant, end = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"
    assert asked == [
        f"{user}Add.{end}\n{assistant}3{end}",
        f"{user}Add.\n1, 2{end}\n{assistant}3{end}",
        f"<|im_start|>system\nBe brief.{end}\n{user}Hi{end}\n{assistant}Hello{end}\n"
        f"{user}Add.{end}\n{assistant}3{end}",
    ]


def test_tools_of_sharegpt(model):
    template = (
        "{{ tools | tojson }}{% for m in messages %}[{{ m.role }}]{% generation %}"
        "{% if m.role == 'assistant' %}{{ m.content or (m.tool_calls | tojson) }}"
        "{{ eos_token }}{% endif %}{% endgeneration %}"
        "{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    copy = gk.GPTCausalLM(model.config, tokenizer=model.tokenizer, chat_template=template)
    call = '{"name": "sum", "arguments": {"of": [1, 2]}}'
    said = [("human", "1+2?"), ("function_call", call), ("observation", "3"), ("gpt", "It is 3.")]
    row = {
        "conversations": [{"from": name, "value": value} for name, value in said],
        "system": "Add.",
        "tools": '[{"name": "sum"}]',
    }
    runs = read([row], copy).train.runs(0, model.tokenizer)
    assert runs == [
        ('[{"name": "sum"}][system]Add.[user]1+2?[assistant]', False),
        (f'[{{"type": "function", "function": {call}}}]<|endoftext|>', True),
        ("[tool]3[assistant]", False),
        ("It is 3.<|endoftext|>", True),
    ]


# Batches


def test_every_trained_token_is_once_in_an_epoch(model):
    train = read(rows_of(23), model).train
    data = train.batches(4, seed=0)
    assert data.cardinality() == 6
    batches = list(data.as_numpy_iterator())
    assert len(batches) == 6
    assert len({inputs.shape for inputs, _, _ in batches}) <= 4
    assert {inputs.shape[0] for inputs, _, _ in batches} == {4}
    found = []
    for inputs, targets, weight in batches:
        for row in zip(inputs, targets, weight, strict=True):
            length = np.flatnonzero(row[2])[-1:] + 1  # ends with the last token of the answer
            found += [tuple(part[: length[0]].tolist() for part in row)] if len(length) else []
            assert not row[0][length[0] if len(length) else 0 :].any()
    expected = [
        (ids[:-1].tolist(), ids[1:].tolist(), mask[1:].astype(float).tolist())
        for ids, mask in zip(*train)
    ]
    assert sorted(found) == sorted(expected)
    assert sum(weight.sum() for _, _, weight in batches) == train.num_trained
    padded = 1 - sum(len(ids) - 1 for ids in train.token_ids) / sum(x.size for x, _, _ in batches)
    assert padded < 0.25
    one_length = list(train.batches(4, num_lengths=1).as_numpy_iterator())
    assert {inputs.shape for inputs, _, _ in one_length} == {(4, max(map(len, train[0])) - 1)}


def test_an_epoch_is_a_function_of_the_seed_and_its_number(model):
    train = read(rows_of(11), model).train

    def epochs(seed):
        data = train.batches(3, seed=seed)
        return [np.concatenate([x[:, -9:] for x, _, _ in data], 1).tobytes() for _ in range(2)]

    first = epochs(7)
    assert epochs(7) == first
    assert first[0] != first[1]
    assert epochs(8)[0] != first[0]
    fixed = train.batches(3)
    assert [x.tolist() for x, *_ in fixed.as_numpy_iterator()] == [
        x.tolist() for x, *_ in fixed.as_numpy_iterator()
    ]


def test_padding_changes_no_loss(model):
    """The weighted mean over padded batches is the mean over the trained tokens alone."""
    train = read(rows_of(5), model).train
    model.compile(jit_compile=False)
    loss = model.evaluate(train.batches(2), verbose=0, return_dict=True)["loss"]
    whole = model.evaluate(train, batch_size=2, verbose=0, return_dict=True)["loss"]
    assert whole == pytest.approx(loss)
    expected = []
    for ids, mask in zip(*train):
        logits = np.array(model(ids[None, :-1])[0], np.float64)
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected += [-logs[i, ids[i + 1]] for i in np.flatnonzero(mask[1:])]
    assert len(expected) == train.num_trained
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_fit_takes_the_batches(model):
    data = conversations(numbered(8), model, validation_fraction=0.25)
    copy = gk.GPTCausalLM.from_config(model.get_config())
    copy.compile(jit_compile=False)
    history = copy.fit(
        data.train,
        validation_data=data.validation,
        batch_size=4,
        verbose=0,
    ).history
    loss = copy.evaluate(data.validation.batches(4), verbose=0, return_dict=True)["loss"]
    assert history["val_loss"][0] == pytest.approx(loss)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2, "num_lengths": 0}, "num_lengths"),
        ({"batch_size": 2, "seed": -1}, "seed"),
    ],
)
def test_batches_that_cannot_be(model, arguments, match):
    with pytest.raises(ValueError, match=f"`{match}`"):
        read(numbered(2), model).train.batches(**arguments)
    with pytest.raises(ValueError, match="at least one sequence"):
        MaskedSequences((), ()).batches(2)


# Length


def test_a_long_conversation_loses_whole_exchanges(model):
    messages = [CHAT[0]]
    for i in range(6):
        messages += [{"role": "user", "content": f"{i}?"}]
        messages += [{"role": "assistant", "content": f"{i}." + "!" * i}]
    whole = read([{"messages": messages}], model).train
    size = len(whole.token_ids[0])
    for limit in (size - 1, size - 2, size - 40, 60):
        expected = pytest.warns(UserWarning, match="lost") if limit < size - 1 else nullcontext()
        with expected:
            data = read([{"messages": messages}], model, sequence_length=limit)
        assert len(data.train.token_ids[0]) <= limit + 1
        runs = data.train.runs(0, model.tokenizer)
        first = 6 - len(runs) // 2
        assert data.report.num_shortened == (first > 0)
        assert data.report.num_exchanges_dropped == first
        assert runs[0][0].startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
        assert [text for text, is_trained in runs if is_trained] == [
            f"{i}.{'!' * i}<|im_end|>" for i in range(first, 6)
        ]
        # With one exchange more it would be too long.
        if first:
            longer = [messages[0], *messages[1 + 2 * (first - 1) :]]
            assert len(read([{"messages": longer}], model).train.token_ids[0]) > limit + 1


def test_an_exchange_that_is_too_long_drops_the_conversation(model):
    long = {"instruction": "a" * 300, "output": "b"}
    with pytest.warns(UserWarning, match="1 were dropped"):
        data = read([*numbered(3), long], model)
    assert (data.report.num_rows, data.report.num_too_long) == (4, 1)
    assert data.report.counts == {"train": 3}
    with pytest.raises(ValueError, match=r"Each of the 1 conversations is too long.*256"):
        read([long], model)


# Split and report


def test_equal_questions_are_in_one_part(model):
    rows = [
        {"instruction": f"  Say  {i % 10}." if i > 9 else f"Say {i % 10}.", "output": f"{i // 20}"}
        for i in range(40)
    ]
    data = conversations(rows, model, validation_fraction=0.3, seed=1)

    def questions(part):
        texts = (part.runs(i, model.tokenizer)[0][0] for i in range(len(part.token_ids)))
        return {" ".join(text.split()) for text in texts}

    assert len(questions(data.train) | questions(data.validation)) == 10
    assert not questions(data.train) & questions(data.validation)
    assert data.report.counts == {"train": 28, "validation": 12}
    assert data.report.num_duplicates == 20
    again = conversations(rows, model, validation_fraction=0.3, seed=1)
    other = conversations(rows, model, validation_fraction=0.3, seed=2)
    assert questions(again.validation) == questions(data.validation) != questions(other.validation)


def test_a_template_without_an_end_token_is_reported(model):
    source = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    copy = gk.GPTCausalLM(model.config, tokenizer=model.tokenizer, chat_template=source)
    with pytest.warns(UserWarning, match="3 conversations do not end with one of .*end_token_ids"):
        data = read(numbered(3), copy)
    assert data.report.num_without_end == 3
    assert str(data.report).endswith("without an end token after the answer: 3")


# Bad input


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def said(**changes):
    return [USER, {**ANSWER, **changes}]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"text": "a"}, r"has the form `messages`.*'text'"),
        ({"messages": [USER]}, "must be an answer of the assistant, but there is none"),
        ({"messages": []}, "must be an answer of the assistant"),
        ({"messages": [USER, ANSWER, USER]}, "last message must be an answer.*of the user"),
        ({"messages": [ANSWER, USER, ANSWER]}, "message 0 is out of order.*got nothing"),
        ({"messages": [USER, USER, ANSWER]}, "message 1 is out of order.*got user"),
        ({"messages": [USER, ANSWER, ANSWER]}, "message 2 is out of order.*got assistant"),
        ({"messages": [USER, ANSWER, CHAT[0], ANSWER]}, "message 2 is out of order.*system"),
        ({"messages": said(role="robot")}, "message 1 has an unknown role.*'robot'"),
        ({"messages": [{"from": "bot", "value": "a"}]}, "message 0 has an unknown role.*'bot'"),
        ({"messages": said(content=" \n")}, "message 1, of the assistant, must have a content"),
        ({"messages": said(content=None)}, "message 1, of the assistant, must have a content"),
        ({"messages": [{"role": "user", "content": ""}, ANSWER]}, "message 0, of the user"),
        ({"messages": said(content=3)}, "number 1 is"),
        ({"messages": said(content="\ud800")}, "surrogate"),
        ({"messages": said(weight=0)}, "message 1 has a `weight` of 0"),
        ({"messages": ["a"]}, "message 0 must be a dict"),
        ({"messages": [{"from": "function_call", "value": "f()"}]}, "JSON of a function call"),
        ({"messages": "a"}, "broken JSON"),
        ({"messages": 3}, "must be a list"),
        ({"messages": None}, "must be a list"),
        ({"messages": said(tool_calls=[{"name": "sum"}])}, "ChatML has no form for tool calls"),
        ({"messages": said(), "tools": 3}, "`tools` must be a list"),
        ({"messages": said(name="<|im_end|>")}, "special tokens"),
    ],
)
def test_bad_rows_are_refused_with_their_line(row, match, model, tmp_path):
    path = tmp_path / "chats.jsonl"
    good = {"messages": CHAT}
    path.write_text("".join(json.dumps(r) + "\n" for r in (good, row, good)), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"chats\.jsonl, line 2: .*{match}"):
        read(path, model)


def test_the_first_row_needs_a_form_and_all_bad_rows_are_counted(model):
    with pytest.raises(ValueError, match=r"`source`, row 0: a row must have `messages`.*'text'"):
        read([{"text": "a"}], model)
    bad = {"messages": [USER]}
    rows = [{"messages": CHAT}, *itertools.repeat(bad, 8)]
    with pytest.raises(ValueError, match=r"row 1: .* 7 more rows have errors: .*row 2; .*; \.\.\."):
        read(rows, model)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"instruction": "", "output": "a"}, "message 0, of the user"),
        ({"instruction": "a", "output": None}, "`assistant` must be a text"),
        ({"instruction": "a", "output": ""}, "message 1, of the assistant"),
        ({"instruction": "a", "input": 3, "output": "b"}, "`input` must be a text"),
        ({"instruction": "a", "output": "b", "history": ["c"]}, "`history` must hold pairs"),
        ({"instruction": "a"}, "has the form `instruction`"),
    ],
)
def test_bad_rows_of_alpaca(row, match, model):
    with pytest.raises(ValueError, match=rf"row 2: .*{match}"):
        read([*numbered(2), row], model)


def test_arguments_that_are_refused(model):
    with pytest.raises(ValueError, match="is empty"):
        read([], model)
    with pytest.raises(ValueError, match="sequence_length` must be at most 256"):
        read(numbered(2), model, sequence_length=257)
    with pytest.raises(ValueError, match="`sequence_length`"):
        read(numbered(2), model, sequence_length=0)
    with pytest.raises(ValueError, match="validation_fraction"):
        read(numbered(2), model, validation_fraction=1)
    with pytest.raises(ValueError, match="validation part is empty"):
        conversations(numbered(1), model)
    with pytest.raises(ValueError, match=r"no chat_template.*add_chatml"):
        read(numbered(2), gk.GPTCausalLM(model.config, tokenizer=model.tokenizer))
    with pytest.raises(ValueError, match="no tokenizer and no chat_template"):
        read(numbered(2), gk.GPTCausalLM(model.config))
