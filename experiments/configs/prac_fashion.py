"""LeNet-300-100 on the 70,000 images of Fashion-MNIST, for tickets found on few examples (Zhang et al., 2021).

Command    python experiments/prac.py
           Needs the Debian package dataset-fashion-mnist, its four files in --data-dir, or tfds.
Hardware   2 CPU cores, 2 GiB of memory, 300 MiB of disk
Time       25 minutes by the clock, with other work on the machine
Expected   tickets with 2.8 % of the weights, trained on all examples: test accuracy in %, ± 95 % interval over 3 seeds
           (seed 0); dense 89.9 ± 0.5
             all examples (iterative pruning)     88.7 ± 0.3
             PrAC sets                            88.3 ± 0.3    85.5 ± 0.4 % of the iterations saved
             random sets of their sizes           87.7 ± 0.5    as many saved
             their hard examples alone            88.1 ± 0.5    as many saved
             the PrAC ticket in random places     86.5 ± 0.7
           PrAC sets of CIFAR-10 hold 35 to 78 % of the examples. Those of this easier data would hold 11 to 18 %, and
           the floor of 35 % (--minimum) decides: with a floor of 20 % the ticket was worse than one of random sets
           (87.3 against 87.9; without the cosine 87.6 against 88.3; one seed each).
"""

from experiments.studies.imp.config import Config

CONFIG = Config(data="fashion_mnist", validation=5000, epochs=20, batch_size=128, decay="cosine")
