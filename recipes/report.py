"""The number to report: python report.py NAME-OF-THE-SEARCH"""

import sys

import torch
from scipy import stats
from syne_tune.experiments import load_experiment
from syne_tune.util import experiment_path
from torch import nn

from checkpoints import error, load_data, make_network


def retrained_error(learning_rate, n_hidden, max_epochs, seed):
    torch.manual_seed(seed)
    train, validation, test = load_data()
    X, y = (torch.cat(pair) for pair in zip(train, validation, strict=True))
    network = make_network(n_hidden)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    for _ in range(max_epochs):
        for batch in torch.randperm(len(y)).split(4):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(X[batch]), y[batch])
            loss.backward()
            optimizer.step()
    return error(network, *test)


if __name__ == "__main__":
    folders = experiment_path().glob(f"{sys.argv[1]}-*")
    newest = max(folder.name for folder in folders)  # names end with dates
    best = load_experiment(newest).best_config()
    names = ("learning_rate", "n_hidden", "max_epochs")
    config = {name: best[f"config_{name}"] for name in names}
    errors = [retrained_error(**config, seed=seed) for seed in range(1, 11)]
    low, high = stats.ttest_1samp(errors, 0).confidence_interval()
    mean = sum(errors) / len(errors)
    print(f"Chosen with validation error {best['validation_error']:.3f}")
    print(
        f"Test error, 10 seeds: {mean:.3f}, 95 %: {low:.3f} to {high:.3f}"
    )
