"""Data pruning on the 70,000 images of Fashion-MNIST (Xiao et al., 2017), with LeNet-300-100."""

from experiments._config import Training

CONFIG = Training(data="fashion_mnist", validation=5000, epochs=6, batch_size=128, decay="cosine")
