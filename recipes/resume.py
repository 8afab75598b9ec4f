"""A search that goes on where it stopped: python resume.py SECONDS"""

import sys

from async_hpo.search import search
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend

from checkpoints import config_space, objective, preload

if __name__ == "__main__":
    backend = ForkserverBackend(objective, config_space, preload=preload)
    scheduler = RandomSearch(config_space, metrics=["validation_error"])
    seconds = float(sys.argv[1])  # of the whole search
    run = search(backend, scheduler, "digits", seconds, resume=True)
    print(run.trials.status.value_counts().to_string())
