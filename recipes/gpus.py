"""The back-end gives each trial its GPUs: python gpus.py"""

import os

import torch
from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.config_space import uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend


def objective(x):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    value = torch.tensor(x, device=device).square().item()
    Reporter()(
        error=value, gpus=os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    )


config_space = {"x": uniform(-1, 1)}

if __name__ == "__main__":
    for n_workers, options in [
        (4, {}),
        (2, {"num_gpus_per_trial": 2}),
        (8, {}),
    ]:
        backend = ForkserverBackend(
            objective, config_space, preload=["torch"], **options
        )
        backend.warm_up()
        tuner = Tuner(
            trial_backend=backend,
            scheduler=RandomSearch(config_space, metrics=["error"]),
            stop_criterion=StoppingCriterion(
                max_num_trials_finished=n_workers
            ),
            n_workers=n_workers,
            sleep_time=0,
            wait_trial_completion_when_stopping=True,
            tuner_name="gpus",
        )
        tuner.run()
        trials = load_experiment(tuner.name).results.sort_values("trial_id")
        gpus = trials.gpus.astype(str)[:n_workers]
        print(f"{n_workers} workers {options}: {', '.join(gpus)}")
