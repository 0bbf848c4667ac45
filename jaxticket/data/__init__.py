"""Data sets as arrays on the device, split once into train, validation and test; streams of those too large for it."""

from jaxticket.data import augment as augment
from jaxticket.data import crops as crops
from jaxticket.data._dataset import Dataset as Dataset
from jaxticket.data._dataset import Split as Split
from jaxticket.data._dataset import carve_validation as carve_validation
from jaxticket.data._dataset import limit as limit
from jaxticket.data._dataset import stratified as stratified
from jaxticket.data._tfds import prepare as prepare
from jaxticket.data._tfds import tfds_source as tfds_source
from jaxticket.data.cifar import cifar10 as cifar10
from jaxticket.data.cifar import cifar100 as cifar100
from jaxticket.data.fashion import fashion_mnist as fashion_mnist
from jaxticket.data.folders import ImageFolder as ImageFolder
from jaxticket.data.mnist import mnist5k as mnist5k
from jaxticket.data.streaming import Part as Part
from jaxticket.data.streaming import one_pass as one_pass
from jaxticket.data.streaming import stream as stream
