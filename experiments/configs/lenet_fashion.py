"""LeNet-300-100 on the 70,000 images of Fashion-MNIST (Xiao et al., 2017), as Frankle & Carbin (2019) on MNIST.

Command    python experiments/imp.py --preset lenet_fashion --replicates 3
           Needs the Debian package dataset-fashion-mnist, its four files in --data-dir, or tfds.
Hardware   2 CPU cores, 3 GiB of memory, 300 MiB of disk
Time       20 minutes by the clock, with other work on the machine
Expected   test accuracy in %, ± 95 % interval over 3 replicates (seed 0); dense 88.3 ± 0.9
             weights kept      ticket         random reinit   random ticket
             16.8 %            88.9 ± 0.4     88.5 ± 0.5      88.1 ± 0.6
             13.4 %            89.1 ± 0.5     88.5 ± 0.7      88.5 ± 0.2
              8.6 %            89.1 ± 0.8     88.2 ± 0.2      88.1 ± 0.1
"""

from experiments.studies.imp.config import Config

CONFIG = Config(data="fashion_mnist", validation=5000, replicates=3, levels=12, epochs=12)
