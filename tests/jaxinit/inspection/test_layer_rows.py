"""The table, and the numbers for programs."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest

from jaxinit import inspection
from jaxinit.inspection import layer_rows


@pytest.fixture(scope="module")
def found(params):
    return inspection.examine(params, reference=jax.tree.map(jnp.negative, params), live={})


def test_the_table_is_aligned_and_has_a_column_for_each_number(found):
    lines = str(found).split("\n\n")[0].splitlines()
    assert lines[0].split() == (
        ["layer", "kernel", "live", "norm", "step", "angle", "entropy", "of", "random", "sparse"]
    )
    assert len({len(line) for line in lines}) == 1
    row = found.rows[1]
    assert lines[2].split() == [
        "layer1_0/conv1",
        "3×3×8×8",
        "9/9",
        f"{row.relative_norm:.2f}",
        f"{row.effective_step:.3}",
        "180.0°",
        f"{row.variance_entropy:.3f}",
        f"{row.entropy_ratio:.2f}",
        "0.0",
        "%",
    ]


def test_columns_without_numbers_are_left_out(bank):
    head = str(inspection.examine(bank)).splitlines()[0]
    assert head.split() == ["layer", "kernel", "slice", "norm", "entropy", "of", "random", "sparse"]


def test_the_table_fits_a_hundred_columns(found):
    row = dataclasses.replace(
        found.rows[1],
        name="a" * 70 + "/the_end",
        shape=(11, 11, 2048, 2048),
        relative_norm=1.234e-5,
        effective_step=6.567e9,
    )
    text = layer_rows.table([row])
    assert max(map(len, text.splitlines())) <= 100
    assert "the_end " in text


def test_numbers_are_plain(found):
    text = json.dumps(found.to_dict(), allow_nan=False)
    plain = json.loads(text)
    assert plain["kind"] == "params"
    first, row = plain["layers"][0], found.rows[0]
    assert first["name"] == "conv1"
    assert first["shape"] == [7, 7, 3, 8]
    assert first["relative_norm"] == row.relative_norm
    assert first["random_entropy"] is first["entropy_ratio"] is None
    assert plain["layers"][1]["entropy_ratio"] == found.rows[1].entropy_ratio


def test_what_is_not_finite_is_shown_and_is_no_number_in_json():
    kernel = jnp.ones((3, 3, 2, 4)).at[0, 0, 0, 0].set(jnp.nan)
    found = inspection.examine({"conv1": {"kernel": kernel}})
    assert "nan" in str(found)
    assert math.isnan(found.rows[0].sparsity)
    assert found.to_dict()["layers"][0]["variance_entropy"] is None


@pytest.mark.parametrize(
    ("name", "most", "expected"),
    [("conv1", 5, "conv1"), ("layer1_0/conv1", 9, "laye…onv1"), ("layer1_0/conv1", 8, "lay…onv1")],
)
def test_names_lose_their_middle(name, most, expected):
    assert layer_rows.shortened(name, most) == expected
    assert len(expected) <= most
