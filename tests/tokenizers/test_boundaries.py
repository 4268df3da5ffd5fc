"""The tokens that begin and end a text: as files declare them, and as they are added."""

import json

import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Engine
from tokenizers import processors

from gpt_keras import tokenizers
from gpt_keras.tokenizers.boundaries import Boundaries, read_boundaries, write_boundaries

START, END = 260, 261


@pytest.fixture(scope="module")
def plain():
    return tokenizers.BytePairTokenizer.train(
        "hello world " * 9, 262, special_tokens=["<s>", "</s>"]
    )


def folder_with(folder, tokenizer, post_processor=None, **files):
    engine = Engine.from_str(tokenizer.to_json())
    if post_processor is not None:
        engine.post_processor = post_processor
    engine.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return tokenizers.load(folder)


def template(single, *tokens):
    ids = {"<s>": START, "</s>": END}
    return processors.TemplateProcessing(single, special_tokens=[(t, ids[t]) for t in tokens])


BYTE_LEVEL = processors.ByteLevel(trim_offsets=False)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

# Of each folder the ids that transformers 5.24 gives "hello world", less those of the text.
FOLDERS = [
    ({"post_processor": template("<s> $A", "<s>")}, [START], (START, END)),
    ({"post_processor": template("<s> $A </s>", "<s>", "</s>")}, [START], (START, END)),
    (
        {"post_processor": processors.Sequence([BYTE_LEVEL, template("<s> $A", "<s>")])},
        [START],
        (START, END),
    ),
    ({"tokenizer_config": TOKENS | {"add_bos_token": True}}, [START], (START, END)),
    ({"tokenizer_config": TOKENS}, [], (START, END)),
    ({"special_tokens_map": {"bos_token": {"content": "<s>"}}}, [], (START, END)),
    (
        {
            "post_processor": template("<s> $A", "<s>"),
            "tokenizer_config": TOKENS | {"add_bos_token": False},
        },
        [],
        (START, END),
    ),
    # No file names the token that is to be added.
    ({"tokenizer_config": {"add_bos_token": True}}, [], (None, END)),
    # Swapped, so that no spelling decides.
    ({"tokenizer_config": {"bos_token": "</s>", "eos_token": "<s>"}}, [], (END, START)),
    ({"config": {"bos_token_id": END, "eos_token_id": [7, START]}}, [], (END, START)),
    (
        {"config": {"eos_token_id": END}, "generation_config": {"eos_token_id": START}},
        [],
        (None, START),
    ),
    # transformers' defaults name ids whatever the vocabulary.
    ({"config": {"bos_token_id": 1, "eos_token_id": 2}}, [], (None, END)),
]


@pytest.mark.parametrize(("content", "added", "boundaries"), FOLDERS)
def test_what_a_folder_says(plain, content, added, boundaries, tmp_path):
    tokenizer = folder_with(tmp_path, plain, **content)
    assert (tokenizer.start_of_text_id, tokenizer.end_of_text_id) == boundaries
    assert tokenizer.adds_start_of_text == bool(added)
    ids = plain.encode("hello world")
    assert tokenizer.encode("hello world") == ids
    assert tokenizer.encode("hello world", add_start_of_text=True) == added + ids
    assert tokenizer.encode(["", "hello world"], "all", True) == [added, added + ids]
    # The file that is saved says the same alone, and says it to the engine, too.
    again = tokenizers.load(tokenizer.save(tmp_path / "again.json"))
    assert again == tokenizer
    assert (again.start_of_text_id, again.end_of_text_id) == boundaries
    engine = Engine.from_file(str(tmp_path / "again.json"))
    assert engine.encode("hello world").ids[: len(added + ids)] == added + ids


def test_several_tokens_before_a_text_are_refused(plain, tmp_path):
    # As in ChatGLM's files. Prompts with only the first of them would be silently wrong.
    several = template("<s> </s> $A", "<s>", "</s>")
    with pytest.raises(ValueError, match=r"one token before a text, got \['<s>', '</s>'\]"):
        folder_with(tmp_path, plain, several)


def test_a_damaged_setting_is_refused_by_name(plain, tmp_path):
    plain.save(tmp_path)
    for content in ("[1]", "{", '{"added_tokens_decoder": {"9": {}}}'):
        (tmp_path / "tokenizer_config.json").write_text(content)
        with pytest.raises(ValueError, match="tokenizer_config"):
            tokenizers.load(tmp_path)


def test_tokenizers_with_other_boundaries_differ(plain):
    tokenizer = plain.with_boundaries("<s>", "</s>", adds_start_of_text=True)
    assert tokenizer != plain
    assert tokenizer.with_boundaries() is tokenizer
    assert tokenizer.with_boundaries(adds_start_of_text=False) != tokenizer
    assert tokenizer.with_boundaries(end_of_text="<s>").end_of_text_id == START
    assert tokenizer.with_boundaries(end_of_text="<s>").adds_start_of_text
    with pytest.raises(ValueError, match="`start_of_text` must be a token of the vocabulary"):
        plain.with_boundaries("<begin>")
    with pytest.raises(ValueError, match="must be False without a start of text"):
        plain.with_boundaries(adds_start_of_text=True)
    letters = tokenizers.CharacterTokenizer("ab", end_of_text=True)
    with pytest.raises(ValueError, match="CharacterTokenizer cannot have other boundary tokens"):
        letters.with_boundaries("<|endoftext|>")


def test_the_start_in_graph_and_in_padded_rows(plain):
    tokenizer = plain.with_boundaries("<s>", adds_start_of_text=True)
    texts = ["hello world", "", "he"]
    rows = tokenizer.encode(texts, add_start_of_text=True)
    for layer in (tokenizer.in_graph(), tokenizer.in_graph("all")):
        assert layer(tf.constant(texts), add_start_of_text=True).to_list() == rows
        assert layer(tf.constant(texts)).to_list() == tokenizer.encode(texts)
        for side in ("left", "right"):
            options = {"padding_side": side, "truncation_side": side, "append_end_of_text": True}
            found = layer.encode_padded(tf.constant(texts), 5, add_start_of_text=True, **options)
            expected = tokenizer.encode_padded(texts, 5, add_start_of_text=True, **options)
            assert found.token_ids.numpy().tolist() == expected.token_ids.tolist()
            assert found.mask.numpy().tolist() == expected.mask.tolist()
    assert expected.token_ids[1].tolist() == [START, END] + 3 * [END]


def test_tokenizers_without_a_start():
    letters = tokenizers.CharacterTokenizer("ab", end_of_text=True)
    assert letters.start_of_text_id is None
    assert letters.id_before_text == 2
    assert letters.encode("ab", add_start_of_text=True) == [0, 1]


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("end", [None, END, START])
@pytest.mark.parametrize(
    "old",
    [
        None,
        BYTE_LEVEL,
        template("$A"),
        template("<s> $A", "<s>"),
        template("<s> $A </s>", "<s>", "</s>"),
        processors.Sequence([BYTE_LEVEL, template("$A </s>", "</s>")]),
        processors.RobertaProcessing(("</s>", END), ("<s>", START)),
    ],
)
def test_what_is_written_is_read(plain, old, end, adds):
    engine = Engine.from_str(plain.to_json())
    engine.post_processor = old
    content = json.loads(engine.to_str())
    before = engine.encode("hello").ids
    has_end = before[-1] == END and end is not None
    boundaries = Boundaries(START, end, adds)
    written = write_boundaries(content["post_processor"], boundaries, engine.id_to_token)
    content["post_processor"] = written
    engine = Engine.from_str(json.dumps(content))
    assert read_boundaries(json.loads(engine.to_str())["post_processor"]) == boundaries
    # Nothing but the start is added or taken away, and an end that is no longer one.
    text = plain.encode("hello")
    assert engine.encode("hello").ids == [START] * adds + text + [END] * has_end
    assert ("ByteLevel" in json.dumps(written)) == isinstance(
        old, processors.ByteLevel | processors.Sequence
    )
