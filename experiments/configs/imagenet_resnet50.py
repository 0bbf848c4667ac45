"""ResNet-50 on ImageNet (He et al., 2016), 90 epochs, by the recipe that papers on sparse training share.

Command    python experiments/imagenet.py --preset resnet50 --method rigl --density 0.2 --data-dir DIR
           Needs imagenet2012 prepared by tfds in DIR, or the folders DIR/train/CLASS and DIR/val/CLASS.
Hardware   8 accelerators of 16 GiB or more, or a pod slice; docs/imagenet.md counts bytes and FLOPs
Time       not measured here
Expected   not measured here. In the papers (100 epochs, batch 4,096): dense 76.8 ± 0.1 %; at density 0.2 RigL with ERK
           75.1 ± 0.05, gradual pruning 75.6 (Evci et al., 2020)
Recipe     SGD, momentum 0.9, learning rate 0.4 a batch of 1,024 after 5 epochs of warm-up, cosine to 0; weight decay
           1e-4 of kernels; label smoothing 0.1; random resized crops and flips; bfloat16 with float32 weights
"""

from experiments.studies.imagenet.config import Config

CONFIG = Config()
