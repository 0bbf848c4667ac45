"""LeNet-300-100 on 5,000 MNIST digits (Frankle & Carbin, 2019): the default.

Command    python experiments/imp.py (or `make demo`)
Hardware   2 CPU cores, 1 GiB of memory, 160 MiB of disk
Time       4 minutes of CPU time, 2½ minutes by the clock when nothing else runs
Expected   test accuracy in %, ± 95 % interval over 4 replicates (seed 0); dense 94.9 ± 0.5
             weights kept      ticket         random reinit   random ticket
             10.7 %            94.5 ± 0.6     93.2 ± 0.6      92.3 ± 0.5
              2.25 %           93.7 ± 1.1     91.5 ± 1.0      89.5 ± 0.6
           Other processors round otherwise: single runs differ, means stay within their intervals.

Variants   --scope layer                         the paper's rates: 20 % a level, the output layer 10 %
           --rewind-step 100                     late rewinding
           --rewind everything --rewind-step 100   and the optimizer's state with it
           --rewind learning-rate --decay cosine   Renda et al. (2020); compare with --rewind fine-tune
"""

from experiments.studies.imp.config import Config

CONFIG = Config()
