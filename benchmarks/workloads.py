"""What the systems run. The first line of each logs its start, the last one its end."""


def one_second(x):
    """The trial of the overhead benchmark: sleeps for a second, reports once."""
    from benchmarks.events import log

    log("start")
    import time

    from syne_tune import Reporter

    time.sleep(1)
    Reporter()(error=x)
    log("end")


def sleeper(x, n_reports, pause):
    """The trial of the scale benchmark: `n_reports` reports, `pause` seconds of sleep before each."""
    from benchmarks.events import log

    log("start")
    import time

    from syne_tune import Reporter

    report = Reporter()
    for _ in range(n_reports):
        time.sleep(pause)
        report(error=x)
    log("end")


def lenet(learning_rate, batch_size, max_epochs, live_plot, in_memory, channels_last, validate_once):
    """The book's objective, its images counted."""
    from benchmarks.events import count_images, log

    log("start")
    from async_hpo.chapter import hpo_objective_lenet_steps

    count_images()
    hpo_objective_lenet_steps(learning_rate, batch_size, max_epochs, live_plot, in_memory, channels_last, validate_once)
    log("end")


#: Constants of `lenet` after each step of the notebook "What One Trial Wastes".
D2L = {"batch_size": 128, "max_epochs": 2, "live_plot": 1, "in_memory": 0, "channels_last": 0, "validate_once": 0}
NO_LIVE_PLOT = D2L | {"live_plot": 0}
IN_MEMORY = NO_LIVE_PLOT | {"in_memory": 1}
CHANNELS_LAST = IN_MEMORY | {"channels_last": 1}
BEST = CHANNELS_LAST | {"validate_once": 1}
