"""PyTorch Lightning: a callback reports after each validation."""

import logging
import warnings

import lightning as L
import torch
from sklearn.datasets import load_digits
from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.config_space import lograndint, loguniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Digits(L.LightningModule):
    def __init__(self, learning_rate, n_hidden):
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Linear(64, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 10)
        )

    def training_step(self, batch):
        X, y = batch
        return nn.functional.cross_entropy(self.network(X), y)

    def validation_step(self, batch):
        X, y = batch
        self.log(
            "validation_error",
            (self.network(X).argmax(dim=1) != y).float().mean(),
        )

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class Report(L.Callback):
    def __init__(self):
        self.report = Reporter()

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:  # some batches before epoch 1
            error = trainer.callback_metrics["validation_error"].item()
            self.report(
                epoch=trainer.current_epoch + 1, validation_error=error
            )


def objective(learning_rate, n_hidden, max_epochs):
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # It warns of too few data workers, among others.
    warnings.filterwarnings("ignore", module="lightning")
    torch.manual_seed(0)
    X, y = load_digits(return_X_y=True)
    data = TensorDataset(
        torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
    )
    train, validation = random_split(data, [0.8, 0.2])
    trainer = L.Trainer(
        max_epochs=max_epochs,
        accelerator="auto",
        devices=1,
        callbacks=[Report()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, validation = (
        DataLoader(train, 16, shuffle=True),
        DataLoader(validation, 360),
    )
    trainer.fit(Digits(learning_rate, n_hidden), train, validation)


config_space = {
    "learning_rate": loguniform(1e-3, 1),
    "n_hidden": lograndint(4, 256),
    "max_epochs": 5,
}

if __name__ == "__main__":
    preload = ["torch._dynamo", "lightning", "sklearn.datasets"]
    backend = ForkserverBackend(objective, config_space, preload=preload)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_num_trials_finished=4),
        n_workers=2,
        sleep_time=0,
        tuner_name="lightning",
    )
    tuner.run()
    trial_id, _ = tuner.best_config()
    log = backend.trial_path(trial_id) / "std.out"
    print(f"Trial {trial_id} was the best: {log}")
