"""ASHA stops a trial early if others were better after as many epochs."""

from syne_tune import StoppingCriterion, Tuner
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import ASHA
from syne_tune_workers import ForkserverBackend

from checkpoints import config_space, objective, preload

config_space = config_space | {"max_epochs": 27}

if __name__ == "__main__":
    backend = ForkserverBackend(objective, config_space, preload=preload)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=ASHA(
            config_space,
            metric="validation_error",
            time_attr="epoch",
            max_t=27,
        ),
        stop_criterion=StoppingCriterion(max_wallclock_time=30),
        n_workers=2,
        sleep_time=0,
        max_failures=100,
        tuner_name="asha",
    )
    tuner.run()
    reports = load_experiment(tuner.name).results
    print(f"{reports.trial_id.nunique()} trials, {len(reports)} epochs")
