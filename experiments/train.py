"""One method on one network: sparse training with live progress, and the trained tickets.

    python experiments/train.py --method rigl --density 0.1
    python experiments/train.py --method synflow --density 0.02 --epochs 30
    python experiments/train.py --method granet --preset resnet20_cifar    data and recipe of a file in configs/
    python experiments/train.py --method rigl --problem my_problem.py:build   your own network and data
    python experiments/train.py --method gradual --dry-run                 the plan, and nothing else

A method is any name of `jaxticket.registry`; `experiments/compare.py` trains several. The same command resumes a killed
run, and more seeds extend it. `jaxticket.load` reads the tickets: trained weights with their mask.

The function that --problem names takes no arguments. It returns a data set and a network:

    def build():
        x, y = load_my_arrays()  # (examples, ...) values, (examples,) labels
        dataset = jaxticket.data.stratified(x, y, seed=0, validation=500, test=1000)
        return dataset, jaxticket.models.lenet_300_100(features=x[0].size)
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.configs import PRESETS
from experiments.reports import study
from experiments.runs import command_line, processes
from experiments.studies import method
from jaxticket import registry

ABOUT = f"{__doc__}\nMethods: {', '.join(registry.METHODS)}.\n"
STUDY = study.Study(
    configure=lambda argv: command_line.training_config(method.Config(), argv, PRESETS, description=ABOUT),
    rows=method.rows,
    prepare=method.prepare,
    records=lambda config, cells, watch: cells.train(config.cells()),
    report=method.report,
    plan=method.plan,
    prunes=lambda config, cells: cells.describe(config.cells()[0]),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # seeds side by side, one a core
    sys.exit(main())
