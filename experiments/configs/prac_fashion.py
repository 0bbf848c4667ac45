"""LeNet-300-100 on the 70,000 images of Fashion-MNIST, for tickets found on few examples (Zhang et al., 2021).

Command    python experiments/prac.py
           Needs the Debian package dataset-fashion-mnist, its four files in --data-dir, or tfds.
Hardware   2 CPU cores, 2 GiB of memory, 300 MiB of disk
"""

from experiments._config import Config

CONFIG = Config(data="fashion_mnist", validation=5000, epochs=20, batch_size=128, decay="cosine")
