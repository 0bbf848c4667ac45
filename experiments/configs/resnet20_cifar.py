"""ResNet-20 on CIFAR-10 with late rewinding (Frankle et al., "Linear Mode Connectivity and the Lottery Ticket", 2020).

Command    python experiments/imp.py --preset resnet20_cifar
           Needs CIFAR-10 prepared by tfds, or the file cifar10_jpeg.npz in --data-dir. A smoke test on CPU:
           python experiments/imp.py --preset resnet20_cifar --levels 2 --epochs 1 --limit 2000 --replicates 1
Hardware   one GPU; 2 CPU cores train one epoch in some minutes
Time       not measured on a GPU yet; the smoke test takes 3 minutes on 2 CPU cores
Expected   not measured here yet; the paper's dense network has 91.7 ± 0.1 %
Recipe     SGD, momentum 0.9, learning rate 0.1, a tenth of it after 1/2 and 3/4 of 160 epochs, batch 128, weight decay
           1e-4, crops and flips; 20 % of the weights a level, all layers together; rewound to step 2,000 of 62,560
"""

from experiments.studies.imp.config import Config

CONFIG = Config(
    model="resnet_20",
    data="cifar10",
    augment="crop-and-flip",
    levels=16,
    replicates=3,
    epochs=160,
    batch_size=128,
    optimizer="sgd",
    weight_decay=1e-4,
    learning_rate=0.1,
    decay="steps",
    rewind_fraction=0.032,
    validation=5000,
)
