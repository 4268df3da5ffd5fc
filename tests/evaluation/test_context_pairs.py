"""Contexts and continuations have the ids that the harness finds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt_keras as gk
from gpt_keras.evaluation.context_pairs import encode_pair, encode_pairs, encode_texts

CORPUS = "low lower lowest new newer newest the tower was lower than the new tower " * 3


def trained(adds_start, *special, **boundaries):
    tokenizer = gk.tokenizers.BytePairTokenizer.train(CORPUS, 290, special_tokens=[*special])
    return tokenizer.with_boundaries(**boundaries, adds_start_of_text=adds_start)


TOKENIZERS = {
    "gpt2": lambda: gk.tokenizers.BytePairTokenizer.gpt2(),
    "adds its start": lambda: trained(
        True, "<s>", "</s>", "<|user|>", start_of_text="<s>", end_of_text="</s>"
    ),
    "has a start": lambda: trained(
        False, "<s>", "</s>", "<|user|>", start_of_text="<s>", end_of_text="</s>"
    ),
}
TEXTS = st.text(alphabet="low nestr\n é😀", max_size=12) | st.sampled_from(
    ["<s>", "</s>", "<s>low", "<|user|> new", "<|endoftext|>", "<|endoftext|>low"]
)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def plain_pair(tokenizer, context, continuation):
    """`TemplateLM.loglikelihood` and `HFLM.tok_encode` (0.4.13), written down again."""
    prefix = tokenizer.start_of_text_id
    prefix = tokenizer.end_of_text_id if prefix is None else prefix

    def encode(text):
        begins = text.startswith(tokenizer.decode([prefix]))
        return tokenizer.encode(text, "all", add_start_of_text=not begins)

    if context == "":
        ids = tokenizer.encode(continuation, "all")
        return ([prefix], ids) if prefix != ids[0] else (ids[:1], ids[1:])
    count = len(context) - len(context.rstrip())
    if count > 0:
        continuation, context = context[-count:] + continuation, context[:-count]
    whole, ids = encode(context + continuation), encode(context)
    return ids, whole[len(ids) :]


@settings(max_examples=150, deadline=None)
@given(context=TEXTS, continuation=TEXTS)
def test_ids_are_the_ones_of_the_harness(tokenizer, context, continuation):
    if context and not context.strip():
        return  # the harness fails, or starts with the start of text alone
    try:
        expected = plain_pair(tokenizer, context, continuation)
    except IndexError:
        expected = ([0], [])
    if expected[1]:
        assert encode_pair(tokenizer, context, continuation) == expected
    else:
        with pytest.raises(ValueError, match="`continuation` must have a token"):
            encode_pair(tokenizer, context, continuation)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_ids_are_the_ones_of_its_class(kind, spread_model):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM

    class Recorder(gk.evaluation.HarnessModel):
        def _loglikelihood_tokens(self, requests, **kwargs):
            return requests

    model = Recorder(spread_model)
    model.tokenizer = TOKENIZERS[kind]()
    pairs = [("low ", "newer"), ("", "low"), ("the\n\n", " new"), ("<s>low", " é"), ("a", "bé")]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    expected = TemplateLM.loglikelihood(model, requests, disable_tqdm=True)
    found = encode_pairs(model.tokenizer, pairs)
    assert [(pair, *ids) for pair, ids in zip(pairs, found, strict=True)] == expected


def test_many_pairs_at_once(tokenizer):
    pairs = [("low ", "newer"), ("", "low"), ("low", " est"), ("", "est"), ("low ", "er")]
    assert encode_pairs(tokenizer, pairs) == [encode_pair(tokenizer, *pair) for pair in pairs]
    assert encode_pairs(tokenizer, []) == []


def test_a_start_is_added_once():
    tokenizer = TOKENIZERS["adds its start"]()
    start = tokenizer.start_of_text_id
    for text in ("low", "<s>low"):
        (ids,) = encode_texts(tokenizer, [text])
        assert ids.count(start) == 1
        assert ids[0] == start
    assert encode_texts(tokenizer, [""]) == [[start]]


def test_a_context_of_spaces_counts_as_empty(tokenizer):
    assert encode_pair(tokenizer, " \n", "low") == encode_pair(tokenizer, "", " \nlow")


def test_no_boundary_tokens():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc ")
    assert encode_pair(tokenizer, "ab ", "c") == ([0, 1], [3, 2])
    with pytest.raises(ValueError, match=r"start-of-text or an end-of-text token.*Character"):
        encode_pair(tokenizer, "", "c")


def test_nothing_to_score(tokenizer):
    with pytest.raises(ValueError, match=r"`continuation` must have a token.*'' after 'low'"):
        encode_pair(tokenizer, "low", "")
    with pytest.raises(ValueError, match="`continuation` must have a token"):
        encode_pair(tokenizer, "", "")
