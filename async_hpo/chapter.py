"""What the notebooks teach and others reuse. Written by `make save` from their cells marked `#@save`."""


# notebooks/objective.ipynb
def hpo_objective_lenet_synetune(
    learning_rate, batch_size, max_epochs
):
    """Train LeNet on Fashion-MNIST, report the error after every epoch."""
    import torch
    from async_hpo.data import FashionMNIST
    from d2l import torch as d2l
    from syne_tune import Reporter

    torch.manual_seed(0)  # same configuration, same learning curve
    torch.set_num_threads(1)  # trials run side by side: a core for each
    data = FashionMNIST(batch_size=batch_size)
    model = d2l.LeNet(lr=learning_rate, num_classes=10)
    model.board.display = False  # no live plot: a worker has no screen
    model.apply_init([next(iter(data.train_dataloader()))[0]], d2l.init_cnn)
    model.to(memory_format=torch.channels_last)  # faster on CPUs
    trainer = d2l.HPOTrainer(max_epochs=1, num_gpus=1)  # a GPU if any
    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        if epoch == 1:
            trainer.fit(model=model, data=data)
        else:
            trainer.fit_epoch()
        report(
            epoch=epoch, validation_error=trainer.validation_error().item()
        )


# notebooks/scheduler.ipynb
from async_hpo.runs import shorten
from syne_tune.config_space import loguniform, randint

lenet_config_space = {
    "learning_rate": loguniform(1e-2, 1),
    "batch_size": randint(32, 256),
    "max_epochs": shorten(10, to=2),
}
lenet_initial_config = {"learning_rate": 0.1, "batch_size": 128}
