"""The report: from summaries alone, with what is missing named; and the paper's one command."""

import dataclasses
import json
import re

import pytest

from experiments import paper, report
from experiments.cli.errors import UserError
from experiments.cli.progress import Progress
from experiments.records import published, run_record, summaries
from experiments.records.run_record import RunRecord
from experiments.records.shown import Figure, Shown
from experiments.reporting import presentation, tables
from tests.experiments.small import sealed


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


SHOWN = Shown(
    labels={"random": "Random <b>", "gabor-1": "Gabor, 1 layer"},
    figures=(Figure("figure7", "Layers of Gabor filters", ("random", "gabor-1"), "sequential"),),
    authors={"random": "random_model"},
    baseline="random",
    subtitle="CIFAR-100: 2 pairs × 1 seeds a variant",
)


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
    shown, records, file = summaries.read(results / "gabor")
    assert shown == SHOWN
    assert file == results / "gabor" / "gabor.json"
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


def shown(variants, authors=None, experiment="figure9"):
    labels = {name: name.capitalize() for name in variants}
    figures = (Figure(experiment, "A title", tuple(variants)),)
    return Shown(
        labels=labels, figures=figures, authors=authors or {}, baseline="random", subtitle=""
    )


def test_table_1_has_the_authors_numbers_only_where_the_setting_is_theirs():
    long = [float(v) for v in range(1, 16)]
    variants = ("random", "fourier-k3", "fourier_real-k3")
    records = [record(variant, "all", "tiny_imagenet") for variant in variants]
    curves = dict.fromkeys((*run_record.METRICS, "learning_rate"), long)
    records = [dataclasses.replace(one, curves=curves) for one in records]
    theirs = {
        "random": "tiny_imagenet_random_models",
        "fourier_real-k3": "tiny_imagenet_clustered_models",
    }
    labels = {name: name.capitalize() for name in variants}
    table = tables.table_1(records, labels, theirs)
    text = table.markdown()
    assert "| Random | 1 | 5.0 | 15.0 | 14.0 | 28.2 | 30.9 |" in text
    assert "| Fourier-k3 | 1 | 5.0 | 15.0 | 14.0 | – | – |" in text
    clustered = published.curve("tiny_imagenet_clustered_models")
    assert table.rows[2][5:] == (f"{clustered[4]:.1f}", f"{clustered[14]:.1f}")
    assert "Theirs: 64×64" in text
    # Of other images none is theirs, and nothing is said of them.
    ours = tables.table_1(records, labels, {})
    epochs = ("after 5 epochs, %", "after 15 epochs, %", "mean of the last 3, %")
    assert ours.header == ("variant", "n", *epochs)
    assert all(len(row) == 5 for row in ours.rows)
    assert not ours.note


def test_each_table_is_shown_once(tmp_path):
    """Figures 2 and 3 are of one experiment, as are 4 and 8."""
    for experiment in ("clusters", "initialized_layers"):
        records = [record(name, "pair-1-2", experiment) for name in ("random", "euclidean-k3")]
        of = shown(("random", "euclidean-k3"))
        summaries.write_summary(records, tmp_path / experiment, of)
    report.write(tmp_path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    assert text.count("| Euclidean-k3 |") == page.count("<td>Euclidean-k3</td>") == 2
    assert page.count("<table>") == 2
    sections = text.split("## ")
    shows = [part.split(":")[0] for part in sections if "| Euclidean-k3 |" in part]
    assert shows == ["Figure 3", "Figure 4"]
    assert "final validation accuracy, %" in text
    assert "acc_top1" not in text + page
    assert "authors" not in text  # as there are none of this setting


def test_an_experiment_recorded_under_its_former_name_is_found(tmp_path):
    runs = [record(name, "pair-1-2", "alignment") for name in ("random", "aligned-1")]
    of = shown(("random", "aligned-1"), experiment="figure6")
    summaries.write_summary(runs, tmp_path / "alignment", of)
    written = {path.name for path in report.write(tmp_path, tmp_path / "report")}
    assert "aligned_filters-figure6.png" in written
    # Run again into the same folder, it has a summary under its present name as well, which counts.
    again = [dataclasses.replace(run, experiment="aligned_filters") for run in runs[:1]]
    summaries.write_summary(again, tmp_path / "alignment", of)
    found = report.find(tmp_path, "aligned_filters")
    assert found is not None
    assert len(found.runs) == 1


def test_figures_of_stopped_runs_alone_are_left_out():
    runs = [record("random", "pair-1-2"), record("gabor-1", "pair-1-2")]
    runs[1] = dataclasses.replace(
        runs[1], stopped="the loss is not finite in epoch 2, in training step 1"
    )
    both, gabor = ("random", "gabor-1"), ("gabor-1",)
    figures = (Figure("both", "both", both), Figure("gabor", "gabor", gabor))
    of = dataclasses.replace(shown(both), figures=figures)
    table, drawn = presentation.draw(runs, of)
    assert set(drawn) == {"both", "final_accuracy"}
    assert "Gabor-1" in table.markdown()
    table, drawn = presentation.draw(runs[1:], of)
    assert not drawn
    assert "Gabor-1" in table.markdown()


def test_bad_results_get_a_sentence(results, tmp_path):
    with pytest.raises(UserError, match="no experiment has written its summary"):
        report.write(tmp_path / "nothing", tmp_path / "report")
    file = results / "gabor" / "gabor.json"
    whole = json.loads(file.read_text())
    for damage, words in (
        ({"shown": {}}, "does not say what to show: run its experiment again"),
        ({"shown": {"labels": {}}}, "does not say what to show .it lacks figures"),
        ({"shown": whole["shown"] | {"labels": {"random": "x"}}}, "figure7 shows gabor-1, which"),
        ({"shown": whole["shown"] | {"authors": {"random": "x"}}}, "published no 'x'"),
        ({"shown": whole["shown"] | {"colour": 1}}, "it has unknown colour"),
        ({"variants": {"random": {}}}, "is not a summary"),
        ({"schema_version": 7}, "has schema version 7"),
    ):
        file.write_text(sealed(json.dumps(whole | damage)))
        with pytest.raises(UserError, match=words) as caught:
            report.write(results, results / "report")
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


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
