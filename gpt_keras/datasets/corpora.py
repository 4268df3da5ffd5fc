"""Small corpora in the package; `data/PROVENANCE.md` gives their sources."""

from pathlib import Path

DATA = Path(__file__).parent / "data"


def names() -> list[str]:
    """Return the names of the corpora that `load` accepts.

    Example:
        >>> import gpt_keras as gk
        >>> gk.datasets.corpora.names()
        ['shakespeare', 'tang_poems']
    """
    return sorted(_LOADERS)


def load(name: str) -> list[str]:
    """Load a corpus that is part of the package.

    Args:
        name: `"shakespeare"`: nine plays in English, about 1.1 MB. The speaker's name has its own
            line, in capitals. `"tang_poems"`: poems of 唐诗三百首 (*Three Hundred Tang Poems*), in
            traditional Chinese characters, with a title line, an author line, and one line for each
            verse.

    Returns:
        A list of documents, each one play or one poem.

    Raises:
        ValueError: There is no corpus of this name.

    Example:
        >>> import gpt_keras as gk
        >>> plays = gk.datasets.corpora.load("shakespeare")
        >>> len(plays)
        9
        >>> plays[0][:6]
        'ACT I.'
    """
    if name not in _LOADERS:
        raise ValueError(f"`name` must be one of {names()}, got {name!r}.")
    return _LOADERS[name]()


def _shakespeare() -> list[str]:
    files = sorted((DATA / "shakespeare").glob("*.txt"))
    return [file.read_bytes().decode("utf-8") for file in files]


def _tang_poems() -> list[str]:
    text = (DATA / "tang_poems.txt").read_bytes().decode("utf-8")
    return [f"{poem}\n" for poem in text.rstrip("\n").split("\n\n")]


_LOADERS = {"shakespeare": _shakespeare, "tang_poems": _tang_poems}
