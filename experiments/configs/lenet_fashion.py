"""LeNet-300-100 on the 70,000 images of Fashion-MNIST (Xiao et al., 2017), as Frankle & Carbin (2019) on MNIST.

Command    python experiments/imp.py --preset lenet_fashion --replicates 3
           Needs the Debian package dataset-fashion-mnist, its four files in --data-dir, or tfds.
Hardware   2 CPU cores, 2 GiB of memory, 150 MiB of disk
"""

from experiments._config import Config

CONFIG = Config(data="fashion_mnist", validation=5000, replicates=3, levels=12, epochs=12, rewind_step=0)
