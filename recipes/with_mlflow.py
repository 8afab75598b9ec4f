"""Each trial is a run in MLflow; the objective stays as it is."""

from mlflow import MlflowClient
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.trial_status import Status
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.results_callback import StoreResultsCallback
from syne_tune.tuner_callback import TunerCallback
from syne_tune.util import experiment_path
from syne_tune_workers import ForkserverBackend

from checkpoints import config_space, objective

ENDS = {
    Status.completed: "FINISHED",
    Status.failed: "FAILED",
    Status.stopped: "KILLED",
}


class MLflowRuns(TunerCallback):
    def __init__(self, tracking_uri):
        # not mlflow.log_metric: several runs are open
        self.client = MlflowClient(tracking_uri)
        self.open = {}  # number of a trial -> its run

    def on_tuning_start(self, tuner):
        self.statuses = tuner.tuning_status.last_trial_status_seen
        self.experiment = self.client.create_experiment(tuner.name)

    def on_start_trial(self, trial):
        run = self.client.create_run(
            self.experiment, run_name=f"trial {trial.trial_id}"
        ).info
        self.open[trial.trial_id] = run.run_id
        for name, value in trial.config.items():
            self.client.log_param(run.run_id, name, value)

    def on_trial_result(self, trial, status, result, decision):
        run, step = self.open[trial.trial_id], result["epoch"]
        for name, value in result.items():
            # "st_..." are Syne Tune's own.
            if name != "epoch" and not name.startswith("st_"):
                self.client.log_metric(run, name, value, step=step)

    def on_loop_end(self):  # no other method is told of trials that failed
        for trial_id in list(self.open):
            if end := ENDS.get(self.statuses[trial_id]):
                self.client.set_terminated(self.open.pop(trial_id), end)

    def on_tuning_end(self):
        for run in self.open.values():  # their trials are stopped next
            self.client.set_terminated(run, "KILLED")


if __name__ == "__main__":
    backend = ForkserverBackend(
        objective, config_space, preload=["torch._dynamo", "checkpoints"]
    )
    backend.warm_up()
    database = f"sqlite:///{experiment_path().absolute() / 'mlflow.db'}"
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_num_trials_finished=4),
        n_workers=2,
        sleep_time=0,
        tuner_name="mlflow",
        callbacks=[StoreResultsCallback(), MLflowRuns(database)],
    )
    tuner.run()
    print(f'Show all: mlflow ui --backend-store-uri "{database}"')
