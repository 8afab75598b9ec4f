"""Which GPUs this process may use, and which of them a trial gets."""

import os
import subprocess


def visible_gpus() -> list[str]:
    """The GPUs that processes started here can use, as CUDA_VISIBLE_DEVICES names them: numbers or UUIDs.

    CUDA reads that variable up to the first name that is none. Without it they are all that nvidia-smi lists; where a
    GPU is divided (MIG), its parts.
    """
    found = _listed_gpus()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None or not found:
        return found
    n_gpus, chosen = len(found), []
    for name in map(str.strip, allowed.split(",")):
        if not (name.startswith(("GPU-", "MIG-")) or (name.isdecimal() and int(name) < n_gpus)) or name in chosen:
            break
        chosen.append(name)
    return chosen


def _listed_gpus() -> list[str]:
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus: list[list[str]] = []  # for each, its parts
    for line in run.stdout.splitlines() if run.returncode == 0 else []:
        if line.startswith("GPU "):
            gpus.append([])
        elif line.strip().startswith("MIG ") and "(UUID: " in line and gpus:
            gpus[-1].append(line.partition("(UUID: ")[2].rstrip(" )"))
    return [name for number, parts in enumerate(gpus) for name in parts or [str(number)]]


class Rotation:
    """Gives each trial GPUs of its own: free ones first, then those that were given least often.

    Args:
        gpus: their names.
        per_trial: how many a trial gets; all if there are fewer.
    """

    def __init__(self, gpus: list[str], per_trial: int = 1):
        self.gpus, self.per_trial = gpus, min(per_trial, len(gpus))
        self._of_trial: dict[int, list[str]] = {}
        self._times = dict.fromkeys(gpus, 0)

    def take(self, trial_id: int) -> list[str]:
        """The names of the GPUs that this trial gets, until it releases them."""
        used = [gpu for gpus in self._of_trial.values() for gpu in gpus]
        chosen = sorted(self.gpus, key=lambda gpu: (used.count(gpu), self._times[gpu]))[: self.per_trial]
        for gpu in chosen:
            self._times[gpu] += 1
        self._of_trial[trial_id] = chosen
        return chosen

    def release(self, trial_id: int) -> None:
        """The trial has ended: others may get its GPUs."""
        self._of_trial.pop(trial_id, None)
