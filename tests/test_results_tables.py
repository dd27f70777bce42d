"""The tables of the READMEs, which are made of the recorded runs."""

import collections
import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.cli.errors import UserError
from experiments.records import averages, store
from experiments.reporting.tables import by_seed_table
from tests.experiments import small

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


def loaded():
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_family_rests_on_the_seeds_that_its_plan_names(monkeypatch):
    """Others stand beside them without a verdict; and there is none before all of them have run."""
    script = loaded()
    folders = ("cifar100-seeds", "cifar100-seeds-recipe", "cifar100-seeds-rate")
    finals = {
        (run["variant"], run["task"], run["seed"]): np.mean(run["curves"]["val_acc_top1"][-3:])
        for run in lines(folders[0])
    }
    of_seed = collections.defaultdict(list)
    for (variant, task, seed), final in finals.items():
        if variant == "gabor-1":
            of_seed[seed].append(final - finals["random", task, seed])
    # Seed 0, which is known from earlier studies.
    monkeypatch.setattr(script, "_SETTLING", {"seeds": (0,)})
    row = next(r for r in script.planned("seeds", *folders).rows if r[0] == "Gabor, 1 layer")
    assert row[2].split(" ")[0] == f"{np.mean(of_seed[0]):+.1f}"
    assert len(of_seed) > 2
    monkeypatch.setattr(script, "_SETTLING", {"seeds": (0, 99)})
    for table in (script.planned, script.by_seed):
        with pytest.raises(UserError, match="no run of seed 99 on pair-10-11: run it first"):
            table("seeds", *folders)


def test_differences_seed_by_seed():
    """Seed 0 differs by less from task to task; scatter is of the seeds that settle alone."""
    differences = [[5.0, 1.0, 3.0], [5.0, 4.0, 6.0], [5.0, 7.0, 9.0]]
    runs = [
        small.run(name, [50 + shift] * 3, task=f"pair-{task}", seed=seed)
        for task, of_task in enumerate(differences)
        for seed, difference in enumerate(of_task)
        for name, shift in (("random", 0), ("a", difference))
    ]
    words = {("a", "random"): "a; against random", ("b", "random"): "b; against random"}
    table = by_seed_table(runs, words, settling=(1, 2))
    # Means of 2, 5 and 8; within each the variance is 2, so that 9 − 2 / 2 is that between.
    expected = (
        "a; against random",
        "+5.0",
        "+4.0",
        "+6.0",
        "+5.0",
        f"{8**0.5:.1f}",
        f"{2**0.5:.1f}",
    )
    assert table.rows == [expected, ("b; against random", *("–",) * 6)]
    assert table.note == "Scatter: standard deviations in points, of seeds 1, 2."
    everything = by_seed_table(runs, words)
    assert everything.rows[0][:5] == expected[:5]
    assert everything.rows[0][5:] != expected[5:]


def test_one_task_of_all_classes_has_accuracies_and_differences_but_no_verdicts():
    script, folder = loaded(), "tiny-imagenet32-table1"
    curves = {(run["variant"], run["seed"]): run["curves"]["val_acc_top1"] for run in lines(folder)}
    values = [curve for (name, _), curve in curves.items() if name == "fourier-k3"]
    row = next(row for row in script.table_1(folder).rows if row[0] == "Fourier, 3 clusters")
    expected = [[c[4] for c in values], [c[14] for c in values], [np.mean(c[-3:]) for c in values]]
    assert row[1] == str(len(values))
    assert [cell.split(" ")[0] for cell in row[2:]] == [f"{np.mean(of):.1f}" for of in expected]
    table = script.by_seed("table-1", folder)
    of_seeds = [
        np.mean(curves["fourier-k3", seed][-3:]) - np.mean(curves["random", seed][-3:])
        for seed in range(3)
    ]
    assert table.rows[0][:2] == ("Fourier, 3 clusters; against random", f"{of_seeds[0]:+.1f}")
    assert table.header[-2:] == ("all seeds", "scatter between seeds")
    assert table.rows[0][-1] == f"{np.std(of_seeds, ddof=1):.1f}"
    assert "verdict" not in table.header


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
        cell = cells["centroids (k-means) of patches", "random filters"][column]
        assert cell.startswith(f"{mean:+.1f} [")
        assert cell.endswith("**better**")
    verdicts = [
        cell.split(", ")[-1]
        for row in cells.values()
        for cell in list(row.values())[2:]
        if cell != "–"
    ]
    assert len(verdicts) == 4 * 2 + 2 * 2 + 2 * 6 + 2  # the planned comparisons with tuned random
    assert verdicts.count("**open**") == 2 * 6  # in ResNet-20, on ten tasks each


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
        ("<!-- table: planned table-1 cifar100-controls -->\n<!-- end -->\n", "no verdicts"),
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
