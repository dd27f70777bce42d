"""The report: from summaries alone, with what is missing named; and the paper's one command."""

import dataclasses
import json
import re

import pytest

from experiments import paper, report
from experiments.cli.errors import UserError
from experiments.cli.progress import Progress
from experiments.records import run_record, summaries
from experiments.records.run_record import RunRecord
from experiments.reporting import presentation, tables


def record(variant, task, experiment="gabor", value=50.0):
    curves: dict[str, list[float | None]] = {
        name: [value - 10, value] for name in run_record.METRICS
    }
    return RunRecord(
        experiment=experiment,
        variant=variant,
        task=task,
        seed=0,
        settings={"data_set": "cifar100"},
        curves={**curves, "learning_rate": [0.01, 0.01]},
        stopped=None,
        environment={"device": "cpu"},
        wall_seconds=1.0,
    )


SHOWN = {
    "labels": {"random": "Random <b>", "gabor-1": "Gabor, 1 layer"},
    "figures": [
        {
            "stem": "figure7",
            "title": "Layers of Gabor filters",
            "variants": ["random", "gabor-1"],
            "palette": "sequential",
        }
    ],
    "authors": {"random": "random_model"},
    "baseline": "random",
    "subtitle": "CIFAR-100: 2 pairs × 1 seeds a variant",
}


@pytest.fixture
def results(tmp_path):
    records = [
        record(variant, task, value=value)
        for variant, value in (("random", 50.0), ("gabor-1", 61.25))
        for task in ("pair-10-11", "pair-10-13")
    ]
    summaries.write_summary(records, tmp_path / "gabor", SHOWN)
    return tmp_path


def test_a_summary_comes_back_as_it_was(results):
    records, shown = summaries.read_summary(results / "gabor" / "gabor.json")
    assert shown == SHOWN
    assert records[0].curves == record("random", "pair-10-11").curves
    assert [r.variant for r in records] == ["random", "random", "gabor-1", "gabor-1"]


def test_the_report_shows_what_ran_and_names_what_did_not(results):
    written = report.write(results, results / "report")
    names = {path.name for path in written}
    assert {"report.html", "report.md", "gabor-figure7.png", "gabor-figure7.svg"} <= names
    page = (results / "report" / "report.html").read_text()
    text = (results / "report" / "report.md").read_text()
    for made in (page, text):
        assert "Not run: python -m experiments.clusters" in made
        assert "Not run: python -m experiments.gabor" not in made
        assert "CIFAR-100: 2 pairs" in made
    assert "Random &lt;b&gt;" in page
    assert "+11.2" in text
    # Nothing is fetched from elsewhere.
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_table_1_has_both_epochs_and_the_authors():
    records = [record("random", "all", "tiny_imagenet")]
    long = [float(v) for v in range(1, 16)]
    curves = dict.fromkeys((*run_record.METRICS, "learning_rate"), long)
    records = [RunRecord(**{**vars(records[0]), "curves": curves})]
    table = tables.table_1(records, {"random": "Random"})
    assert "| Random | 1 | 5.0 | 15.0 | 28.2 | 30.9 |" in table


def test_figures_of_stopped_runs_alone_are_left_out():
    runs = [record("random", "pair-1-2"), record("gabor-1", "pair-1-2")]
    runs[1] = dataclasses.replace(
        runs[1], stopped="the loss is not finite in epoch 2, in training step 1"
    )
    shown = {
        "labels": {"random": "Random", "gabor-1": "Gabor"},
        "authors": {},
        "baseline": "random",
        "subtitle": "",
        "figures": [
            {"stem": stem, "variants": variants, "title": stem, "palette": "categorical"}
            for stem, variants in (("both", ["random", "gabor-1"]), ("gabor", ["gabor-1"]))
        ],
    }
    table, figures = presentation.draw(runs, shown)
    assert set(figures) == {"both", "final_accuracy"}
    assert "Gabor" in table
    table, figures = presentation.draw(runs[1:], shown)
    assert not figures
    assert "Gabor" in table


def test_bad_results_get_a_sentence(results, tmp_path):
    with pytest.raises(UserError, match="no experiment has written its summary"):
        report.write(tmp_path / "nothing", tmp_path / "report")
    file = results / "gabor" / "gabor.json"
    whole = json.loads(file.read_text())
    for damage, words in (
        ({"shown": {}}, "does not say what to show"),
        ({"variants": {"random": {}}}, "is not a summary"),
        ({"schema_version": 7}, "has schema version 7"),
    ):
        file.write_text(json.dumps(whole | damage))
        with pytest.raises(UserError, match=words):
            report.write(results, results / "report")


def test_the_whole_paper_plans_each_thing_once(tmp_path, capsys):
    """Planned, not run: random initialisation is wanted by six experiments and trained once."""
    experiments = ("baselines", "gabor", "source_models", "initialized_layers")
    folders = ("--output", str(tmp_path), "--models-dir", str(tmp_path / "sources"))
    options = paper.parse(["--experiments", *experiments, *folders])
    plans = paper.plans(options, Progress(0))
    each = [plan.work() for plan in plans]
    total = {name for work in each for name in work}
    assert sum(len(work) for work in each) > len(total)
    said = capsys.readouterr().err
    # random and pretrained; 3 × Gabor; 2 distances × 2 numbers of models; 2 × 3 numbers of layers,
    # of which all 17 layers of both models are in both; two pairs each; and 2 source models.
    runs = 2 * (2 + 3 + 4 + 6 - 2)
    assert f"4 experiments; {runs + 2} runs and source models to train" in said
