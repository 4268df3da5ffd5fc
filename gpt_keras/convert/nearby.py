"""Suggestions in error messages, for names and paths without a model."""

import difflib
import os
import pathlib
import re

from gpt_keras import presets
from gpt_keras.convert.hub import PREFIX
from gpt_keras.convert.pretrained import PRETRAINED

# This module uses `os.path.isfile` and `os.path.isdir` because they return False for unreadable
# folders and for names that are too long. The methods of `pathlib.Path` raise there.

# Every folder with a model contains one of these files.
_DESCRIPTIONS = ("config.json", "hparams.json", "params_shapes.json")
_MOST_NAMED = 3


def hint(source: str) -> str:
    """Return a sentence that suggests another source for a model.

    Args:
        source: A path or name from which no model could be loaded.

    Returns:
        The sentence, or an empty string without a suggestion.

    Example:
        >>> from gpt_keras.convert.nearby import hint
        >>> hint("smollm2-135m")
        "Did you mean 'smollm2_135m'?"
    """
    path = pathlib.Path(source)
    if os.path.isfile(path):
        is_part = path.suffix != ".keras" and _holds_model(path.parent)
        return f"Load its folder: {str(path.parent)!r}." if is_part else ""
    if os.path.isdir(path):
        inside = [] if _holds_model(path) else sorted(filter(_holds_model, _entries(path)))
        return f"A model is in {_any_of(map(str, inside))}." if inside else ""
    if source in presets.names() and source not in PRETRAINED:
        shape = f"gk.presets.get({source!r})"
        return f"This preset has no weights; a new model is `gk.GPTCausalLM({shape})`."
    meant = _near_paths(path) or _near_names(source) + _on_the_hub(source)
    return f"Did you mean {_any_of(meant)}?" if meant else ""


def _holds_model(folder):
    return any(os.path.isfile(folder / name) for name in _DESCRIPTIONS)


def _entries(folder):
    return list(folder.iterdir()) if os.access(folder, os.R_OK) else []


def _near_paths(path):
    """Return the existing paths that differ from a path in one component."""
    parents = [parent for parent in path.parents if os.path.isdir(parent)]
    if not parents:
        return []
    parent = parents[0]
    first, *rest = path.relative_to(parent).parts
    there = [entry.name for entry in _entries(parent)]
    near = difflib.get_close_matches(first, there, n=_MOST_NAMED, cutoff=0.8)
    found = [str(parent.joinpath(name, *rest)) for name in near]
    return [path for path in found if os.path.exists(path)]


def _near_names(source):
    """Return names of pretrained models similar to a name or a repository on the hub."""
    plain = _plain(source)
    same = [
        name
        for name, place in PRETRAINED.items()
        if plain in map(_plain, (name, place.removeprefix(PREFIX), place.rpartition("/")[2]))
    ]
    by_plain = {_plain(name): name for name in PRETRAINED}
    near = difflib.get_close_matches(plain, by_plain, n=_MOST_NAMED, cutoff=0.75)
    return same or [by_plain[name] for name in near]


def _on_the_hub(source):
    return [PREFIX + source] if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) else []


def _plain(name):
    return re.sub(r"[\W_]", "", name.lower())


def _any_of(names):
    names = [repr(name) for name in names][:_MOST_NAMED]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
