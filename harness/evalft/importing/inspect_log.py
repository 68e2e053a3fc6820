"""Logs of inspect-ai (EvalLog, version 2): a .json file, or an .eval archive of header.json and samples/*.json."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalft.errors import UserError
from evalft.importing.imported import Imported, Row, as_score, as_target, as_text, json_of

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What inspect's own value_to_float makes of a score's value where no other letters are asked for."""
ZSTD = 93
"""APPNOTE.TXT 4.4.5: the compression method."""
AS_JSON = "write it as JSON with `inspect log convert --to json --output-dir DIR FILE` and import that"


def read_archive(path: Path) -> Imported:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "header.json" not in names:
                raise UserError(f"{path}: has no header.json: the evaluation did not end, or this is no log of inspect")
            if any(name.startswith("samples/") and name.endswith("/sample.json") for name in names):
                raise UserError(f"{path}: keeps samples in parts, which is not read here; {AS_JSON}")
            header = json_of(path, _member(archive, "header.json").decode())
            samples = (
                json_of(path, _member(archive, name).decode())
                for name in sorted(names)
                if name.startswith("samples/") and name.endswith(".json")
            )
            return _imported(path, header, samples)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a file in the archive. inspect compresses with zstd, which zipfile knows from Python 3.14 on; Arrow does."""
    found = archive.getinfo(name)
    if found.compress_type != ZSTD:
        return archive.read(name)
    import pyarrow as pa

    assert archive.fp is not None, "the archive is open"
    archive.fp.seek(found.header_offset)
    local = archive.fp.read(
        30
    )  # APPNOTE.TXT 4.3.7: the last two fields are the lengths of the name and of what is extra
    archive.fp.seek(sum(struct.unpack("<HH", local[26:30])), 1)
    packed = pa.BufferReader(archive.fp.read(found.compress_size))
    whole: bytes = pa.CompressedInputStream(packed, "zstd").read()
    if zlib.crc32(whole) != found.CRC:
        raise zipfile.BadZipFile(f"{name} is damaged")
    return whole


def read_json(path: Path, log: Mapping[str, Any]) -> Imported:
    return _imported(path, log, iter(log["samples"] or ()))


def _imported(path: Path, log: Mapping[str, Any], samples: Iterator[Mapping[str, Any]]) -> Imported:
    try:
        model, task = str(log["eval"]["model"]), str(log["eval"]["task"])
        found = Imported("inspect", task, answers={model: []})
        for sample in samples:
            id = f"{sample['id']}-{sample['epoch']}"
            row = {
                "id": id,
                "input": _resolved(sample, as_text(sample["input"])),
                "target": as_target(sample["target"]),
            }
            found.rows[id] = row | {"group": str(sample["id"])}
            found.answers[model].append({"id": id} | _answer(sample, model))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(
            f"{path}: is no log of inspect as this version knows them ({error!r} is missing or another type)"
        ) from None
    if log.get("status") not in (None, "success"):
        found.said.append(f"the evaluation ended as {log.get('status')!r}: it may have more samples than its log")
    if len({row["group"] for row in found.rows.values()}) == len(found.rows):
        for row in found.rows.values():
            del row["group"]
    else:
        found.said.append("samples were run more than once (epochs): each is a row, grouped by sample")
    found.said.append(
        "the latency is inspect's working_time of a sample, its tokens those of the model that was evaluated"
    )
    return found


def _answer(sample: Mapping[str, Any], model: str) -> Row:
    usage = (sample.get("model_usage") or {}).get(model) or {}
    answer = {
        "latency_s": sample.get("working_time"),
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
    }
    if sample.get("error"):
        return answer | {"failure": "api_error", "message": str(sample["error"].get("message", ""))[:500]}
    output = sample.get("output") or {}
    text = output.get("completion")
    if not text and output.get("choices"):
        text = as_text([output["choices"][0]["message"]])
    return answer | {"text": _resolved(sample, text or ""), "scores": _scores(sample.get("scores") or {})}


def _scores(given: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    found = {}
    for scorer, score in given.items():
        value = score["value"]
        parts = {f"{scorer}/{key}": one for key, one in value.items()} if isinstance(value, dict) else {scorer: value}
        for name, one in parts.items():
            number = LETTERS.get(one, LETTERS.get(one.lower())) if isinstance(one, str) else as_score(one)
            if number is not None and math.isfinite(number):
                found[f"inspect/{name}"] = number
    return found


def _resolved(sample: Mapping[str, Any], text: str) -> str:
    """A long text may be kept beside the sample, under attachment://KEY."""
    return str((sample.get("attachments") or {}).get(text.removeprefix("attachment://"), text))
