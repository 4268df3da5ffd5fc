"""Small corpora that come with the package; `data/PROVENANCE.md` tells where they are from."""

from pathlib import Path

DATA = Path(__file__).parent / "data"


def names() -> list[str]:
    """Return the names that `load` knows.

    Example:
        >>> import gpt_keras as gk
        >>> gk.datasets.corpora.names()
        ['shakespeare', 'tang_poems']
    """
    return sorted(_LOADERS)


def load(name: str) -> list[str]:
    """Load a corpus that comes with the package.

    Args:
        name: `"shakespeare"`: nine plays in English, about 1.1 MB; the speaker's name stands on
            its own line, in capitals. `"tang_poems"`: poems of 唐诗三百首, in Chinese
            (traditional characters): title, author, and one line for each verse.

    Returns:
        The documents: one play, or one poem, each.

    Raises:
        ValueError: There is no corpus of that name.

    Example:
        >>> import gpt_keras as gk
        >>> plays = gk.datasets.corpora.load("shakespeare")
        >>> len(plays)
        9
        >>> plays[0][:6]
        'ACT I.'
    """
    if name not in _LOADERS:
        raise ValueError(f"`name` must be one of {names()}, but is {name!r}.")
    return _LOADERS[name]()


def _shakespeare() -> list[str]:
    files = sorted((DATA / "shakespeare").glob("*.txt"))
    return [file.read_bytes().decode("utf-8") for file in files]


def _tang_poems() -> list[str]:
    text = (DATA / "tang_poems.txt").read_bytes().decode("utf-8")
    return [f"{poem}\n" for poem in text.rstrip("\n").split("\n\n")]


_LOADERS = {"shakespeare": _shakespeare, "tang_poems": _tang_poems}
