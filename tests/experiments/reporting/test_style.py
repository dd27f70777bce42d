import pytest
from matplotlib.figure import Figure

from experiments.cli.errors import UserError
from experiments.reporting import learning_curves, style
from tests.experiments.small import runs


def test_saved_files_are_the_same_each_time(tmp_path):
    labels = {"random": "random", "k3": "3 clusters"}
    files = []
    for folder in ("a", "b"):
        figure = learning_curves.curves_figure(
            runs(labels), variants=labels, title="A title", subtitle="2 runs"
        )
        files.append(style.save(figure, tmp_path / folder, "figure"))
    assert [p.name for p in files[0]] == ["figure.png", "figure.svg"]
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert files[0][0].read_bytes()[:4] == b"\x89PNG"
    assert b"<dc:date>" not in files[0][1].read_bytes()


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the output folder"):
        style.save(Figure(), tmp_path / "file", "figure")
