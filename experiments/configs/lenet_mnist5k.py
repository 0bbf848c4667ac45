"""LeNet-300-100 on 5,000 MNIST digits (Frankle & Carbin, 2019): the default.

Command    python experiments/imp.py (or `make demo`)
Hardware   2 CPU cores, 1 GiB of memory, 160 MiB of disk
Time       5 minutes of CPU time, 3 minutes by the clock when nothing else runs
Expected   test accuracy in %, ± 95 % interval over 4 replicates (seed 0); dense 95.0 ± 0.7
             weights kept      ticket         random reinit   random ticket
             10.7 %            94.2 ± 0.6     93.1 ± 0.8      92.4 ± 1.1
              2.25 %           93.9 ± 0.7     91.6 ± 0.8      89.9 ± 0.5
           Other processors round otherwise: single runs differ, means stay within their intervals.

Variants   --scope layer                         the paper's rates: 20 % a level, the output layer 10 %
           --rewind-step 100                     late rewinding
           --rewind everything --rewind-step 100   and the optimizer's state with it
           --rewind learning-rate --decay cosine   Renda et al. (2020); compare with --rewind fine-tune
"""

from experiments._config import Config

CONFIG = Config()
