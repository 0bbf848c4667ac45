"""The networks of jaxticket.models in PyTorch: the same layers, as wide as the arrays that they are built from.

`build(kind, arrays)` takes arrays by PyTorch's names, as `_torch_weights.to_torch` makes them from a tree of jaxticket.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

EPSILON = {"efficientnet": 1e-3, "vit": 1e-6}  # of the norms; 1e-5 elsewhere


def build(kind: str, arrays: dict[str, np.ndarray]) -> nn.Module:
    """Return the network of that kind in evaluation mode, with these arrays."""
    network = NETWORKS[kind](layers(arrays, EPSILON.get(kind, 1e-5)))
    network.load_state_dict({f"layers.{name}": torch.tensor(x) for name, x in arrays.items()}, strict=False)
    return network.eval()


def layers(arrays: dict[str, np.ndarray], epsilon: float) -> nn.Module:
    """Return nested layers; their kinds are read from the names and shapes of the arrays."""
    if any("." not in name for name in arrays):
        return layer({name: x.shape for name, x in arrays.items()}, epsilon)
    inner: dict[str, dict[str, np.ndarray]] = {}
    for name, x in arrays.items():
        first, _, rest = name.partition(".")
        inner.setdefault(first, {})[rest] = x
    by_number = sorted(inner, key=lambda name: int("".join(filter(str.isdigit, name)) or 0))
    return nn.ModuleDict({name: layers(inner[name], epsilon) for name in by_number})


def layer(shapes: dict[str, tuple[int, ...]], epsilon: float) -> nn.Module:
    """Return a layer with arrays of these shapes. Convolutions pad by half a kernel and do not stride."""
    if "embedding" in shapes:
        return Embedding(shapes["embedding"])
    shape, bias = shapes["weight"], "bias" in shapes
    if "running_mean" in shapes:
        return nn.BatchNorm2d(shape[0], eps=epsilon)
    if len(shape) == 1:
        return nn.LayerNorm(shape[0], eps=epsilon)
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], bias=bias)
    outputs, inputs, size, _ = shape
    if inputs == 1 and size > 1:  # depthwise: no network here convolves images of one channel
        return nn.Conv2d(outputs, outputs, size, padding=size // 2, groups=outputs, bias=bias)
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


class Embedding(nn.Module):
    """Rows of numbers that are added, as a parameter of its own."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(shape))


class LeNet(nn.Module):
    """Two hidden layers."""

    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        x = torch.relu(self.layers["hidden1"](x))
        return self.layers["output"](torch.relu(self.layers["hidden2"](x)))


class VGG(nn.Module):
    """Convolutions with batch norm, four max-pools, and one linear layer."""

    POOLED = ("layer3", "layer5", "layer8", "layer11")  # a pool lies before them

    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        for name in (name for name in self.layers if name != "output"):
            x = F.max_pool2d(x, 2) if name in self.POOLED else x
            x = torch.relu(conv_norm(self.layers[name], x))
        return self.layers["output"](x.mean((2, 3)))


class ResNet(nn.Module):
    """Residual blocks of two or three convolutions, with batch norm after each."""

    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers
        self.large = layers["stem"]["conv"].kernel_size == (7, 7)
        if self.large:
            layers["stem"]["conv"].stride = (2, 2)
        for stage in stages(layers)[1:]:
            first = stage["block1"]
            for name in ("layer2" if "layer3" in first else "layer1", "shortcut"):
                first[name]["conv"].stride = (2, 2)

    def forward(self, x):
        x = torch.relu(conv_norm(self.layers["stem"], x))
        x = F.max_pool2d(x, 3, 2, 1) if self.large else x
        for stage in stages(self.layers):
            for block in stage.values():
                x = self.block(block, x)
        return self.layers["output"](x.mean((2, 3)))

    @staticmethod
    def block(block, x):
        shortcut = conv_norm(block["shortcut"], x) if "shortcut" in block else x
        first, *others = (name for name in sorted(block) if name != "shortcut")
        x = conv_norm(block[first], x)
        for name in others:
            x = conv_norm(block[name], torch.relu(x))
        return torch.relu(x + shortcut)


class WideResNet(nn.Module):
    """Residual blocks of two convolutions, with batch norm and ReLU before each."""

    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers
        for stage in stages(layers)[1:]:
            for name in ("layer1", "shortcut"):
                stage["block1"][name]["conv"].stride = (2, 2)

    def forward(self, x):
        x = self.layers["stem"]["conv"](x)
        for stage in stages(self.layers):
            for block in stage.values():
                y = torch.relu(block["layer1"]["norm"](x))
                shortcut = block["shortcut"]["conv"](y) if "shortcut" in block else x
                y = torch.relu(block["layer2"]["norm"](block["layer1"]["conv"](y)))
                x = block["layer2"]["conv"](y) + shortcut
        return self.layers["output"](torch.relu(self.layers["norm"](x)).mean((2, 3)))


class EfficientNetLite(nn.Module):
    """Inverted residuals with ReLU6, padded as TensorFlow pads where they stride."""

    STRIDED = ("stage2", "stage3", "stage4", "stage6")

    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers
        for strided in [layers["stem"], *(layers[name]["block1"]["depthwise"] for name in self.STRIDED)]:
            strided["conv"].stride, strided["conv"].padding = (2, 2), (0, 0)

    def forward(self, x):
        x = F.relu6(self.padded(self.layers["stem"], x))
        for stage in stages(self.layers):
            for name, block in stage.items():
                y = F.relu6(conv_norm(block["expand"], x)) if "expand" in block else x
                y = conv_norm(block["project"], F.relu6(self.padded(block["depthwise"], y)))
                x = y if name == "block1" else x + y
        return self.layers["output"](F.relu6(conv_norm(self.layers["head"], x)).mean((2, 3)))

    @staticmethod
    def padded(module, x):
        conv = module["conv"]
        if conv.stride == (2, 2):
            whole = conv.kernel_size[0] - 2  # of images with an even number of pixels
            x = F.pad(x, (whole // 2, whole - whole // 2) * 2)
        return conv_norm(module, x)


class ViT(nn.Module):
    """Pre-norm blocks on patches and a class token, with heads of 64 channels."""

    HEAD = 64

    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers
        size = layers["patch"].kernel_size
        layers["patch"].stride, layers["patch"].padding = size, (0, 0)

    def forward(self, x):
        x = self.layers["patch"](x).flatten(2).transpose(1, 2)
        token = self.layers["token"].embedding[None].expand(len(x), 1, -1)
        x = torch.cat([token, x], 1) + self.layers["position"].embedding[None]
        for block in self.layers["blocks"].values():
            x = x + self.attention(block["attention"], block["norm1"](x))
            x = x + block["mlp"]["output"](F.gelu(block["mlp"]["hidden"](block["norm2"](x))))
        return self.layers["output"](self.layers["norm"](x[:, 0]))

    def attention(self, module, x):
        query, key, value = (
            y.reshape(*y.shape[:2], -1, self.HEAD).transpose(1, 2)
            for y in (module[name](x) for name in ("query", "key", "value"))
        )
        weights = torch.softmax(self.HEAD**-0.5 * query @ key.transpose(2, 3), -1)
        return module["out"]((weights @ value).transpose(1, 2).flatten(2))


def stages(layers: nn.ModuleDict) -> list[nn.ModuleDict]:
    return [module for name, module in layers.items() if name.startswith("stage")]


def conv_norm(module: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return module["norm"](module["conv"](x))


NETWORKS = {
    "lenet": LeNet,
    "vgg": VGG,
    "resnet": ResNet,
    "wide_resnet": WideResNet,
    "efficientnet": EfficientNetLite,
    "vit": ViT,
}
