"""Folders with several files of a tokenizer, and vocabularies with tokens added to them."""

import base64
import io
import json

import pytest
import tensorflow as tf
import tiktoken
from tokenizers import AddedToken as EngineToken
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, processors

import gpt_keras.tokenizers as tokenizers
from gpt_keras.tokenizers.added_tokens import AddedToken
from gpt_keras.tokenizers.tiktoken_file import is_tiktoken

ADDED = {"<|im_start|>": 272, "<|im_end|>": 273}  # two ids have no token
DECODER = {
    "0": {"content": "<unk>", "special": True},
    "272": {"content": "<|im_start|>", "special": True, "rstrip": True},
    "273": {"content": "<tool>", "special": False},
}


@pytest.fixture(scope="session")
def pieces():
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("tensorflow_text")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world"] * 50),
        model_writer=model,
        vocab_size=270,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return model.getvalue()


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_added_tokens_of_a_sentencepiece_model(pieces, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(pieces)
    plain = tokenizers.load(tmp_path)
    write(tmp_path, added_tokens=ADDED)
    loaded = tokenizers.load(tmp_path)
    assert loaded.vocabulary_size == 274
    assert loaded.special_tokens == {
        **plain.special_tokens,
        "[PAD270]": 270,
        "[PAD271]": 271,
        **ADDED,
    }
    text = "<|im_start|>hello<|im_end|> world"
    hello, world = plain.encode(["hello", " world"])
    assert loaded.encode(text, "all") == [272, *hello, 273, *world]
    assert loaded.encode(text) == plain.encode(text)
    assert loaded.decode([272, *hello, 273]) == "<|im_start|> hello<|im_end|>"
    layer = loaded.in_graph("all")
    assert layer(tf.constant([text])).to_list() == [[272, *hello, 273, *world]]
    assert layer.detokenize([[272, *hello, 273]]).numpy().tolist() == [
        b"<|im_start|> hello<|im_end|>"
    ]
    again = tokenizers.load(loaded.save(tmp_path / "again.json"))
    assert again == loaded != plain
    assert again.encode(text, "all") == [272, *hello, 273, *world]


def test_how_added_tokens_are_found(pieces, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(pieces)
    plain = tokenizers.load(tmp_path)
    write(tmp_path, tokenizer_config={"added_tokens_decoder": DECODER, "bos_token": "<s>"})
    loaded = tokenizers.load(tmp_path)
    text = "<|im_start|> hello<tool>"
    hello = plain.encode("hello")
    # One that is not special is found in every text.
    assert loaded.encode(text) == [*plain.encode("<|im_start|> hello"), 273]
    assert loaded.encode(text, "all") == [272, *hello, 273]
    for allowed in ((), "all"):
        in_graph = loaded.in_graph(allowed)(tf.constant([text])).to_list()
        assert in_graph == [loaded.encode(text, allowed)]
    assert tokenizers.load(loaded.save(tmp_path / "again.json")) == loaded


def test_the_boundaries_of_a_sentencepiece_model(pieces, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(pieces)
    plain = tokenizers.load(tmp_path)
    assert (plain.start_of_text_id, plain.end_of_text_id) == (1, 2)
    assert not plain.adds_start_of_text
    write(
        tmp_path,
        tokenizer_config={"add_bos_token": True, "eos_token": "<|im_end|>"},
        added_tokens=ADDED,
    )
    loaded = tokenizers.load(tmp_path)
    hello = plain.encode("hello")
    assert loaded.end_of_text_id == 273
    assert loaded.encode("hello", add_start_of_text=True) == [1, *hello]
    in_graph = loaded.in_graph()(tf.constant(["hello"]), add_start_of_text=True)
    assert in_graph.to_list() == [[1, *hello]]
    again = tokenizers.load(loaded.save(tmp_path / "again.json"))
    assert again == loaded
    assert (again.end_of_text_id, again.adds_start_of_text) == (273, True)


def metaspace_json(steps):
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    engine = Engine(
        models.BPE({token: i for i, token in enumerate(tokens)}, [("▁", "a")], byte_fallback=True)
    )
    engine.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    engine.decoder = decoders.Sequence(steps)
    engine.add_special_tokens([EngineToken("<s>", normalized=False)])
    return engine.to_str()


USUAL = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def test_a_tokenizer_json_comes_before_the_model_beside_it(pieces, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(pieces)
    (tmp_path / "tokenizer.json").write_text(metaspace_json(USUAL))
    loaded = tokenizers.load(tmp_path)
    assert isinstance(loaded, tokenizers.MetaspaceTokenizer)
    assert loaded.encode("a a") == [261, 261]
    # One that is of a kind that is not known here.
    (tmp_path / "tokenizer.json").write_text(metaspace_json([*USUAL, decoders.Replace("a", "b")]))
    assert isinstance(tokenizers.load(tmp_path), tokenizers.SentencePieceTokenizer)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json' is not a tokenizer file"):
        tokenizers.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"tokenizer\.json' is not a tokenizer file"):
        tokenizers.load(tmp_path)


@pytest.fixture(scope="session")
def small():
    return tokenizers.BytePairTokenizer.train("hello world " * 9, 262)


def test_added_tokens_of_a_byte_level_vocabulary(small, tmp_path):
    small.save_vocabulary(tmp_path)
    size = small.vocabulary_size
    write(tmp_path, added_tokens={"<|im_end|>": size}, tokenizer_config={"eos_token": "<|im_end|>"})
    loaded = tokenizers.load(tmp_path)
    assert loaded.special_tokens == {**small.special_tokens, "<|im_end|>": size}
    assert loaded.end_of_text_id == size
    hello = small.encode("hello")
    assert loaded.encode("hello<|im_end|>", "all") == [*hello, size]
    assert loaded.in_graph("all")(["hello<|im_end|>"]).to_list() == [[*hello, size]]
    assert tokenizers.load(loaded.save(tmp_path / "again.json")) == loaded


def test_tokens_that_cannot_be_added(small):
    with pytest.raises(ValueError, match="got 3 for '<new>'"):
        small.with_added_tokens([AddedToken(3, "<new>")])
    with pytest.raises(ValueError, match=r"got 300 for '<\|endoftext\|>'"):
        small.with_added_tokens([AddedToken(300, "<|endoftext|>")])
    letters = tokenizers.CharacterTokenizer("ab", end_of_text=True)
    assert letters.with_added_tokens([AddedToken(2, "<|endoftext|>")]) is letters
    with pytest.raises(ValueError, match="CharacterTokenizer cannot have further tokens"):
        letters.with_added_tokens([AddedToken(3, "<new>")])


def tiktoken_lines(ranks):
    return b"".join(
        base64.b64encode(token) + b" %d\n" % rank
        for token, rank in sorted(ranks.items(), key=lambda item: item[1])
    )


GPT4_EXPRESSION = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize("name", ["tokenizer.model", "some.tiktoken"])
def test_tiktokens_format(plays, name, tmp_path):
    trained = tokenizers.BytePairTokenizer.train(plays[0][:30_000], 600, special_tokens=[])
    ranks = {token: i for i, token in enumerate(trained.pieces(range(600)))}
    ranks[b"zzqx"] = 600  # no merges lead there
    (tmp_path / name).write_bytes(tiktoken_lines(ranks))
    reference = tiktoken.Encoding(
        "x", pat_str=GPT4_EXPRESSION, mergeable_ranks=ranks, special_tokens={}
    )
    texts = [plays[0][30_000:33_000], "12345 they'LL say\r\n\n  zzqx zzqxy 詩!?\n", ""]
    expected = [reference.encode(text) for text in texts]
    for path in (tmp_path, tmp_path / name):
        loaded = tokenizers.load(path)
        assert loaded.encode(texts) == expected
        assert loaded.decode(expected) == texts
    assert tokenizers.load(loaded.save(tmp_path / "again.json")) == loaded
    write(
        tmp_path,
        tokenizer_config={
            "added_tokens_decoder": {"601": {"content": "<|begin|>", "special": True}},
            "bos_token": "<|begin|>",
            "add_bos_token": True,
        },
    )
    loaded = tokenizers.load(tmp_path)
    assert loaded.encode("the", add_start_of_text=True) == [601, *reference.encode("the")]


@pytest.mark.slow
def test_gpt2_in_tiktokens_format(gpt2, tmp_path):
    file = tmp_path / "gpt2.tiktoken"
    file.write_bytes(tiktoken_lines({t: i for i, t in enumerate(gpt2.pieces(range(50256)))}))
    assert tokenizers.load(file) == gpt2


def test_llama3_has_its_special_tokens(monkeypatch, tmp_path):
    from gpt_keras.tokenizers import tiktoken_file

    monkeypatch.setitem(tiktoken_file._KINDS, 256, tiktoken_file._KINDS[128000])
    file = tmp_path / "tokenizer.model"
    file.write_bytes(tiktoken_lines({bytes([i]): i for i in range(256)}))
    loaded = tokenizers.load(file)
    assert loaded.vocabulary_size == 512
    special = loaded.special_tokens
    # As published with the first release, less the 128,000 of the vocabulary.
    for offset, token in (
        (0, "<|begin_of_text|>"),
        (1, "<|end_of_text|>"),
        (2, "<|reserved_special_token_0|>"),
        (6, "<|start_header_id|>"),
        (7, "<|end_header_id|>"),
        (8, "<|reserved_special_token_4|>"),
        (9, "<|eot_id|>"),
        (10, "<|reserved_special_token_5|>"),
        (255, "<|reserved_special_token_250|>"),
    ):
        assert special[token] == 256 + offset
    assert loaded.encode("a", add_start_of_text=True) == [256, ord("a")]
    assert loaded.end_of_text_id == 257


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"YQ== 0\nYg==\n", "line 2 must be base64, a space and a rank"),
        (b"YQ== 0\n!!! 1\n", "line 2 must be base64"),
        (b"YQ== 0\nYg== 2\n", "must be 0 to n - 1.* 1 is missing"),
        (b"YQ== 0\nYQ== 1\n", "occurs in it twice"),
    ],
)
def test_damaged_files_in_tiktokens_format(content, message, tmp_path):
    file = tmp_path / "bad.tiktoken"
    file.write_bytes(content)
    assert is_tiktoken(file)
    with pytest.raises(ValueError, match=rf"bad\.tiktoken' is not a tokenizer file: .*{message}"):
        tokenizers.load(file)


def test_fewer_ids(small, pieces):
    size = small.vocabulary_size
    more = small.with_added_tokens([AddedToken(size, "<s>"), AddedToken(size + 1, "[PAD]")])
    more = more.with_boundaries("<s>", "[PAD]", adds_start_of_text=True)
    fewer = more.with_first_ids(size + 1)
    assert fewer.vocabulary_size == size + 1
    assert fewer.special_tokens == {**small.special_tokens, "<s>": size}
    assert fewer.start_of_text_id == size
    assert fewer.end_of_text_id == small.end_of_text_id  # the one that it has without the other
    assert fewer.with_first_ids(size).adds_start_of_text is False
    assert fewer.with_first_ids(size).encode("hello") == small.encode("hello")
    assert more.with_first_ids(999) is more
    with pytest.raises(ValueError, match="`count` must be at least"):
        more.with_first_ids(size - 2)
    content = json.loads(more.to_json())  # whose texts end in the token that goes
    ends = processors.TemplateProcessing("$A [PAD]", None, [("[PAD]", size + 1)])
    content["post_processor"] = json.loads(ends.__getstate__())
    more = type(small).from_json(json.dumps(content))
    assert more.end_of_text_id == size + 1
    assert more.with_first_ids(size + 1).end_of_text_id == small.end_of_text_id
    plain = tokenizers.SentencePieceTokenizer(pieces)
    more = plain.with_added_tokens([AddedToken(270, "[PAD]")]).with_boundaries("[PAD]", "[PAD]")
    assert more.with_first_ids(270).special_tokens == plain.special_tokens
    with pytest.raises(ValueError, match="`count` must be at least"):
        plain.with_first_ids(269)
