"""Hugging Face's Trainer: a callback reports after each evaluation."""

import numpy as np
import torch
from syne_tune import Reporter, StoppingCriterion, Tuner
from syne_tune.config_space import choice, loguniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend
from transformers import (
    BertConfig,
    BertForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


def make_data(n_rows, seed):
    """Rows of 8 digits, with label 1 where one is above the first."""
    X = np.random.default_rng(seed).integers(10, size=(n_rows, 8))
    return [
        {"input_ids": row, "labels": (row > row[0]).astype(int)}
        for row in X
    ]


def validation_error(prediction):
    return {
        "validation_error": np.mean(
            prediction.predictions.argmax(-1) != prediction.label_ids
        )
    }


class Report(TrainerCallback):
    def __init__(self):
        self.report = Reporter()

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        # Trainer puts "eval_" in front of each name.
        error = metrics["eval_validation_error"]
        self.report(epoch=round(state.epoch), validation_error=error)


def objective(learning_rate, hidden_size, max_epochs, st_checkpoint_dir):
    torch.manual_seed(0)
    size = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = BertConfig(vocab_size=10, hidden_size=hidden_size, **size)
    arguments = TrainingArguments(
        output_dir=st_checkpoint_dir,  # else all trials share one
        learning_rate=learning_rate,
        num_train_epochs=max_epochs,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    Trainer(
        BertForTokenClassification(config),
        arguments,
        train_dataset=make_data(1000, seed=0),
        eval_dataset=make_data(250, seed=1),
        compute_metrics=validation_error,
        callbacks=[Report()],
    ).train()


config_space = {
    "learning_rate": loguniform(1e-4, 1e-1),
    "hidden_size": choice([8, 16, 32]),
    "max_epochs": 4,
}

if __name__ == "__main__":
    preload = ["torch._dynamo", "transformers.trainer"]
    backend = ForkserverBackend(objective, config_space, preload=preload)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(config_space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_num_trials_finished=4),
        n_workers=2,
        sleep_time=0,
        tuner_name="transformers",
    )
    tuner.run()
    trial_id, _ = tuner.best_config()
    log = backend.trial_path(trial_id) / "std.out"
    print(f"Trial {trial_id} was the best: {log}")
