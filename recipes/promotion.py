"""Trials pause after 1, 3 and 9 epochs, and the best third goes on."""

from syne_tune import StoppingCriterion, Tuner
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialSuggestion
from syne_tune_workers import ForkserverBackend

from checkpoints import config_space, objective, preload

config_space = config_space | {"max_epochs": 27}


class Promotion(RandomSearch):
    """ASHA: Li et al. (2020), algorithm 2, with a reduction factor of 3."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        # epochs -> trial -> its error then
        self.rungs = {9: {}, 3: {}, 1: {}}
        self.promoted = set()

    def on_trial_result(self, trial, result):
        rung = self.rungs.get(result["epoch"])
        if rung is None or trial.trial_id in rung:
            return SchedulerDecision.CONTINUE
        rung[trial.trial_id] = result["validation_error"]
        return SchedulerDecision.PAUSE

    def suggest(self):
        for epoch, rung in self.rungs.items():  # the highest first
            for trial_id in sorted(rung, key=rung.get)[: len(rung) // 3]:
                if (epoch, trial_id) not in self.promoted:
                    self.promoted.add((epoch, trial_id))
                    return TrialSuggestion.resume_suggestion(trial_id)
        return super().suggest()


if __name__ == "__main__":
    backend = ForkserverBackend(objective, config_space, preload=preload)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=Promotion(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=30),
        n_workers=2,
        sleep_time=0,
        max_failures=100,
        tuner_name="promotion",
    )
    tuner.run()
    reports = load_experiment(tuner.name).results
    print(f"{reports.trial_id.nunique()} trials, {len(reports)} epochs")
