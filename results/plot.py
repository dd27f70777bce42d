"""Reads recorded runs into pandas and plots them; needs pandas and matplotlib, nothing of jaxinit.

    python results/plot.py results/cifar100-clusters curves.png

Every line of `<folder>/runs.jsonl` is one run, and so is every file of `<folder>/runs`, which
counts where it is of the same; `experiments/records/run.schema.json` says what is in them.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

NAMES = ("experiment", "variant", "task", "seed")


def read(folder: Path) -> pd.DataFrame:
    """Returns a row for each epoch of each run in a folder: its names, and its curves."""
    runs = {}
    for file in (*folder.glob("runs.jsonl"), *sorted(folder.glob("runs/*.json"))):
        for line in file.read_text(encoding="utf-8").strip().split("\n"):
            run = json.loads(line)
            runs[tuple(run[name] for name in NAMES)] = run
    frames = []
    for names, run in runs.items():
        frame = pd.DataFrame(run["curves"]).rename_axis("epoch").reset_index()
        named = dict(zip(NAMES, names, strict=True))
        frames.append(frame.assign(epoch=frame["epoch"] + 1, **named))
    if not frames:
        print(f"no runs in {folder}: give the folder of an experiment", file=sys.stderr)
        sys.exit(2)
    return pd.concat(frames, ignore_index=True)


def main(folder: str, picture: str) -> None:
    """Plots each variant's mean validation accuracy, and prints that of the last epoch."""
    runs = read(Path(folder))
    accuracy = runs.pivot_table(index="epoch", columns="variant", values="val_acc_top1")
    axes = accuracy.plot(xlabel="epoch", ylabel="validation accuracy (%)", figsize=(8, 5))
    axes.set_title(f"{runs['task'].nunique()} tasks × {runs['seed'].nunique()} seeds, means")
    axes.grid(color="#e6e6e6")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    plt.savefig(picture, dpi=110, bbox_inches="tight")
    last = runs[runs["epoch"] == runs["epoch"].max()]
    print(last.groupby("variant")["val_acc_top1"].agg(["count", "mean", "std"]).round(1))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python results/plot.py FOLDER PICTURE", file=sys.stderr)
        sys.exit(2)
    try:
        main(sys.argv[1], sys.argv[2])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        print(f"{sys.argv[1]} cannot be drawn as {sys.argv[2]} ({what})", file=sys.stderr)
        sys.exit(2)
