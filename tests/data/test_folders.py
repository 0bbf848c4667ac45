"""Folders of images as a random-access source."""

import numpy as np
import pytest
from PIL import Image

from jaxticket.data import ImageFolder, stream
from jaxticket.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name, grey, size in (
        ("cat", 10, (4, 6)),
        ("cat", 20, (5, 5)),
        ("ant", 30, (3, 2)),
        ("eel", 40, (1, 1)),
        ("bee", 50, (1, 2)),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("L", size, grey).save(tmp_path / name / f"{grey}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_classes_sizes_and_pixels(folder):
    source = ImageFolder(folder)
    assert source.classes == ["ant", "bee", "cat", "eel"]
    examples = [source[row] for row in range(len(source))]
    assert [e["label"] for e in examples] == [0, 1, 2, 2, 3]
    assert [e["image"].shape for e in examples] == [(2, 3, 3), (2, 1, 3), (6, 4, 3), (5, 5, 3), (1, 1, 3)]
    assert [e["image"].max() for e in examples] == [30, 50, 10, 20, 40]
    assert examples[0]["image"].dtype == np.uint8


def test_a_stream_brings_images_to_one_size(folder):
    pytest.importorskip("grain")

    def resize(example, rng):
        image = Image.fromarray(example["image"]).resize((8, 8))
        return {**example, "image": np.asarray(image)[:, :: rng.choice([-1, 1])]}

    batch = next(stream(ImageFolder(folder), batch_size=5, seed=0, transform=resize))
    assert batch["image"].shape == (5, 8, 8, 3)
    grey = {0: {30}, 1: {50}, 2: {10, 20}, 3: {40}}
    for image, label in zip(batch["image"], batch["label"], strict=True):
        assert set(np.unique(image)) <= grey[int(label)]


def test_a_folder_without_images(tmp_path):
    with pytest.raises(InputError, match=r"holds no images"):
        ImageFolder(tmp_path)
