"""Reading and writing of files for the commands."""

import pathlib
import sys
import tempfile

from .package import gk


def read_corpus(corpus: str, field: str) -> list[str] | list[pathlib.Path]:
    """Return the texts or files of a bundled corpus or a path.

    The function checks that there is a first document. Later ones may be broken.
    """
    names = gk.datasets.corpora.names()
    if corpus in names:
        return gk.datasets.corpora.load(corpus)
    if not pathlib.Path(corpus).exists():
        raise ValueError(
            f"`corpus` must be {', '.join(names)} or the path of a file or a directory, "
            f"got {corpus!r}, which does not exist."
        )
    from gpt_keras.corpus import iterate_documents, list_files

    files = list_files(pathlib.Path(corpus))
    next(iterate_documents(files, field))
    return files


def beginning(corpus: list[str] | list[pathlib.Path], field: str) -> str:
    """Return the text of the first document; of a long file, only its first part."""
    from gpt_keras.corpus import iterate_documents

    return next(next(iterate_documents(corpus, field)).pieces(), "")


def check_output(directory: str) -> None:
    """Check that a directory is new or empty, and writable, before any long work."""
    from gpt_keras.atomic import check_empty_directory

    check_empty_directory(directory)
    check_writable(directory)


def check_writable(path: str) -> None:
    """Raise an `OSError` if no file or directory can be created at this path."""
    parents = pathlib.Path(path).absolute().parents
    with tempfile.TemporaryDirectory(dir=next(parent for parent in parents if parent.exists())):
        pass


def read_prompts(path: str) -> list[str]:
    """Return the non-blank lines of a UTF-8 file; "-" is standard input."""
    from gpt_keras.corpus import read_text

    if path == "-":
        text = read_input()
    elif pathlib.Path(path).is_file():
        text = "".join(read_text(pathlib.Path(path)))
    else:
        raise ValueError(
            f"`prompts_file` must be a file, or - for standard input, got {path!r}, "
            "which is not a file."
        )
    # `read_text` has already converted the line ends of a file; standard input still has its own.
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def read_input() -> str:
    """Return the text of standard input, with its line ends unchanged."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input must be UTF-8 text, but {error}.") from error


def describe_size(num_bytes: int) -> str:
    """Return a number of bytes as text in KiB, MiB or GiB."""
    power = min(max((num_bytes.bit_length() - 1) // 10, 1), 3)
    return f"{num_bytes / 1024**power:,.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


def print_written(path: str | pathlib.Path, *folders: str) -> None:
    """Print the path and size of a file, or of each file in a directory.

    Args:
        path: The file or directory.
        *folders: Names of folders in the directory whose size is printed, without their files.
    """
    path = pathlib.Path(path)
    sizes = {}
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            first = file.relative_to(path).parts[:1]
            shown = path / first[0] if first and first[0] in folders else file
            sizes[shown] = sizes.get(shown, 0) + file.stat().st_size
    for shown, size in sizes.items():
        print(f"wrote {shown} ({describe_size(size)})")
