"""Data pruning on the 70,000 images of Fashion-MNIST (Xiao et al., 2017), with LeNet-300-100.

Command    python experiments/data_pruning.py --preset data_pruning_fashion
             --scores el2n,grand,forgetting,margin,prototypes,random --fractions 0.1,0.3,0.5,0.8 --seeds 3
           --sizes 20000 takes 20,000 of the training examples, --sizes 20000,5000 also shows where the turn moves.
           Needs the Debian package dataset-fashion-mnist, its four files in --data-dir, or tfds.
Hardware   2 CPU cores, 2 GiB of memory
Time       20 minutes by the clock with other work on the machine, 12 of CPU time; with --sizes 20000 7 of CPU time
Expected   with --sizes 20000, test accuracy in %, ± 95 % interval over 3 seeds (seed 0); all data 87.1 ± 0.3
             examples kept          10 %           30 %           50 %           80 %
             random                 82.5 ± 0.4     85.1 ± 0.6     86.2 ± 0.2     86.8 ± 0.2
             EL2N, hard first       19.3 ± 1.6     68.1 ± 5.1     87.2 ± 0.3     87.2 ± 0.2
             EL2N, easy first       41.8 ± 0.1     69.7 ± 0.3     79.8 ± 0.6     84.2 ± 0.2
             forgetting, hard       16.8 ± 0.8     85.7 ± 0.3     86.8 ± 0.9     87.0 ± 0.5
             forgetting, easy       82.9 ± 0.1     84.5 ± 0.2     85.1 ± 0.4     85.7 ± 0.2
             prototypes, hard       62.8 ± 4.1     82.8 ± 0.9     85.3 ± 0.5     86.9 ± 0.2
             prototypes, easy       67.1 ± 1.3     80.4 ± 1.2     84.3 ± 0.6     86.2 ± 0.4
           With all 55,000: random 85.0 ± 1.2, 87.4 ± 0.1, 88.2 ± 0.3, 88.8 ± 0.5; the hardest half by EL2N is better
           than all examples by 0.6 ± 0.2 points, the hardest 80 % than a random 80 % by 0.2 ± 0.3 (undecided).
           By EL2N hard first overtakes easy first at 34 % of 20,000 examples, and at 40 % of 5,000.
           Other processors round otherwise: single runs differ, means stay within their intervals.

Variants   --label-noise 0.2 --sizes 20000 --fractions 0.5 --orders hard,middle --distil random
               average precision at finding the wrong labels (chance 0.20): EL2N 0.95, margin 0.94, GraNd 0.85,
               forgetting 0.84, prototypes, which see no labels, 0.20; half of the data by EL2N: the hardest 45.6 ± 0.3,
               without the hardest tenth 85.9 ± 0.2; at random 85.1 ± 0.8, with a teacher 85.7 ± 0.7
           --distil el2n,random --sizes 20000
               a tenth of the data with a teacher: random 85.5 ± 0.2, the hardest by EL2N 83.5 ± 0.6, the easiest
               44.5 ± 0.9, which lack whole classes; half of them: 86.7 ± 0.3, 87.2 ± 0.4, 83.6 ± 0.6
           --scores el2n,memorisation,random --memorisation-models 36 --memorisation-epochs 30 --sizes 5000
             --label-noise 0.2 --fractions 0.5
               4.5 minutes of CPU time; average precision at finding the wrong labels, of one estimate and of the mean
               of three: memorisation 0.69 ± 0.03 and 0.75, EL2N 0.88 ± 0.07 and 0.94; the hardest half by memorisation
               73.3 ± 3.5, the easiest 81.0 ± 0.2, at random 81.2 ± 1.3
           --balance 0.5       every class keeps half its share: of the easiest tenth by EL2N one class is 63 %
"""

from experiments.runs.config import Training

CONFIG = Training(data="fashion_mnist", validation=5000, epochs=6, batch_size=128, decay="cosine")
