"""The figure of the book's first page, from recorded trials: `make record` draws it, and `python -m tools.opening`."""

from pathlib import Path

import matplotlib.pyplot as plt

from async_hpo import plots, tables
from async_hpo.schedule import idle_share, schedule
from tools.notebooks import ROOT

PATH = ROOT / "book" / "_static" / "three-schedules.svg"
N_TRIALS, N_WORKERS = 24, 4


def draw(path: Path = PATH) -> None:
    """One worker, four that wait for each other, four that don't: the same trials of networks of any size."""
    durations = tables.durations(tables.read_table("cnn"))[:N_TRIALS]
    plans = {}
    for who, n, synchronous in (
        ("one worker", 1, False),
        ("four workers that wait for each other", N_WORKERS, True),
        ("four workers that don't", N_WORKERS, False),
    ):
        plan = schedule(durations, n, synchronous)
        seconds = plan.end.max()
        idle = f", {idle_share(durations.sum(), n, seconds):.0%} of their time idle" if n > 1 else ""
        plans[f"{who}: {seconds:,.0f} s{idle}"] = plan
    description = f"The first {N_TRIALS} trials of cnn.csv; " + "; ".join(plans)
    with plt.style.context(plots.STYLE):
        figure = plots.schedules(plans)
        figure.savefig(path, format="svg", metadata={"Date": None, "Description": description})  # the same file again
    plt.close(figure)


def table_is_there() -> bool:
    """Whether the trials that it draws are recorded."""
    return (tables.RECORDINGS / "cnn.csv").exists() and len(tables.durations(tables.read_table("cnn"))) >= N_TRIALS


if __name__ == "__main__":
    draw()
