"""Trials keep checkpoints, and the best weights are loaded at the end."""

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.config_space import lograndint, loguniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend
from torch import nn


def load_data():
    """Training, validation and test data: 1077, 360, 360 images."""
    X, y = load_digits(return_X_y=True)
    X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
    rest, test = train_test_split(
        range(len(y)), test_size=360, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=360, random_state=0
    )
    return (
        (X[train], y[train]),
        (X[validation], y[validation]),
        (X[test], y[test]),
    )


def make_network(n_hidden):
    return nn.Sequential(
        nn.Linear(64, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 10)
    )


def error(network, X, y):
    with torch.no_grad():
        return (network(X).argmax(dim=1) != y).float().mean().item()


def save(state, path):
    torch.save(state, f"{path}.part")
    # in one step: a kill leaves a whole file
    os.replace(f"{path}.part", path)


def objective(learning_rate, n_hidden, max_epochs, st_checkpoint_dir):
    torch.manual_seed(0)
    (X, y), validation, _ = load_data()
    network = make_network(n_hidden)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    epoch, best = 0, 1.0
    checkpoint = Path(st_checkpoint_dir) / "checkpoint.pt"
    checkpoint.parent.mkdir(exist_ok=True)
    if checkpoint.exists():  # the trial was interrupted, and goes on
        epoch, best, weights = torch.load(checkpoint)
        network.load_state_dict(weights)
    report = Reporter()
    while epoch < max_epochs:
        epoch += 1
        for batch in torch.randperm(len(y)).split(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                network(X[batch]), y[batch]
            ).backward()
            optimizer.step()
        validation_error = error(network, *validation)
        if validation_error < best:
            best = validation_error
            save(network.state_dict(), checkpoint.with_name("best.pt"))
        # before the report, with which the trial may end
        save((epoch, best, network.state_dict()), checkpoint)
        report(epoch=epoch, validation_error=validation_error)


config_space = {
    "learning_rate": loguniform(1e-3, 1),
    "n_hidden": lograndint(4, 256),
    "max_epochs": 10,
}
# The server imports this once. An optimizer needs torch._dynamo: 4 s.
preload = ["torch._dynamo", "sklearn.datasets", "sklearn.model_selection"]

if __name__ == "__main__":
    backend = ForkserverBackend(objective, config_space, preload=preload)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=30),
        n_workers=2,
        sleep_time=0,
        tuner_name="checkpoints",
    )
    tuner.run()
    trial_id, config = tuner.best_config()
    network = make_network(config["n_hidden"])
    network.load_state_dict(
        torch.load(backend.checkpoint_trial_path(trial_id) / "best.pt")
    )
    *_, test = load_data()
    print(f"Best: trial {trial_id}, {config}")
    print(f"Test error: {error(network, *test):.3f}")
