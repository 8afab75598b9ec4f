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
        error = trainer.validation_error().item()
        report(epoch=epoch, validation_error=error)


# notebooks/scheduler.ipynb
from syne_tune.config_space import loguniform, randint

lenet_config_space = {
    "learning_rate": loguniform(1e-2, 1),
    "batch_size": randint(32, 256),
    "max_epochs": 10,
}
lenet_initial_config = {"learning_rate": 0.1, "batch_size": 128}


# notebooks/stragglers.ipynb
def hpo_objective_cnn_synetune(
    learning_rate, num_filters, num_layers, max_epochs
):
    """Train a convolutional network of any width and depth."""
    import torch
    from async_hpo.data import FashionMNIST
    from d2l import torch as d2l
    from syne_tune import Reporter
    from torch import nn

    class CNN(d2l.Classifier):
        def __init__(self, lr):
            super().__init__()
            self.save_hyperparameters()
            layers = []
            for layer in range(num_layers):
                conv = nn.LazyConv2d(num_filters, 3, padding=1)
                layers += [conv, nn.ReLU()]
                if layer < 2:  # 28 x 28 pixels become 14 x 14, then 7 x 7
                    layers.append(nn.MaxPool2d(2))
            self.net = nn.Sequential(
                *layers, nn.Flatten(), nn.LazyLinear(10)
            )

    torch.manual_seed(0)
    torch.set_num_threads(1)  # trials run side by side: a core for each
    data = FashionMNIST(batch_size=128)
    model = CNN(lr=learning_rate)
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


# notebooks/stragglers.ipynb
from syne_tune.config_space import lograndint, loguniform, randint

cnn_config_space = {
    "learning_rate": loguniform(1e-2, 0.5),
    "num_filters": lograndint(4, 32),
    "num_layers": randint(1, 5),
    "max_epochs": 3,
}


# notebooks/stragglers.ipynb
CNN = [
    "async_hpo.chapter:hpo_objective_cnn_synetune",
    "async_hpo.chapter:cnn_config_space",
    "cnn.csv",
]


# notebooks/stragglers.ipynb
def run_cnn(n_workers, n_trials, max_epochs, asynchronous=True):
    """Run the first configurations of a recorded table, in its order."""
    from async_hpo import FASHION_MNIST, ForkserverBackend, tables
    from async_hpo.search import search
    from syne_tune.optimizer.baselines import RandomSearch

    objective = hpo_objective_cnn_synetune
    space = cnn_config_space | {"max_epochs": max_epochs}
    configs = tables.configurations(tables.read_table("cnn"))
    return search(
        ForkserverBackend(objective, space, share=[FASHION_MNIST]),
        RandomSearch(
            space, metrics=["validation_error"], points_to_evaluate=configs
        ),
        f"cnn-{n_workers}-{'asynchronous' if asynchronous else 'waiting'}",
        seconds=20 * 60,  # a cap: it ends with the trials
        n_workers=n_workers, n_trials=n_trials,
        asynchronous_scheduling=asynchronous,
    )


# notebooks/stragglers.ipynb
def take_turns(order, run_one):
    """Run two kinds in turn; how fast was the machine in between?"""
    from async_hpo.stamp import speed_stamp

    stamps, runs = [speed_stamp()], []
    for kind in order:
        runs.append(run_one(kind))
        stamps.append(speed_stamp())
    return {"runs": runs, "stamps": stamps}


# notebooks/overhead.ipynb
def hpo_objective_lenet_steps(
    learning_rate, batch_size, max_epochs,
    live_plot, in_memory, channels_last, validate_once,
):
    """LeNet again, with D2L's costs taken away one by one by switches."""
    import time

    import torch
    from async_hpo.data import FashionMNIST
    from d2l import torch as d2l
    from syne_tune import Reporter

    class Trainer(d2l.HPOTrainer):
        def fit_epoch(self):
            loader = self.val_dataloader
            self.val_dataloader = None if validate_once else loader
            super().fit_epoch()
            self.val_dataloader = loader

    imported = time.time()
    torch.manual_seed(0)
    images = FashionMNIST if in_memory else d2l.FashionMNIST
    data = images(batch_size=batch_size)
    model = d2l.LeNet(lr=learning_rate, num_classes=10)
    model.board.display = bool(live_plot)
    first_batch = next(iter(data.get_dataloader(True)))[0]
    model.apply_init([first_batch], d2l.init_cnn)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    trainer = Trainer(max_epochs=1, num_gpus=1)
    report = Reporter()
    begin = loaded = time.time()
    for epoch in range(1, max_epochs + 1):
        if epoch == 1:
            trainer.fit(model=model, data=data)
        else:
            trainer.fit_epoch()
        trained = time.time()
        error = trainer.validation_error().item()
        end = time.time()
        report(
            epoch=epoch, validation_error=error,
            imported=imported, loaded=loaded,
            training=trained - begin, validation=end - trained,
        )
        begin = time.time()


# notebooks/overhead.ipynb
def bare_loop(n_epochs):
    """Train and validate LeNet, and nothing else."""
    import json
    import time

    import torch
    from async_hpo.data import FashionMNIST
    from d2l import torch as d2l
    from torch.nn.functional import cross_entropy

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = FashionMNIST(batch_size=128)
    model = d2l.LeNet(lr=0.1, num_classes=10)
    model.apply_init([next(iter(data.train_dataloader()))[0]], d2l.init_cnn)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    start = time.time()
    for _ in range(n_epochs):
        model.train()
        for X, y in data.train_dataloader():
            loss = cross_entropy(model(X), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for X, y in data.val_dataloader():
                (model(X).argmax(dim=1) == y).sum().item()
    print(json.dumps([start, time.time()]))
