"""Measure every system of a comparison three times, in turn: `make bench`. Interrupt it as you like; it goes on.

python -m benchmarks.bench                         all that is not measured yet
python -m benchmarks.bench benchmarks overhead     only that benchmark
python -m benchmarks.bench cluster                 the other comparison
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from async_hpo.digest import digest
from async_hpo.paths import RECORDINGS, ROOT
from benchmarks import events
from benchmarks.systems import COMPARISONS, find

HERE = ROOT / "benchmarks"  # where D2L's own code finds ../data
REPETITIONS = 3
UNDER_WAY, RESULTS = ROOT / "experiments", RECORDINGS  # in both: a file for each comparison
PACKAGES = ("torch", "syne-tune", "ray", "optuna", "d2l")
START_LIMIT = 120  # seconds until a system's search has to begin
RAMP = 3  # seconds at the start that rates of reports leave out
#: The objectives of all systems; a result holds their digest.
OBJECTIVES = [f"benchmarks.workloads:{name}" for name in ("one_second", "sleeper", "lenet")]


def measure(benchmark: str, system: str) -> dict:
    """Run one system for the budget. Returns its numbers (see `summary`), or what went wrong as `error`."""
    chosen = find(benchmark)
    budget = chosen.budget
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        log, out = Path(folder, "events"), Path(folder, "out")
        log.touch()
        environment = os.environ | {
            "BENCH_FOLDER": folder,
            "BENCH_EVENTS": str(log),
            "SYNETUNE_FOLDER": folder,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",  # two workers on two cores; Syne Tune sets it by itself
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            "RAY_TMPDIR": folder,
        }
        with open(out, "w", encoding="utf-8") as file:
            command = [sys.executable, "-m", "benchmarks.systems", benchmark, system]
            driver = subprocess.Popen(command, cwd=HERE, env=environment, stdout=file, stderr=subprocess.STDOUT)
            try:
                clock = _wait_for_clock(log, driver)
                if clock:
                    time.sleep(max(0, clock + budget - time.time()))
            finally:
                _end(folder)
                driver.wait()
        if not clock:
            lines = out.read_text("utf-8", "replace").splitlines()
            return {"error": ([line for line in lines if "Error" in line] or lines or ["it never began"])[-1]}
        found = [event for event in events.read(log) if clock <= event["time"] <= clock + budget]
        n_workers = chosen.systems[system].keywords.get("n_workers", 2)
        return summary(chosen.measures, found, clock, budget, n_workers)


def _wait_for_clock(log: Path, driver: subprocess.Popen) -> float | None:
    """When the driver's search began; None if it ends, or does not begin in time."""
    end = time.time() + START_LIMIT
    while time.time() < end and driver.poll() is None:
        for event in events.read(log):
            if event["event"] == "clock":
                return event["time"]
        time.sleep(0.02)
    return None


def _end(folder: str) -> None:
    """Kill everything that inherited our environment: engines leave their parents' process group."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("BENCH_FOLDER") == folder:
                process.send_signal(signal.SIGKILL)


def summary(measures: Collection[str], found: list[dict], clock: float, budget: float, n_workers: int) -> dict:
    """Numbers of one run: `measures`, and those that all have. Times are in seconds since the clock's start. `found`:
    the events from then until `budget` seconds later, in the order of time."""
    starts = [event["time"] - clock for event in found if event["event"] == "start"]
    ends = [event["time"] - clock for event in found if event["event"] == "end"]
    # A worker is free at a trial's end; the n-th start after the first ones takes the worker of the n-th end.
    latencies = [start - end for start, end in zip(starts[n_workers:], ends, strict=False)]
    result = {
        "finished": len(ends),
        "first_start": round(starts[0], 3) if starts else None,
        "latency_median": round(median(latencies), 4) if latencies else None,
        "latency_max": round(max(latencies), 4) if latencies else None,
    }
    if "images_per_second" in measures:
        images = sum(event["n"] for event in found if event["event"] == "images")
        result["images_per_second"] = round(images / budget, 1)
    if "reports_per_second" in measures:
        received = [event for event in found if event["event"] == "received" and event["time"] >= clock + RAMP]
        seconds = received[-1]["time"] - received[0]["time"]
        result["reports_per_second"] = round((received[-1]["n"] - received[0]["n"]) / seconds, 1)
    return result


def load(comparison: str) -> dict:
    """What is measured of a comparison so far, or the beginning of a new one.

    Raises:
        SystemExit: it was begun with other objectives.
    """
    under_way, made_from = UNDER_WAY / f"{comparison}.json", digest(OBJECTIVES)
    if under_way.exists():
        results = json.loads(under_way.read_text("utf-8"))
        if results.get("digest") != made_from:
            sys.exit(f"{under_way} was begun with other objectives: delete it to measure anew.")
        return results
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "machine": {"cores": psutil.cpu_count(), "memory_GiB": memory},
        "versions": {name: version(name) for name in PACKAGES} | {"python": sys.version.split()[0]},
        "date": date.today().isoformat(),
        "of": OBJECTIVES,
        "digest": made_from,
        "budgets": {name: benchmark.budget for name, benchmark in COMPARISONS[comparison].items()},
        "seconds": 0,
        "measurements": [],
    }


def save(results: dict, path: Path) -> None:
    """Write a comparison's file, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    part.replace(path)


def prepare() -> None:
    """Let D2L's code unpack its image files, once."""
    subprocess.run([sys.executable, "-c", "from d2l import torch as d2l; d2l.FashionMNIST()"], cwd=HERE, check=True)


def main(comparison: str = "benchmarks", *chosen: str) -> None:
    if comparison not in COMPARISONS:
        sys.exit(f"no comparison {comparison}; there are: {', '.join(COMPARISONS)}")
    benchmarks = COMPARISONS[comparison]
    if unknown := set(chosen) - set(benchmarks):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(benchmarks)}")
    prepare()
    results = load(comparison)
    done = {(m["benchmark"], m["system"], m["repetition"]) for m in results["measurements"]}
    systems = [(name, system) for name, benchmark in benchmarks.items() for system in benchmark.systems]
    wanted = [(*system, repetition) for repetition in range(REPETITIONS) for system in systems]
    for name, system, repetition in wanted:
        if (name, system, repetition) in done or (chosen and name not in chosen):
            continue
        start = time.monotonic()
        measured = {"benchmark": name, "system": system, "repetition": repetition} | measure(name, system)
        results["measurements"].append(measured)
        results["seconds"] = round(results["seconds"] + time.monotonic() - start, 1)
        save(results, UNDER_WAY / f"{comparison}.json")
        print(f"{len(results['measurements'])} of {len(wanted)}: {json.dumps(measured)}", flush=True)
    if len(results["measurements"]) == len(wanted):
        save(results, RESULTS / f"{comparison}.json")
        (UNDER_WAY / f"{comparison}.json").unlink()
        print(f"{comparison}.json: {results['seconds'] / 60:.0f} minutes of measuring")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("Interrupted; the next call goes on.")
