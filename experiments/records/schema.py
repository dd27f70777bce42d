"""Makes `run.schema.json` of `RunRecord`: `python -m experiments.records.schema` writes it."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from experiments.records.files import SCHEMA_VERSION
from experiments.records.run_record import RunRecord

FILE = Path(__file__).with_name("run.schema.json")


def of_runs() -> dict[str, Any]:
    """Returns the schema of a run's file, and of a line of `runs.jsonl`."""
    model = TypeAdapter(RunRecord).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One training run",
        "description": "<folder>/runs/<experiment>.<variant>.<task>.seed-<seed>.json, or a line of "
        f"<folder>/runs.jsonl, version {SCHEMA_VERSION}. Numbers that are not finite are null.",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema_version", *model["required"]],
        "properties": {
            "schema_version": {"enum": list(range(1, SCHEMA_VERSION + 1))},
            "checksum": {
                "type": "string",
                "description": "From version 2 on: the SHA-256, in hexadecimal, of all else as "
                "JSON with sorted keys, as Python's json.dumps writes it.",
            },
            **{name: _untitled(of) for name, of in model["properties"].items()},
        },
        "if": {"properties": {"schema_version": {"const": SCHEMA_VERSION}}},
        "then": {"required": ["checksum"]},
        "else": {"not": {"required": ["checksum"]}},
        "$defs": {name: _untitled(of) for name, of in model["$defs"].items()},
    }


def _untitled(schema: Any) -> Any:
    """Leaves out the titles that only repeat names."""
    if not isinstance(schema, dict):
        return schema
    return {name: _untitled(of) for name, of in schema.items() if name != "title"}


def text() -> str:
    """Returns what the file holds."""
    return json.dumps(of_runs(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)
