"""Data sets as arrays on the device, split once into train, validation and test; streams of those too large for it."""

from jaxticket.data import augment, crops
from jaxticket.data._cifar import cifar10, cifar100, read_jpegs
from jaxticket.data._dataset import Dataset, Split, carve_validation, limit, stratified
from jaxticket.data._fashion import fashion_mnist
from jaxticket.data._folders import ImageFolder
from jaxticket.data._mnist import mnist5k
from jaxticket.data._news import TextDataset, Texts, newsgroups, reuters_r8
from jaxticket.data._reber import is_reber, reber
from jaxticket.data._streaming import Part, one_pass, stream
from jaxticket.data._tfds import prepare, tfds_source

__all__ = [
    "Dataset",
    "ImageFolder",
    "Part",
    "Split",
    "TextDataset",
    "Texts",
    "augment",
    "carve_validation",
    "cifar10",
    "cifar100",
    "crops",
    "fashion_mnist",
    "is_reber",
    "limit",
    "mnist5k",
    "newsgroups",
    "one_pass",
    "prepare",
    "read_jpegs",
    "reber",
    "reuters_r8",
    "stratified",
    "stream",
    "tfds_source",
]
