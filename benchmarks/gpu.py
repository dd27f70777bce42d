"""Everything that is to be measured on a GPU, in one command, within a time budget.

Each part of `gpu_plan.PARTS` runs in a process of its own, stopped when its share of the time is
spent, so that one that fails or hangs costs nothing that is finished; the file of results is
written anew after each. What was compiled is kept beside it for the next start.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import gpu_plan
from benchmarks.gpu_plan import PARTS, SMALL, Part, Sizes

_MINUTES = 9  # which the shares of the parts are of
_CLOSING = 3.0  # seconds that are kept for the table

Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures part after part, and prints one table."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/gpu/gpu.json"))
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="for everything")
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--small", action="store_true", help="toy sizes, on the CPU")
    parser.add_argument("--cache", type=Path, help="of compiled programs (beside the output)")
    options = parser.parse_args(argv)
    output: Path = options.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    cache = options.cache or output.parent / f"{output.stem}-compiled"
    sizes = SMALL if options.small else Sizes()
    start = time.monotonic()
    deadline = start + 60 * options.minutes - _CLOSING
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            if part.name not in options.parts:
                continue
            left = deadline - time.monotonic()
            # Toys take what starting a process takes, whatever their part is.
            share = left if options.small else part.share * options.minutes / _MINUTES
            seconds = min(share, left)
            file = Path(folder) / part.name
            done.append(run(part, file, seconds, cache, small=options.small))
            found = summary(done, sizes, options.parts, small=options.small)
            found |= {"minutes": options.minutes, "seconds": round(time.monotonic() - start, 1)}
            write(found, output)
            print(f"{part.name}: {done[-1]['status']}, {done[-1]['seconds']:.0f} s", flush=True)
    print(table(summary(done, sizes, options.parts, small=options.small)))
    print(f"written: {output}")


def run(part: Part, file: Path, seconds: float, cache: Path, *, small: bool) -> dict[str, Any]:
    """Runs one part in a process of its own.

    Args:
        part: Which.
        file: That it writes its lines to.
        seconds: After which it is stopped, with all that it started.
        cache: Folder of compiled programs.
        small: At toy sizes, on the CPU.

    Returns:
        The part's name, status, seconds and lines.
    """
    command = [sys.executable, "-m", "benchmarks.gpu_parts", part.name, str(file)]
    command += ["--small"] if small else []
    start = time.monotonic()
    status = attempt(command, seconds, environment(part, cache, small=small))
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {
        "part": part.name,
        "status": status,
        "seconds": round(time.monotonic() - start, 1),
        "lines": [json.loads(line) for line in lines],
    }


def environment(part: Part, cache: Path, *, small: bool) -> dict[str, str]:
    """What a part's process finds in its environment."""
    ours = {
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms:
        ours["JAX_PLATFORMS"] = f"{platforms},cpu"  # what the device is compared with
    if small or part.name in ("torch", "authors"):  # JAX must not hold PyTorch's device
        ours["JAX_PLATFORMS"] = "cpu"
    if small:
        ours["CUDA_VISIBLE_DEVICES"] = ""
        ours["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes most of the time
    return {**os.environ, **ours}


def attempt(command: Sequence[str], seconds: float, environment: dict[str, str]) -> str:
    """Runs a command for so many seconds at most, and says how it ended: "done", or why not."""
    if seconds < 1:
        return "no time was left"
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            _end_all(process)
        said.seek(0)
        last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
    return "done" if status == 0 else f"failed with status {status}: {last[:300]}"


def _end_all(process: subprocess.Popen[Any]) -> None:
    """Ends a process and those that it started, such as compilers."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def summary(
    done: Sequence[dict[str, Any]], sizes: Sizes, asked: Sequence[str], *, small: bool
) -> dict[str, Any]:
    """All that is known so far.

    Args:
        done: What `run` returned of each part so far.
        sizes: Of this run.
        asked: The parts that are to be run.
        small: Whether the sizes are toys, which limits say nothing of.
    """
    lines = [{**line, "part": part["part"]} for part in done for line in part["lines"]]
    rows = [line for line in lines if "name" in line]
    rows += list(_ratios(rows, sizes))  # whole before it is added, as they are looked for in it
    machine = {line["fact"]: line["text"] for line in lines if "fact" in line}
    unjudged = "toy sizes" if small else "a CPU" if machine.get("platform") == "cpu" else None
    statuses = {part["part"]: part["status"] for part in done}
    for part, name, most in gpu_plan.limits(sizes):
        if part not in asked:
            continue
        row: dict[str, Any] | None = next((row for row in rows if row["name"] == name), None)
        if row is None:
            status = statuses.get(part, "not yet")
            reason = _absence(rows, name, sizes) if status == "done" else f"{part}: {status}"
            rows.append(row := {"name": name, "part": part, "reason": reason})
        row["limit"] = most
        if "value" in row:
            passed = "pass" if row["value"] <= most else "fail"
            row["verdict"] = f"not judged: {unjudged}" if unjudged else passed
    for row in rows:
        if "value" not in row:
            row["verdict"] = f"not run: {row.pop('reason')}"
    return {
        "small": small,
        "machine": machine,
        "parts": [{key: part[key] for key in ("part", "status", "seconds")} for part in done],
        "numbers": rows,
    }


def _ratios(rows: Sequence[Row], sizes: Sizes) -> Iterable[Row]:
    """The ratios of what was measured, over the extremes of both."""
    for name, ratio in gpu_plan.ratios(sizes).items():
        above, below = (_best(rows, whose) for whose in (ratio.above, ratio.below))
        if above is None or below is None:
            continue
        yield {
            "name": name,
            "part": ratio.part,
            "value": ratio.times * above["value"] / below["value"],
            "unit": "",
            "n": min(above["n"], below["n"]),
            "least": ratio.times * above["least"] / below["most"],
            "most": ratio.times * above["most"] / below["least"],
            "of": [above["name"], below["name"]],
        }


def _best(rows: Sequence[Row], name: str) -> Row | None:
    """The smallest of the numbers of this name, or in one of the forms that there are of it."""
    found = [
        row
        for row in rows
        if "value" in row and (row["name"] == name or row["name"].startswith(f"{name} "))
    ]
    return min(found, key=lambda row: row["value"], default=None)


def _absence(rows: Sequence[Row], name: str, sizes: Sizes) -> str:
    """Why a number that needs others is not there, although its part is done."""
    ratio = gpu_plan.ratios(sizes).get(name)
    if ratio is None:
        return "its part did not tell it"
    needed = [whose for whose in (ratio.above, ratio.below) if _best(rows, whose) is None]
    reasons = [row["reason"] for row in rows if row["name"] in needed and "reason" in row]
    return "; ".join(reasons or [f"there is no {' and no '.join(needed)}"])


def write(found: dict[str, Any], path: Path) -> None:
    """Writes the results, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def table(found: dict[str, Any]) -> str:
    """Everything in lines of one table, after what the machine is."""
    lines = [f"{name}: {text}" for name, text in found["machine"].items()]
    lines += [
        f"part {part['part']}: {part['status']}, {part['seconds']:.0f} s" for part in found["parts"]
    ]
    lines += ["", "| what | value | n | range | limit | verdict |", "|---|---|---|---|---|---|"]
    for row in found["numbers"]:
        limit = f"≤ {row['limit']:g}" if "limit" in row else ""
        verdict = row.get("verdict", "")
        if "value" not in row:
            lines.append(f"| {row['name']} | | | | {limit} | {verdict} |")
            continue
        unit = f" {row['unit']}" if row["unit"] else ""
        spread = f"{row['least']:.4g} to {row['most']:.4g}" if row["n"] > 1 else ""
        lines.append(
            f"| {row['name']} | {row['value']:.4g}{unit} | {row['n']} | {spread} | {limit} | "
            f"{verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
