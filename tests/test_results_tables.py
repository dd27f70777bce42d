"""The tables of the READMEs, which are made of the recorded runs."""

import collections
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.records import averages, store

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "results" / "tables.py"


def tables(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def lines(folder):
    """The recorded runs of a folder, read without the project."""
    text = (ROOT / "results" / folder / "runs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.strip().split("\n")]


def test_the_readmes_hold_what_the_runs_say():
    pages = (
        "README.md",
        *sorted(ROOT.glob("docs/*.md")),
        *sorted(ROOT.glob("results/**/README.md")),
    )
    found = tables("--check", *pages)
    assert found.returncode == 0, found.stderr


def test_a_table_is_of_the_recorded_runs(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("<!-- table: starts cifar100-controls -->\n<!-- end -->\nafter\n")
    assert tables(file).returncode == 0
    text = file.read_text()
    recorded = store.read_all(ROOT / "results" / "cifar100-controls")
    runs = [run for run in recorded if run.variant == "gabor-1"]
    finals = [averages.final(run) for run in runs]
    row = next(line for line in text.splitlines() if line.startswith("| Gabor, 1 layer |"))
    assert row.split(" | ")[1:3] == [
        str(len(runs)),
        f"{np.mean(finals):.1f} ± {np.std(finals, ddof=1):.1f}",
    ]
    assert text.endswith("<!-- end -->\nafter\n")
    assert tables("--check", file).returncode == 0


def test_ranks_are_of_the_first_epochs(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("<!-- table: ranked 3 random cifar100-controls -->\n<!-- end -->\n")
    assert tables(file).returncode == 0
    rows = [line.split(" | ") for line in file.read_text().splitlines()[3:-1]]
    early = collections.defaultdict(list)
    for run in lines("cifar100-controls"):
        early[run["variant"]].append(np.mean(run["curves"]["val_acc_top1"][:3]))
    means = sorted((float(np.mean(values)) for values in early.values()), reverse=True)
    assert [row[2] for row in rows] == [f"{mean:.1f}" for mean in means]


def test_a_planned_family_is_of_the_runs_of_several_folders(tmp_path):
    file = tmp_path / "page.md"
    folders = ("cifar100-second", "cifar100-second-best")
    file.write_text(f"<!-- table: planned second {' '.join(folders)} -->\n<!-- end -->\n")
    assert tables(file).returncode == 0
    rows = [line.split(" | ") for line in file.read_text().splitlines()[3:-1]]
    finals = collections.defaultdict(dict)
    for folder in folders:
        for run in lines(folder):
            finals[run["variant"]][run["task"]] = np.mean(run["curves"]["val_acc_top1"][-3:])
    tuned = "random-x12.random-x0.35.rate-0.01"
    recipe = "gabor-1-x12.random-x0.35.rate-0.01"
    pairs = [
        *(("gabor-1", tuned), (recipe, tuned)),
        *(("gabor-1", "random-at-gabor-1"), ("gabor-1", "gabor-1-at-random")),
    ]
    differences = [
        np.array([finals[one][task] - finals[other][task] for task in finals[one]])
        for one, other in pairs
    ]
    ps = np.array(
        [
            stats.permutation_test((d,), np.mean, permutation_type="samples").pvalue
            for d in differences
        ]
    )
    order = np.argsort(ps)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1, np.maximum.accumulate(ps[order] * np.array([4, 3, 2, 1])))
    assert [row[1] for row in rows] == [str(len(d)) for d in differences]
    means = [f"{d.mean():+.1f}".replace("-", "−") for d in differences]
    assert [row[2].split(" ")[0] for row in rows] == means
    assert [row[3] for row in rows] == [f"{p:.3f}" for p in corrected]


def test_seeds_settle_only_where_they_had_no_part_in_choosing(tmp_path):
    """Seed 0 chose these starts: it stands beside the others, and no verdict rests on it."""
    file = tmp_path / "page.md"
    folders = ("cifar100-seeds", "cifar100-seeds-recipe", "cifar100-seeds-rate")
    end = "-->\n<!-- end -->\n"
    file.write_text(
        f"<!-- table: planned seeds {' '.join(folders)} {end}"
        f"<!-- table: by_seed seeds {' '.join(folders)} {end}"
    )
    assert tables(file).returncode == 0
    text = file.read_text().splitlines()
    verdict, seeds = ([c.strip() for c in line.split("|")[1:-1]] for line in text
                      if line.startswith("| Gabor, 1 layer |"))  # fmt: skip
    finals = {
        (run["variant"], run["task"], run["seed"]): np.mean(run["curves"]["val_acc_top1"][-3:])
        for run in lines(folders[0])
    }
    differences = {
        (task, seed): final - finals["random", task, seed]
        for (variant, task, seed), final in finals.items()
        if variant == "gabor-1"
    }
    of_seed = collections.defaultdict(list)
    for (_, seed), difference in differences.items():
        of_seed[seed].append(difference)
    assert len(of_seed) > 2
    assert {len(values) for values in of_seed.values()} == {10}

    def signed(values):
        return f"{np.mean(values):+.1f}".replace("-", "−")

    new = [value for seed, values in of_seed.items() if seed for value in values]
    assert verdict[2].split(" ")[0] == signed(new)
    assert seeds[1:-2] == [*map(signed, of_seed.values()), signed(list(differences.values()))]


def test_first_layers_are_those_of_the_studies(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("<!-- table: first_layers -->\n<!-- end -->\n")
    assert tables(file).returncode == 0
    head, _, *rows = (
        [c.strip() for c in line.split("|")[1:-1]] for line in file.read_text().splitlines()[1:-1]
    )
    cells = {tuple(row[:2]): dict(zip(head, row, strict=True)) for row in rows}
    behind = "random-x0.35.rate-0.01"
    for column, folder, tuned, first in (
        ("ResNet-18, CIFAR-100", "general-resnet18-cifar100-sourceless", "rate-0.0033", "x12"),
        ("the same, eight further tasks", "general-resnet20-more", "rate-0.01", "x1"),
    ):
        finals = collections.defaultdict(lambda: collections.defaultdict(list))
        for run in lines(folder):
            final = np.mean(run["curves"]["val_acc_top1"][-3:])
            finals[run["variant"]][run["task"]].append(final)
        (baseline,) = (n for n in finals if n.startswith("random-x") and n.endswith(tuned))
        ours = finals[f"patch-kmeans-1-{first}.{behind}"]
        mean = np.mean([np.mean(ours[t]) - np.mean(finals[baseline][t]) for t in ours])
        cell = cells["centroids of patches", "random filters"][column]
        assert cell.startswith(f"{mean:+.1f} [")
        assert cell.endswith("**better**")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- table: starts cifar100-controls -->\nold\n<!-- end -->\n", "out of date"),
        ("<!-- table: sums cifar100-controls -->\n<!-- end -->\n", "no table 'sums'"),
        ("<!-- table: starts nowhere -->\n<!-- end -->\n", "no summary"),
        (
            "<!-- table: verdicts cifar100-controls -->\n<!-- end -->\n",
            "say verdicts folder family",
        ),
        ("<!-- table: verdicts cifar100-controls x -->\n<!-- end -->\n", "no comparisons 'x'"),
        ("<!-- table: ranked 0 random cifar100-controls -->\n<!-- end -->\n", "say 1 or more"),
        ("<!-- table: ranked 3 x cifar100-controls -->\n<!-- end -->\n", "no run of x"),
        ("<!-- table: ranked 16 random cifar100-controls -->\n<!-- end -->\n", "fewer than 16"),
        (
            "<!-- table: ranked 3 random cifar100-controls cifar100-sequential -->\n<!-- end -->\n",
            "another random on",
        ),
        ("<!-- table: planned x cifar100-controls -->\n<!-- end -->\n", "no family 'x'"),
        ("<!-- table: starts cifar100-controls -->\nprose, and no end\n", "do not alternate"),
    ],
)
def test_what_cannot_be_filled_is_said(tmp_path, monkeypatch, capsys, text, said):
    """In this process: to start one for each would take most of the time."""
    file = tmp_path / "page.md"
    file.write_text(text)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--check", str(file)])
    with pytest.raises(SystemExit, match=r"^2$"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    news = capsys.readouterr().err
    assert said in news
    assert "Traceback" not in news
    assert file.read_text() == text


def test_a_file_that_is_not_there(tmp_path):
    found = tables(tmp_path / "nothing.md")
    assert found.returncode == 2
    assert "cannot be read" in found.stderr
    assert "Traceback" not in found.stderr
