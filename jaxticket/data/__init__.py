"""Data sets as arrays on the device, split once into train, validation and test."""

from jaxticket.data._dataset import Dataset as Dataset
from jaxticket.data._dataset import Split as Split
from jaxticket.data._dataset import stratified as stratified
from jaxticket.data.mnist import mnist5k as mnist5k
