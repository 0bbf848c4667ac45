"""The presets of experiments, a file each: a configuration, and its expected results in words."""

from experiments.configs import conv4_cifar, lenet_fashion, lenet_mnist5k, resnet20_cifar, vgg16_cifar

# Those of a search for winning tickets, which other experiments start from too.
PRESETS = {
    module.__name__.rpartition(".")[2]: module
    for module in (lenet_mnist5k, lenet_fashion, conv4_cifar, resnet20_cifar, vgg16_cifar)
}
# Without a schedule or a warm-up of their own.
CONSTANT = {
    name: preset for name, preset in PRESETS.items() if (preset.CONFIG.decay, preset.CONFIG.warmup) == ("constant", 0)
}
