"""Models as pure functions on plain nested dicts, built with flax NNX: the only place that imports flax."""

from jaxticket.models._model import Model as Model
from jaxticket.models.bert import bert as bert
from jaxticket.models.bert import sentence_embeddings as sentence_embeddings
from jaxticket.models.conv import conv_2 as conv_2
from jaxticket.models.conv import conv_4 as conv_4
from jaxticket.models.conv import conv_6 as conv_6
from jaxticket.models.gpt import gpt as gpt
from jaxticket.models.lenet import lenet_300_100 as lenet_300_100
from jaxticket.models.lstm import lstm as lstm
from jaxticket.models.pretrained import Pretrained as Pretrained
from jaxticket.models.pretrained import minilm as minilm
from jaxticket.models.resnet import resnet_18 as resnet_18
from jaxticket.models.resnet import resnet_20 as resnet_20
from jaxticket.models.resnet import resnet_32 as resnet_32
from jaxticket.models.resnet import resnet_50 as resnet_50
from jaxticket.models.resnet import resnet_56 as resnet_56
from jaxticket.models.vgg import vgg_16_bn as vgg_16_bn
from jaxticket.models.vit import vit_small as vit_small
from jaxticket.models.vit import vit_tiny as vit_tiny
from jaxticket.models.wide_resnet import wide_resnet as wide_resnet
