"""Evidence: from a summary alone, tables and figures that say what is settled."""

import json
import re

import pytest

from experiments import evidence
from experiments.cli.errors import UserError
from experiments.records import averages, summaries
from experiments.records.shown import Family, Shown
from tests.experiments.small import run, sealed

SHOWN = Shown(
    labels={"random": "Random", "good": "Good", "same": "Same"},
    figures=(),
    authors={},
    baseline="random",
    families=(
        Family("main", "Against random", [("Good", "good", "random"), ("Same", "same", "random")]),
        Family(
            "causes",
            "What it is due to",
            [("its filters", "good", "same"), ("none ran", "good", "absent")],
        ),
    ),
    subtitle="CIFAR-100: 8 pairs × 1 seed a variant",
)


@pytest.fixture
def results(tmp_path):
    records = []
    for task in range(8):
        for variant, shift in (("random", 0), ("good", 4 + 0.2 * task), ("same", 0.2)):
            values = [20.0 + task, 50.0 + task + shift, 50.0 + task + shift, 50.0 + task + shift]
            one = run(variant, values, task=f"pair-{task}-9")
            norms = {f"norm/layer{i}": [8.0 + shift, 9.0, 9.0, 9.0] for i in range(7)}
            turns = {"turn/layer0": [0.0 if variant == "same" else 30.0 + shift, 9.0, 1.0, 1.0]}
            changes = {"experiment": "ablations", "curves": {**one.curves, **norms, **turns}}
            records.append(run(variant, values, task=one.task, **changes))
    summaries.write_summary(records, tmp_path / "ablations", SHOWN)
    return tmp_path / "ablations"


def rows(text, heading):
    part = text.split(f"## {heading}")[1].split("##")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_tables_say_what_is_settled_and_what_is_not(results, tmp_path):
    written = {path.name for path in evidence.write(results, tmp_path / "out")}
    text = (tmp_path / "out" / "evidence.md").read_text()
    pictures = {f"evidence-{name}.png" for name in ("main", "causes", "norms", "turns")}
    assert {"evidence.md", *pictures} <= written
    assert all(name in written for name in re.findall(r"\((\S+\.png)\)", text))
    good, same = rows(text, "Against random")
    assert good[:3] == ["Good", "8", "8"]
    assert good[3].startswith("+4.7 [+4.4, +5.")  # 4 + 0.2·3.5, by eight tasks
    assert good[4:7] == [f"{2 / 2**8:.3f}", f"{4 / 2**8:.3f}", "1.00"]
    assert good[-1] == "better"
    assert same[3] == "+0.2 [+0.2, +0.2]"
    ((asked, *_, p, adjusted, _, _, _),) = rows(text, "What it is due to")
    assert (asked, p, adjusted) == ("its filters", "0.008", "0.016")  # two were asked
    assert "Not run, but counted in the correction: 1." in text
    random, good, _ = rows(text, "Every start")
    assert random[:3] == ["Random", "8", "8"]
    assert random[3] == "53.5 ± 2.4"
    assert random[5] == "23.5 ± 2.4"  # after one epoch
    assert good[-3:] == ["2.0", "8 of 8", "0"]  # epochs to what random ends at, and stopped
    assert "Holm" in text


def test_the_command_line_and_what_it_refuses(results, tmp_path, capsys):
    evidence.main(["--results", str(results)])
    assert str(results / "evidence.md") in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        evidence.main(["--results", str(tmp_path)])
    assert "holds no summary" in capsys.readouterr().err
    file = summaries.write_summary([run("random", [1.0])], tmp_path / "broken", SHOWN)
    summary = json.loads(file.read_text())
    summary["shown"]["families"][0]["contrasts"][0].pop()
    file.write_text(sealed(json.dumps(summary)))
    with pytest.raises(UserError, match=r"does not say what to show .*contrasts\.0\.2"):
        evidence.write(tmp_path / "broken", tmp_path)
    del summary["shown"]["families"]  # as it was written before there were any
    file.write_text(sealed(json.dumps(summary)))
    with pytest.raises(UserError, match="does not say what to compare"):
        evidence.write(tmp_path / "broken", tmp_path)


def test_one_task_settles_nothing_and_stopped_runs_are_counted(tmp_path):
    why = "the loss is not finite in epoch 1, in training step 1"
    runs = [run("random", [50.0] * 3), run("good", [60.0] * 3), run("same", [], stopped=why)]
    summaries.write_summary(runs, tmp_path, SHOWN)
    evidence.write(tmp_path, tmp_path)
    text = (tmp_path / "evidence.md").read_text()
    ((name, tasks, _, difference, p, *_, verdict),) = rows(text, "Against random")
    assert (name, tasks, difference, p, verdict) == ("Good", "1", "+10.0", "1.000", "open")
    assert rows(text, "Every start")[2][-1] == "1"


def test_norms_are_of_layers_evenly_spread(results):
    records, labels = summaries.read(results).runs, SHOWN.labels
    norms = averages.layer_curves(records, labels, "norm")
    assert list(norms) == ["layer0", "layer2", "layer3", "layer4", "layer6"]
    assert norms["layer0"]["same"] == pytest.approx([8.2, 9.0, 9.0, 9.0])
    turns = averages.layer_curves(records, labels, "turn")
    assert list(turns) == ["layer0"]
    assert turns["layer0"]["same"] == pytest.approx([0.0, 9.0, 1.0, 1.0])
    assert averages.layer_curves([run("random", [1.0])], labels, "turn") == {}
