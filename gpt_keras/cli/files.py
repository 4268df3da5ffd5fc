"""What the commands read and write."""

import pathlib
import tempfile

import gpt_keras as gk
from gpt_keras.atomic import check_empty_directory
from gpt_keras.datasets.documents import list_documents
from gpt_keras.tokenizers.text_files import read_text


def read_corpus(corpus: str) -> list[str | pathlib.Path]:
    """Returns the documents that an argument of this name stands for."""
    names = gk.datasets.corpora.names()
    if corpus in names:
        return gk.datasets.corpora.load(corpus)
    if not pathlib.Path(corpus).exists():
        raise ValueError(
            f"`corpus` must be {', '.join(names)} or the path of a file or a directory, "
            f"got {corpus!r}, which does not exist."
        )
    return list_documents(pathlib.Path(corpus))


def beginning(documents: list[str | pathlib.Path]) -> str:
    """Returns the first document, or of a long file its first megabyte."""
    first = documents[0]
    return first if isinstance(first, str) else next(read_text(first), "")


def check_output(directory: str) -> None:
    """Raises what writing to `directory` would raise after all the work."""
    check_empty_directory(directory)
    check_writable(directory)


def check_writable(path: str) -> None:
    """Raises what making a file or directory of this path would raise."""
    parents = pathlib.Path(path).absolute().parents
    with tempfile.TemporaryDirectory(dir=next(parent for parent in parents if parent.exists())):
        pass


def describe_size(num_bytes: int) -> str:
    """Returns a number of bytes in KiB, MiB or GiB."""
    power = min(max((num_bytes.bit_length() - 1) // 10, 1), 3)
    return f"{num_bytes / 1024**power:,.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def print_written(path: str | pathlib.Path) -> None:
    """Prints a line for a file, or for each file below a directory."""
    path = pathlib.Path(path)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            print(f"wrote {file} ({describe_size(file.stat().st_size)})")
