"""ViT-S/16, the network of DeiT-S (Touvron et al., 2021), on ImageNet, 300 epochs.

Command    python experiments/imagenet.py --preset vit_small --method gradual --density 0.5 --data-dir DIR
           Needs imagenet2012 prepared by tfds in DIR, or the folders DIR/train/CLASS and DIR/val/CLASS.
Hardware   8 accelerators of 16 GiB or more, or a pod slice; docs/imagenet.md counts bytes and FLOPs
Time       not measured here
Expected   not measured here. DeiT-S has 79.8 % with augmentations that this recipe leaves out (RandAugment, Mixup,
           CutMix, erasing, stochastic depth), without which it is several points lower
Recipe     AdamW, learning rate 1e-3 a batch of 1,024 after 5 epochs of warm-up, cosine to 0; weight decay 0.05 of
           kernels; label smoothing 0.1; an average of the weights (decay 0.9999) is evaluated; random resized crops and
           flips; bfloat16 with float32 weights
"""

import dataclasses

from experiments.configs import imagenet_resnet50

CONFIG = dataclasses.replace(
    imagenet_resnet50.CONFIG,
    model="vit_small",
    method="gradual",
    density=0.5,
    epochs=300,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    ema=0.9999,
)
