import json
import math

import pytest

from experiments.cli.errors import UserError
from experiments.records import run_record, summaries
from experiments.reporting import tables
from tests.experiments.small import run


def test_table_by_hand():
    runs = [
        run("random", [10] * 4),
        run("random", [20] * 4, seed=1),
        run("k3", [13] * 4),
        run("k3", [25] * 4, seed=1),
        run("k3", [math.nan] * 4, seed=2, stopped="x"),
    ]
    table = tables.results_table(runs, authors={"k3": [0, 60, 61, 62, 99]}).markdown(aligned=True)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[:4]]
    assert lines[0][2] == "final validation accuracy, %"
    assert lines[0][4] == "authors (carried over)"
    assert lines[0][3] == "difference from random (pairs)"
    assert lines[2] == ["random", "2", "15.0 ± 7.1", "–", "–", "0"]
    assert lines[3] == ["k3", "2", "19.0 ± 8.5", "+4.0 ± 1.4 (2)", "61.0", "1"]
    assert "Data: cifar100. Device: cpu. Wall time: 10 s." in table
    assert len({len(line) for line in table.splitlines()[:4]}) == 1


def test_table_shows_the_labelled_variants_in_their_order():
    runs = [run("random", [10] * 3), run("k3", [13] * 3), run("k9", [1] * 3)]
    table = tables.results_table(
        runs, labels={"k3": "3 clusters", "random": "Random"}, metric="val_loss"
    )
    assert [row[0] for row in table.rows] == ["3 clusters", "Random"]
    assert table.header[2:4] == (
        "final validation loss, cross-entropy, nats",
        "difference from Random (pairs)",
    )
    assert table.rows[0][3] == "+3.000 (1)"
    assert table.header[-1] == "stopped"
    assert not any("authors" in name for name in table.header)  # where there are no numbers of them
    assert "k9" not in table.markdown()


def test_one_layout_of_tables():
    table = tables.Table(("a", "long"), [("1", "–"), ("22", "–")], "Note.")
    assert table.markdown() == "| a | long |\n|---|---|\n| 1 | – |\n| 22 | – |\n\nNote."
    aligned = "| a  | long |\n| -- | ---- |\n| 1  | –    |\n| 22 | –    |\n\nNote."
    assert table.markdown(aligned=True) == aligned
    assert table.without_empty(0, 1) == tables.Table(("a",), [("1",), ("22",)], "Note.")


def test_summary_file(tmp_path):
    runs = [
        run("random", [10.0, 20.0]),
        run("random", [12.0, 20.0], seed=1),
        run("k3", [13.0, math.nan], stopped="loss not finite in epoch 2, step 1"),
    ]
    path = summaries.write_summary(runs, tmp_path)
    assert path == tmp_path / "clusters.json"
    text = path.read_text()
    assert "NaN" not in text
    data = json.loads(text)
    assert data["settings"] == {"data_set": "cifar100", "lr": 0.1}
    assert data["environments"] == [{"device": "cpu"}]
    assert data["wall_seconds"] == 6.0
    assert data["procedural"] is False
    random = data["variants"]["random"]
    assert random["mean"].keys() == set(run_record.METRICS)
    assert random["mean"]["val_loss"] == [11.0, 20.0]
    assert random["min"]["val_loss"] == [10.0, 20.0]
    assert random["max"]["val_loss"] == [12.0, 20.0]
    assert random["std"]["val_loss"] == [pytest.approx(math.sqrt(2)), 0.0]
    assert random["lr_list"] == [pytest.approx(0.1)] * 2
    assert [r["date"] for r in random["runs"]] == ["day 0", "day 1"]
    assert random["runs"][1]["curves"]["val_acc_top1"] == [12.0, 20.0]
    assert random["runs"][1]["settings"] == {"initializer": {"kind": "random"}}
    clustered = data["variants"]["k3"]
    assert (clustered["n"], clustered["stopped"]) == (0, 1)
    assert clustered["mean"]["val_loss"] == [None, None]
    assert clustered["runs"][0]["stopped"].startswith("loss not finite")


def test_procedural_output_says_so(tmp_path):
    runs = [run("random", [10.0] * 3, settings={"data_set": "procedural"})]
    assert summaries.write_summary(runs, tmp_path).name == "clusters-procedural.json"
    table = tables.write_table("| a |", runs, tmp_path)
    assert table.name == "clusters-procedural.md"
    assert table.read_text() == "# clusters – procedural data\n\n| a |\n"


def test_table_file_of_real_data(tmp_path):
    path = tables.write_table("| a |", [run("random", [10.0])], tmp_path)
    assert path == tmp_path / "clusters.md"
    assert path.read_text().startswith("# clusters\n")


def test_output_of_no_or_two_experiments_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of no experiments"):
        summaries.write_summary([], tmp_path)
    runs = [run("random", [1.0]), run("random", [1.0], experiment="layers")]
    with pytest.raises(ValueError, match=r"\['clusters', 'layers'\]"):
        summaries.write_summary(runs, tmp_path)


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the output folder"):
        summaries.write_summary([run("random", [1.0])], tmp_path / "file")
