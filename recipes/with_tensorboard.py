"""TensorBoard: each trial writes into a folder of its own."""

from pathlib import Path

import torch
from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from checkpoints import config_space, error, load_data, make_network


def objective(learning_rate, n_hidden, max_epochs, st_checkpoint_dir):
    torch.manual_seed(0)
    (X, y), validation, _ = load_data()
    network = make_network(n_hidden)
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    writer = SummaryWriter(Path(st_checkpoint_dir).parent / "tensorboard")
    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        losses = []
        for batch in torch.randperm(len(y)).split(4):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(X[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        validation_error = error(network, *validation)
        writer.add_scalar(
            "training_loss", torch.stack(losses).mean(), epoch
        )
        writer.add_scalar("validation_error", validation_error, epoch)
        writer.flush()  # before the report, with which a trial may end
        report(epoch=epoch, validation_error=validation_error)
    writer.close()


if __name__ == "__main__":
    preload = ["torch._dynamo", "torch.utils.tensorboard", "checkpoints"]
    backend = ForkserverBackend(objective, config_space, preload=preload)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_num_trials_finished=4),
        n_workers=2,
        sleep_time=0,
        tuner_name="tensorboard",
    )
    tuner.run()
    print(f'Show all: tensorboard --logdir "{tuner.tuner_path}"')
