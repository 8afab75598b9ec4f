"""A search of your own: change objective, metric and space."""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.config_space import lograndint, loguniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend


def objective(learning_rate, n_hidden, max_epochs):
    X, y = load_digits(return_X_y=True)
    X_train, X_val, y_train, y_val = train_test_split(X, y, random_state=0)
    model = MLPClassifier(
        [n_hidden], learning_rate_init=learning_rate, random_state=0
    )
    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        model.partial_fit(X_train, y_train, classes=range(10))
        report(epoch=epoch, validation_error=1 - model.score(X_val, y_val))


config_space = {
    "learning_rate": loguniform(1e-4, 1e-1),
    "n_hidden": lograndint(4, 256),
    "max_epochs": 20,
}

if __name__ == "__main__":
    backend = ForkserverBackend(
        objective, config_space, preload=["sklearn.neural_network"]
    )
    backend.warm_up()  # before the clock of the search starts
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=20),
        n_workers=2,
        sleep_time=0,  # the end of a trial wakes the tuner
        max_failures=100,  # a trial may fail, and the search goes on
        tuner_name="start",
    )
    tuner.run()
    best = load_experiment(tuner.name).best_config()
    error = best["validation_error"]
    print(f"Best: trial {best['trial_id']}, error {error:.3f}")
    config = {name: best[f"config_{name}"] for name in config_space}
    print(", ".join(f"{name} = {x:.4g}" for name, x in config.items()))
