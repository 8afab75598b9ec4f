"""How fast this machine is at the moment, for comparing runs of different hours."""

import time

from async_hpo import paths


def speed_stamp() -> float:
    """Seconds for one bare epoch: LeNet on 50,000 images in batches of 128, on one core, and nothing else.

    Under the short budget a tenth of an epoch is timed, and multiplied.
    """
    import torch
    from d2l import torch as d2l
    from torch.nn.functional import cross_entropy

    from async_hpo.data import load

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    X, y = load()["train"]
    model = d2l.LeNet(lr=0.1, num_classes=10)
    model(X[:128])  # its layers are made at the first batch
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    share = 0.1 if paths.SHORT else 1.0
    begin = time.perf_counter()
    for batch in torch.arange(int(share * len(X))).split(128):
        optimizer.zero_grad()
        cross_entropy(model(X[batch]), y[batch]).backward()
        optimizer.step()
    took = time.perf_counter() - begin
    torch.set_num_threads(threads)
    return took / share
