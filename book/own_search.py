"""A search of your own: change the objective, its metric and the configuration space."""

from syne_tune.config_space import lograndint, loguniform
from syne_tune.optimizer.baselines import RandomSearch

from async_hpo import ForkserverBackend
from async_hpo.search import search


def objective(learning_rate, n_hidden, max_epochs):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from syne_tune import Reporter

    X, y = load_digits(return_X_y=True)
    X_train, X_val, y_train, y_val = train_test_split(X, y, random_state=0)
    model = MLPClassifier([n_hidden], learning_rate_init=learning_rate)
    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        model.partial_fit(X_train, y_train, classes=range(10))
        report(epoch=epoch, validation_error=1 - model.score(X_val, y_val))


config_space = {
    "learning_rate": loguniform(1e-4, 1e-1),
    "n_hidden": lograndint(4, 256),
    "max_epochs": 50,
}
preload = ["sklearn.datasets", "sklearn.model_selection", "sklearn.neural_network"]
backend = ForkserverBackend(objective, config_space, preload=preload)
scheduler = RandomSearch(config_space, metrics=["validation_error"])

if __name__ == "__main__":
    run = search(backend, scheduler, "my-search", seconds=60, n_workers=2)
    print(run.shares().round(3))
    best = run.reports.loc[run.reports.validation_error.idxmin()]
    print(best.filter(regex="trial_id|config|epoch|error"))
