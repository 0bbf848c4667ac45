"""VGG-16 with batch normalisation on CIFAR-10 with late rewinding (Frankle et al., 2020).

Command    python experiments/imp.py --preset vgg16_cifar
           Needs CIFAR-10 prepared by tfds, or the file cifar10_jpeg.npz in --data-dir. A smoke test on CPU:
           python experiments/imp.py --preset vgg16_cifar --levels 2 --epochs 1 --limit 2000 --replicates 1
Hardware   one GPU
Time       not measured on a GPU yet; the smoke test takes 15 minutes on 2 CPU cores
Expected   not measured here yet; the paper's dense network has 93.7 ± 0.1 %
Recipe     that of resnet20_cifar, rewound to step 1,000
"""

import dataclasses

from experiments.configs import resnet20_cifar

CONFIG = dataclasses.replace(resnet20_cifar.CONFIG, model="vgg_16_bn", rewind_fraction=0.016)
