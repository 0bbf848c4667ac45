"""Models as pure functions on plain nested dicts, built with flax NNX: the only place that imports flax."""

from jaxticket.models._bert import bert, sentence_embeddings
from jaxticket.models._checkpoint import Checkpoint, read_checkpoint
from jaxticket.models._checkpoint_new import new_checkpoint
from jaxticket.models._checkpoint_write import write_checkpoint
from jaxticket.models._conv import conv_2, conv_4, conv_6
from jaxticket.models._decoder import decoder
from jaxticket.models._efficientnet_lite import efficientnet_lite0, load_efficientnet_lite0
from jaxticket.models._gpt import gpt
from jaxticket.models._lenet import lenet_300_100
from jaxticket.models._lstm import lstm
from jaxticket.models._model import Model
from jaxticket.models._pretrained import Pretrained, minilm
from jaxticket.models._recurrent import RecurrentCell, recurrent
from jaxticket.models._residual_mlp import residual_mlp
from jaxticket.models._resnet import resnet_18, resnet_20, resnet_32, resnet_50, resnet_56, slim_resnet
from jaxticket.models._rotary import Rotary
from jaxticket.models._slak import merge_kernels, slak
from jaxticket.models._supernet import supernet
from jaxticket.models._vgg import vgg_16_bn
from jaxticket.models._vit import vit_small, vit_tiny
from jaxticket.models._wide_resnet import wide_resnet
from jaxticket.typing import Stages

__all__ = [
    "Checkpoint",
    "Model",
    "Pretrained",
    "RecurrentCell",
    "Rotary",
    "Stages",
    "bert",
    "conv_2",
    "conv_4",
    "conv_6",
    "decoder",
    "efficientnet_lite0",
    "gpt",
    "lenet_300_100",
    "load_efficientnet_lite0",
    "lstm",
    "merge_kernels",
    "minilm",
    "new_checkpoint",
    "read_checkpoint",
    "recurrent",
    "residual_mlp",
    "resnet_18",
    "resnet_20",
    "resnet_32",
    "resnet_50",
    "resnet_56",
    "sentence_embeddings",
    "slak",
    "slim_resnet",
    "supernet",
    "vgg_16_bn",
    "vit_small",
    "vit_tiny",
    "wide_resnet",
    "write_checkpoint",
]
