import collections

import numpy as np
import pytest

import gpt_keras as gk

START = "start"


class Naive:
    """Interpolated modified Kneser-Ney as its formula reads, with dictionaries of tuples."""

    def __init__(self, order, size, documents, end=None):
        self.order, self.size = order, size
        self.mark = START if end is None else end
        occurrences = collections.Counter()
        for document in documents:
            padded = [self.mark] * (order - 1) + document + ([] if end is None else [end])
            for i in range(order - 1, len(padded)):
                occurrences[tuple(padded[i - order + 1 : i + 1])] += 1
        self.counts = {order: occurrences}
        for n in range(order - 1, 0, -1):
            left = collections.defaultdict(set)
            for gram in self.counts[n + 1]:
                left[gram[1:]].add(gram[0])
            self.counts[n] = {gram: len(tokens) for gram, tokens in left.items()}
        self.discounts = {n: self.estimate(counts) for n, counts in self.counts.items()}

    @staticmethod
    def estimate(counts):
        n = collections.Counter(counts.values())
        if n[1] and n[2] and n[3] and n[4]:
            y = n[1] / (n[1] + 2 * n[2])
            d = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
            if all(0 < d[i - 1] <= i for i in (1, 2, 3)):
                return d
        return [0.5, 1.0, 1.5]

    def probability(self, token, context):
        context = tuple(context)
        if (n := len(context) + 1) > 1:
            shorter = self.probability(token, context[1:])
        else:
            shorter = 1 / self.size
        after = {g: c for g, c in self.counts[n].items() if g[:-1] == context}
        if not after:
            return shorter
        total, discounts = sum(after.values()), self.discounts[n]
        taken = sum(discounts[min(c, 3) - 1] for c in after.values())
        count = after.get((*context, token), 0)
        kept = count - discounts[min(count, 3) - 1] if count else 0
        return kept / total + taken / total * shorter

    def of_document(self, document):
        padded = [self.mark] * (self.order - 1) + list(document)
        return [
            self.probability(padded[i], padded[i - self.order + 1 : i])
            for i in range(self.order - 1, len(padded))
        ]


def zipf_documents(size, lengths, seed):
    generator = np.random.default_rng(seed)
    chances = 1 / np.arange(1, size + 1)
    chances /= chances.sum()
    return [generator.choice(size, length, p=chances).tolist() for length in lengths]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("with_end", [False, True])
def test_probabilities_are_those_of_the_formula(order, with_end):
    size = 12
    documents = zipf_documents(size - with_end, [120, 1, 37, 200], seed=order)
    tokenizer, end = None, None
    if with_end:
        tokenizer = gk.tokenizers.CharacterTokenizer("abcdefghijk", end_of_text=True)
        end = tokenizer.end_of_text_id
    model = gk.NGramLM(order, tokenizer, vocabulary_size=size).fit(documents)
    naive = Naive(order, size, documents, end)
    for document in (documents[2], *zipf_documents(size - with_end, [40, 1], seed=99)):
        expected = np.log(naive.of_document(document))
        np.testing.assert_allclose(model.log_probabilities(document), expected, rtol=1e-12)


def test_estimated_discounts_are_used():
    documents = zipf_documents(60, [3000], seed=0)
    assert Naive.estimate(Naive(3, 60, documents).counts[3]) != [0.5, 1.0, 1.5]
    model, naive = gk.NGramLM(3, vocabulary_size=60).fit(documents), Naive(3, 60, documents)
    document = zipf_documents(60, [50], seed=1)[0]
    expected = np.log(naive.of_document(document))
    np.testing.assert_allclose(model.log_probabilities(document), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_sum_to_1_and_agree_with_those_of_documents(order):
    model = gk.NGramLM(order, vocabulary_size=30).fit(zipf_documents(20, [400, 50], seed=3))
    for context in [[], [29, 29, 29], *zipf_documents(30, [1, 2, 3, 10], seed=4)]:
        probabilities = model.next_probabilities(context)
        assert probabilities.sum() == pytest.approx(1, abs=1e-12)
        assert probabilities.min() > 0
        for token in (0, 7, 29):
            last = model.log_probabilities([*context, token])[-1]
            assert np.exp(last) == pytest.approx(probabilities[token], rel=1e-12)


def test_a_bigram_model_by_hand():
    # "aab": after the start a; after a: a, b. All counts are 1, so a discount is 0.5.
    model = gk.NGramLM(2, vocabulary_size=2).fit([[0, 0, 1]])
    # Unigrams count what stands before: a after start and a, b after a. Two kinds of a are
    # discounted by 1, one of b by 0.5: a (2-1)/3, b (1-0.5)/3, and 1.5/3 over two tokens.
    a, b = 1 / 3 + 0.25, 0.5 / 3 + 0.25
    np.testing.assert_allclose(model.next_probabilities([]), [0.5 + 0.5 * a, 0.5 * b])
    np.testing.assert_allclose(model.next_probabilities([0]), [0.25 + 0.5 * a, 0.25 + 0.5 * b])
    # b was never followed by anything: only the shorter context speaks.
    np.testing.assert_allclose(model.next_probabilities([1]), [a, b])


def test_san_francisco():
    # The example that the method is explained with: a frequent word that follows one other word
    # only is no likely continuation of a new context.
    tokenizer = gk.tokenizers.CharacterTokenizer("SFgxyz", end_of_text=True)
    model = gk.NGramLM(2, tokenizer).fit(["SFSFSFSFSF", "xg", "yg", "zg"])
    after_g = model.next_probabilities(tokenizer.encode("g"))
    assert after_g[1] < after_g[2]  # F 5 times after S; g 3 times after three


def test_documents_do_not_touch():
    tokenizer = gk.tokenizers.CharacterTokenizer("ab", end_of_text=True)
    model = gk.NGramLM(3, tokenizer).fit(["aaaa", "bbbb"])
    together = model.log_probabilities([0, 0, 2, 1, 1])
    apart = [model.log_probabilities([0, 0, 2]), model.log_probabilities([1, 1])]
    np.testing.assert_array_equal(together, np.concatenate(apart))
    # The end of text is a token of the document before.
    assert model.next_probabilities([0, 0])[2] > model.next_probabilities([])[2]


def test_perplexity():
    tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
    model = gk.NGramLM(3, tokenizer).fit(["abcabc", "cab"])
    log_probabilities = np.concatenate(
        [model.log_probabilities([0, 1, 3]), model.log_probabilities([2, 2, 3])]
    )
    expected = np.exp(-log_probabilities.mean())
    assert model.perplexity(["ab", "cc"]) == pytest.approx(expected)
    assert model.perplexity([[0, 1], [2, 2]]) == pytest.approx(expected)
    # Without an end of text the first token of each document is left out.
    model = gk.NGramLM(3, vocabulary_size=3).fit([[0, 1, 2, 0, 1, 2], [2, 0, 1]])
    parts = [model.log_probabilities(ids)[1:] for ids in ([0, 1], [2, 2])]
    expected = np.exp(-np.concatenate(parts).mean())
    assert model.perplexity([[0, 1], [2, 2]]) == pytest.approx(expected)


def test_it_generates_what_it_read():
    tokenizer = gk.tokenizers.CharacterTokenizer("abcdefgh ", end_of_text=True)
    model = gk.NGramLM(4, tokenizer).fit(["abcdefgh", "fed cab"])
    assert model.generate("abc", temperature=0) == "abcdefgh"  # and there it ends
    assert model.generate(["ab", "fe"], max_new_tokens=2, temperature=0) == ["abcd", "fed "]
    assert model.generate([0, 1], max_new_tokens=2, temperature=0) == [0, 1, 2, 3]
    several = model.generate(["a"] * 8, temperature=1.0, max_new_tokens=12, seed=1)
    assert len(set(several)) > 1
    assert several == model.generate(["a"] * 8, temperature=1.0, max_new_tokens=12, seed=1)
    assert several[:1] == model.generate(["a"], temperature=1.0, max_new_tokens=12, seed=1)
    cold = model.generate(["a"] * 20, temperature=0.01, max_new_tokens=12, seed=1)
    assert set(cold) == {model.generate("a", temperature=0, max_new_tokens=12)}


def test_draws_have_the_model_s_frequencies():
    model = gk.NGramLM(2, vocabulary_size=4).fit(zipf_documents(4, [300], seed=0))
    rows = model.generate([[1]] * 4000, max_new_tokens=1, seed=0)
    frequencies = np.bincount([row[1] for row in rows], minlength=4) / 4000
    np.testing.assert_allclose(frequencies, model.next_probabilities([1]), atol=0.03)


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_it_is_saved(tmp_path, with_tokenizer):
    tokenizer = gk.tokenizers.CharacterTokenizer("abc") if with_tokenizer else None
    model = gk.NGramLM(3, tokenizer, vocabulary_size=5).fit([[0, 1, 2, 0, 1, 1, 2]])
    model.save(tmp_path / "ngram")
    loaded = gk.NGramLM.load(tmp_path / "ngram")
    assert loaded.tokenizer == tokenizer
    assert loaded.num_parameters == model.num_parameters > 0
    np.testing.assert_array_equal(
        loaded.log_probabilities([4, 2, 0, 1]), model.log_probabilities([4, 2, 0, 1])
    )
    (tmp_path / "ngram" / "ngrams.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"ngrams\.npz' is no n-gram model"):
        gk.NGramLM.load(tmp_path / "ngram")


def test_files_are_documents(tmp_path):
    tokenizer = gk.tokenizers.CharacterTokenizer("abc", end_of_text=True)
    for name, text in {"1.txt": "abcabc", "2.txt": "cab"}.items():
        (tmp_path / name).write_text(text)
    model = gk.NGramLM(3, tokenizer).fit(tmp_path)
    same = gk.NGramLM(3, tokenizer).fit(["abcabc", "cab"])
    np.testing.assert_array_equal(model.log_probabilities([0, 1]), same.log_probabilities([0, 1]))
    assert model.perplexity(tmp_path / "1.txt") == same.perplexity("abcabc")


def test_line_ends_of_files_become_those_of_texts(tmp_path):
    file = tmp_path / "windows.txt"
    file.write_bytes(b"ab\r\nab\r\n")
    tokenizer = gk.tokenizers.CharacterTokenizer("ab\r\n", end_of_text=True)
    for keep, text in ((False, "ab\nab\n"), (True, "ab\r\nab\r\n")):
        model = gk.NGramLM(2, tokenizer).fit(file, keep_line_ends=keep)
        assert model.perplexity(text) == model.perplexity(file, keep_line_ends=keep)
        assert model.perplexity(text) == gk.NGramLM(2, tokenizer).fit([text]).perplexity(text)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`order` must be an integer of at least 1, got 0"):
        gk.NGramLM(0, vocabulary_size=3)
    with pytest.raises(ValueError, match="`vocabulary_size` must be given"):
        gk.NGramLM(2)
    with pytest.raises(ValueError, match="at least the tokenizer's 3, got 2"):
        gk.NGramLM(2, gk.tokenizers.CharacterTokenizer("abc"), vocabulary_size=2)
    model = gk.NGramLM(2, vocabulary_size=3)
    with pytest.raises(ValueError, match="call `fit` first"):
        model.log_probabilities([1])
    with pytest.raises(ValueError, match=r"\[0, 3\).*from 1 to 3"):
        model.fit([[1, 3]])
    with pytest.raises(ValueError, match="no tokenizer for texts"):
        model.fit(["abc"])
    with pytest.raises(ValueError, match=r"document 1 is array\(\['a'\]"):
        model.fit([[1], ["a"]])
    with pytest.raises(ValueError, match="holds no text"):
        model.fit([])
    model.fit([[1, 2]])
    with pytest.raises(ValueError, match="at least 2 tokens"):
        model.perplexity([[1], [2]])
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        model.generate([7])
    with pytest.raises(ValueError, match="temperature"):
        model.generate([1], temperature=-1)
