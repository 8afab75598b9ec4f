"""Trials for `test_random_kills`, which write down what they do: a file a trial, named by its `x`.

Without the test's own imports, which would take each server seconds.
"""

import os
import subprocess
import time
from pathlib import Path

N_EPOCHS = 6


def write(journal, x, *words):
    """Beside its reports."""
    with open(Path(journal) / repr(x), "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def sleeps(x, journal):
    from syne_tune import Reporter

    child = subprocess.Popen(["sleep", "1000"])  # it is left behind
    write(journal, x, "start", os.getpid(), child.pid)
    report = Reporter()
    for epoch in range(1, N_EPOCHS + 1):
        time.sleep(0.1)
        report(epoch=epoch, error=x)
        write(journal, x, "epoch", epoch, time.monotonic())


def trains(x, journal):
    import torch
    from syne_tune import Reporter

    child = subprocess.Popen(["sleep", "1000"])
    write(journal, x, "start", os.getpid(), child.pid)
    inputs, model = torch.randn(2000, 50), torch.nn.Linear(50, 1)
    report = Reporter()
    for epoch in range(1, N_EPOCHS + 1):
        for _ in range(100):
            loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            for weights, slope in zip(
                model.parameters(), torch.autograd.grad(loss, [*model.parameters()]), strict=True
            ):
                weights.data -= x * slope
        report(epoch=epoch, error=loss.item())
        write(journal, x, "epoch", epoch, time.monotonic())
