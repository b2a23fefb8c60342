import os
import re

from datasets import benchmark


def test_prints_rates_and_ratios(monkeypatch, capsys):
    """Small pictures and no time to speak of: what it prints, not how fast it is."""
    monkeypatch.setattr(benchmark, "SOURCE", (64, 128))
    cores = os.sched_getaffinity(0)
    benchmark.main(["--pairs", "64", "--seconds", "0.05"])
    lines = capsys.readouterr().out.splitlines()
    for what, line in zip(("layouts", "pairs"), lines[1:], strict=True):
        name, packed, _, decoded, ratio, _ = line.split()
        assert name == what and re.fullmatch(r"\d+", ratio)
        assert abs(float(packed) / float(decoded) - float(ratio)) <= 1
    assert os.sched_getaffinity(0) == cores
