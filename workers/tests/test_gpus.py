"""Which GPUs may be used, and which of them a trial gets: on any machine, by a stand-in for nvidia-smi."""

import os

import pytest
from backend_helpers import allow, nvidia_smi
from syne_tune_workers.gpus import Rotation, visible_gpus

FOUR = [f"GPU {i}: NVIDIA A100 (UUID: GPU-{i}abc)" for i in range(4)]
DIVIDED = [
    "GPU 0: NVIDIA A100 (UUID: GPU-0abc)",
    "  MIG 3g.20gb     Device  0: (UUID: MIG-1)",
    "  MIG 3g.20gb     Device  1: (UUID: MIG-2)",
    "GPU 1: NVIDIA A100 (UUID: GPU-1abc)",
]


@pytest.mark.parametrize(
    ("listed", "allowed", "expected"),
    [
        (FOUR, None, ["0", "1", "2", "3"]),
        (FOUR, "2,3", ["2", "3"]),
        (FOUR, " 3 , 1 ", ["3", "1"]),
        (FOUR, "", []),
        (FOUR, "-1", []),
        (FOUR, "NoDevFiles", []),
        (FOUR, "1,-1,2", ["1"]),
        (FOUR, "1,9,2", ["1"]),
        (FOUR, "2,2", ["2"]),
        (FOUR, "GPU-3abc,GPU-1abc", ["GPU-3abc", "GPU-1abc"]),
        (DIVIDED, None, ["MIG-1", "MIG-2", "1"]),
        (DIVIDED, "MIG-2", ["MIG-2"]),
        ([], None, []),
        ([], "0,1", []),
        (["No devices were found"], None, []),
    ],
)
def test_what_the_environment_allows_of_what_is_there(tmp_path, monkeypatch, listed, allowed, expected):
    nvidia_smi(tmp_path, monkeypatch, *listed)
    allow(monkeypatch, allowed)
    assert visible_gpus() == expected


def test_a_program_that_fails_or_is_missing_lists_none(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, *FOUR, code=9)
    allow(monkeypatch, None)
    assert visible_gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []


def test_looking_leaves_no_file(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, *FOUR)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    visible_gpus()
    assert os.listdir() == []


def test_trials_get_free_gpus_first_and_then_those_used_least():
    rotation = Rotation(["a", "b", "c"])
    assert [rotation.take(trial) for trial in range(3)] == [["a"], ["b"], ["c"]]
    rotation.release(1)
    assert rotation.take(3) == ["b"]
    assert rotation.take(4) == ["a"], "all are taken: the one that was given least often"
    rotation.release(2)
    rotation.release(2)
    assert rotation.take(5) == ["c"]


def test_a_trial_gets_several_or_all_there_are():
    assert Rotation(["a", "b", "c"], per_trial=2).take(0) == ["a", "b"]
    assert Rotation(["a"], per_trial=2).take(0) == ["a"]
    assert Rotation([]).take(0) == []
