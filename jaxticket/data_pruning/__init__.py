"""Training on fewer examples: what a training shows of each, which to keep, and batches of those alone.

Scores are (examples,) arrays, higher = harder; a subset is a (examples,) mask.
"""

from jaxticket.data_pruning.example_scores import cross_entropy as cross_entropy
from jaxticket.data_pruning.example_scores import el2n as el2n
from jaxticket.data_pruning.example_scores import entropy as entropy
from jaxticket.data_pruning.example_scores import grand as grand
from jaxticket.data_pruning.example_scores import grand_last_layer as grand_last_layer
from jaxticket.data_pruning.example_scores import margin as margin
from jaxticket.data_pruning.fit import Batch as Batch
from jaxticket.data_pruning.fit import SubsetFit as SubsetFit
from jaxticket.data_pruning.fit import epoch_rows as epoch_rows
from jaxticket.data_pruning.fit import mean as mean
from jaxticket.data_pruning.fit import observer as observer
from jaxticket.data_pruning.fit import subset_fit as subset_fit
from jaxticket.data_pruning.statistics import NEVER_LEARNED as NEVER_LEARNED
from jaxticket.data_pruning.statistics import Statistics as Statistics
from jaxticket.data_pruning.statistics import Tracked as Tracked
from jaxticket.data_pruning.statistics import forgetting as forgetting
from jaxticket.data_pruning.statistics import init as init
from jaxticket.data_pruning.statistics import means as means
from jaxticket.data_pruning.statistics import statistics_of as statistics_of
from jaxticket.data_pruning.statistics import update as update
from jaxticket.data_pruning.subsets import easiest as easiest
from jaxticket.data_pruning.subsets import hardest as hardest
from jaxticket.data_pruning.subsets import load_subset as load_subset
from jaxticket.data_pruning.subsets import middle as middle
from jaxticket.data_pruning.subsets import random_subset as random_subset
from jaxticket.data_pruning.subsets import save_subset as save_subset
