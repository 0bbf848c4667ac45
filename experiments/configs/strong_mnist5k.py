"""Strong tickets of LeNet-300-100 and of a sixth of its width, on 5,000 MNIST digits.

Command    python experiments/strong_tickets.py
Hardware   2 CPU cores
Time       6 minutes of CPU time; 10 minutes by the clock where other work shares the cores
Expected   test accuracy in %, ± 95 % interval over 3 seeds (seed 0), by the weights kept
                                     width 16                      width 100
             weights kept            50 %          20 %            50 %          20 %
             dense, trained          92.2 ± 1.9                    95.4 ± 1.6
             random, trained         93.5 ± 1.2    91.1 ± 2.6      95.3 ± 1.7    93.5 ± 0.1
             edge-popup              90.2 ± 2.0    85.7 ± 2.1      93.2 ± 1.0    92.3 ± 0.8
             with recycling          91.6 ± 1.3    88.6 ± 2.4      93.8 ± 0.4    92.8 ± 0.5
             with IteRand            91.0 ± 2.4    86.8 ± 5.9      93.5 ± 0.6    92.5 ± 0.8
             Biprop                  88.7 ± 1.9    87.0 ± 0.7      92.8 ± 0.8    91.7 ± 0.4
           A signed supermask that begins with 20 % ends with 8.6 % (88.3 ± 4.2) and with 2.8 % (90.0 ± 1.2).
           Other processors round otherwise: single runs differ, means stay within their intervals.
Recipe     as edge-popup trains scores (Ramanujan et al., 2020): SGD, learning rate 0.1 with a cosine, momentum 0.9,
           weight decay 5e-4, batches of 64, 30 epochs; the references train their weights by the same. Signed
           supermasks have their authors' optimizer, at ten times its learning rate
"""

from experiments.studies.strong.search import Config

CONFIG = Config()
