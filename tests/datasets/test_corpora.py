import hashlib
import re

import pytest

from gpt_keras.datasets import corpora


def test_shakespeare_is_nine_plays_of_one_style():
    plays = corpora.load("shakespeare")
    assert len(plays) == 9
    assert 1_000_000 < sum(map(len, plays)) < 1_200_000
    for play in plays:
        assert play.isascii()
        assert play.startswith("ACT I.\n\nSCENE I.")
        assert re.findall(r"^ACT (\w+)\.$", play, re.M) == ["I", "II", "III", "IV", "V"]
        assert len(re.findall(r"\n\n[A-Z][A-Z ,&']+\.\n[^\n]", play)) > 500
        assert not re.search(r"[ \t]\n|\n\n\n|\r|[{}]|Gutenberg", play)
        assert play.endswith("\n")


def test_tang_poems_have_title_author_and_verses():
    poems = corpora.load("tang_poems")
    assert len(poems) == 318
    for poem in poems:
        title, author, *verses = poem.rstrip("\n").split("\n")
        assert title
        assert author
        assert len(verses) >= 2
        assert all(re.fullmatch(r"[\u3400-\u9fff，。？！]+", verse) for verse in verses)
    assert "靜夜思\n李白\n" in "".join(poems)


def test_no_poem_is_there_twice():
    verses = [poem.split("\n", 2)[2] for poem in corpora.load("tang_poems")]
    assert len(set(verses)) == len(verses)


def test_names_are_those_that_load():
    assert corpora.names() == ["shakespeare", "tang_poems"]
    with pytest.raises(ValueError, match=r"must be one of .*'shakespeare'.* got 'bible'"):
        corpora.load("bible")


def test_every_file_is_in_the_provenance():
    provenance = (corpora.DATA / "PROVENANCE.md").read_text(encoding="utf-8")
    files = sorted(corpora.DATA.rglob("*.txt"))
    assert len(files) == 10
    for file in files:
        name = file.relative_to(corpora.DATA).as_posix()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f"| `{name}` | `{digest}` |" in provenance
