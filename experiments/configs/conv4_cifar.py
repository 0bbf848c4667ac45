"""Conv-4 on CIFAR-10 (Frankle & Carbin, 2019), all layers pruned together instead of each at a rate of its own.

Command    python experiments/imp.py --preset conv4_cifar
           Needs CIFAR-10 prepared by tfds, or the file cifar10_jpeg.npz in --data-dir.
Hardware   one GPU
Time       not measured on a GPU yet
Expected   not measured here yet; in the paper winning tickets beat the dense network
Recipe     Adam, learning rate 3e-4, batch 60, 25,000 iterations, no augmentation, rewound to the initialisation
"""

from experiments.studies.imp.config import Config

CONFIG = Config(model="conv_4", data="cifar10", levels=16, replicates=3, epochs=33, learning_rate=3e-4, validation=5000)
