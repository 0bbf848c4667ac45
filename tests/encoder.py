"""A small encoder in the place of all-MiniLM-L6-v2: it needs neither weights nor a tokenizer."""

import zlib

import numpy as np

from jaxticket import models


class Small(models.Pretrained):
    """Words are tokens by a hash of 19 values; sentences have eight at most."""

    def tokens(self, sentences):
        ids = [[1 + zlib.crc32(word.encode()) % 19 for word in s.split()][:8] for s in sentences]
        return np.array([row + [0] * (8 - len(row)) for row in ids], np.int32)
