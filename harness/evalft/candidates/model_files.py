"""The files of one open model or adapter: found, checked and identified before anything heavy is imported or loaded.

A model is a folder as `save_pretrained` writes it, or a hub id, whose files are fetched into the hub's cache (a folder
named after the commit). Every reason why it cannot be loaded that the files themselves show is a `CannotStart` line
here: no such folder, no safetensors (a pickle runs code when it is read, so `.bin` is refused), files cut off, code
of the model's own, an unknown architecture. Format of safetensors: 8 bytes little-endian header length, JSON header
`{name: {dtype, shape, data_offsets}}`, data.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evalft.errors import CannotStart

ANSWER_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
"""What decides a model's answers: weights, configs, tokenizer, chat template."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TEMPLATE_TOKENS = 16
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True)
class ModelFiles:
    """A checked folder with safetensors in it, `config` being its config.json (or adapter_config.json)."""

    folder: Path
    config: dict[str, Any]
    hub: str | None = None
    """id@commit where it came from the hub."""

    @cached_property
    def parameters(self) -> int:
        headers = [_header(file) for file in _weights(self.folder)]
        return sum(math.prod(tensor["shape"]) for header in headers for tensor in header.values())

    @cached_property
    def digest(self) -> str:
        """The hub's commit, else sha256 over names and contents: the same model in another folder has the same one."""
        if self.hub:
            return self.hub
        whole = hashlib.sha256()
        for file in sorted({file for pattern in ANSWER_FILES for file in self.folder.glob(pattern)}):
            with file.open("rb") as stream:
                whole.update(f"{file.name}\n{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    @property
    def is_classifier(self) -> bool:
        """A sequence classifier scores its own labels on the raw input: it takes no instruction and generates nothing."""
        return any(str(name).endswith("ForSequenceClassification") for name in self.config.get("architectures") or ())


def find_model(spec: str, revision: str | None, where: str) -> ModelFiles:
    """The model that `spec` (folder or hub id) names; `where` begins each line of the CannotStart it may raise."""
    folder, hub = _folder(spec, revision, where, "model")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise CannotStart(f"{where}: {spec} is an adapter; name it at `adapter:` and its base model at `model:`")
        raise CannotStart(f"{where}: {spec} has no config.json; name the folder that save_pretrained wrote")
    config = _json(folder / "config.json", where)
    _check_weights(folder, spec, where)
    return ModelFiles(folder, config, hub)


def find_adapter(spec: str, where: str) -> ModelFiles:
    """The peft adapter that `spec` names."""
    folder, hub = _folder(spec, None, where, "adapter")
    if not (folder / "adapter_config.json").is_file():
        raise CannotStart(f"{where}: adapter {spec} has no adapter_config.json; name the folder that peft wrote")
    _check_weights(folder, spec, where, "adapter_model.safetensors")
    return ModelFiles(folder, _json(folder / "adapter_config.json", where), hub)


def check_architecture(config: dict[str, Any], spec: str, where: str) -> None:
    """CannotStart unless transformers itself has the architecture (this imports transformers: seconds)."""
    try:
        from transformers import CONFIG_MAPPING, __version__
    except ImportError:
        raise CannotStart(f"{where}: an hf: model needs torch and transformers; pip install 'evalft[local]'") from None
    kind = config.get("model_type")
    if kind in CONFIG_MAPPING:
        return
    if config.get("auto_map"):
        raise CannotStart(
            f"{where}: {spec} brings code of its own (trust_remote_code), which evalft does not run; "
            "choose a model whose architecture transformers knows"
        )
    raise CannotStart(
        f"{where}: transformers {__version__} does not know the architecture {kind!r} of {spec}; "
        "pip install -U transformers, or choose another model"
    )


def reads_raw_input(spec: str) -> bool:
    """Whether `spec` is a folder here that holds a sequence classifier, so that its prompt is the input alone."""
    try:
        config = json.loads((Path(spec) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and ModelFiles(Path(spec), config).is_classifier


def share_that_fits(spec: str, texts: Sequence[str], answers: Sequence[str]) -> float | None:
    """Of the prompts `texts`, the share that leaves a local model room for the longest of `answers`; a chat template's
    own tokens are allowed for. None where the folder does not tell (no tokenizer.json, no context length)."""
    folder = Path(spec)
    try:
        from tokenizers import Tokenizer

        context = json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the tokenizers library raises plain Exceptions for a file it cannot read; loading will say why
        return None
    longest = max((len(tokenizer.encode(answer).ids) for answer in answers), default=0)
    fits = [
        len(encoding.ids) + longest + TEMPLATE_TOKENS <= context for encoding in tokenizer.encode_batch(list(texts))
    ]
    return sum(fits) / len(fits) if fits else None


def available_memory_bytes() -> int | None:
    """Memory a new allocation can have here: the machine's, or less where a control group caps it; None: not known."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(min(found), 0) if found else None


# ---------------------------------------------------------------- where the files are


def is_path(spec: str) -> bool:
    """Whether a spec can only be a folder: a hub id is OWNER/NAME."""
    return spec.startswith((".", "/", "~")) or spec.count("/") > 1


def _folder(spec: str, revision: str | None, where: str, kind: str) -> tuple[Path, str | None]:
    path = Path(spec).expanduser()
    if path.is_dir():
        return path, None
    if is_path(spec):
        raise CannotStart(f"{where}: there is no folder {spec}; check the path of the {kind}")
    return _from_hub(spec, revision, where, kind)


def _from_hub(spec: str, revision: str | None, where: str, kind: str) -> tuple[Path, str]:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise CannotStart(f"{where}: the hub needs huggingface-hub; pip install 'evalft[local]'") from None
    at = f"{spec}@{revision}" if revision else spec
    try:
        folder = snapshot_download(
            spec, revision=revision, allow_patterns=list(ANSWER_FILES), ignore_patterns=["*/*", "consolidated*"]
        )
    except errors.HFValidationError:
        raise CannotStart(f"{where}: {spec!r} is neither a folder here nor a hub id such as Qwen/Qwen3-0.6B") from None
    except errors.GatedRepoError:
        raise CannotStart(
            f"{where}: {at} asks for its terms to be accepted first; accept them on its hub page, then set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise CannotStart(
            f"{where}: {spec} has no revision {revision!r}; see the branches and tags on its page"
        ) from None
    except errors.RepositoryNotFoundError:
        raise CannotStart(
            f"{where}: the hub has no {kind} {spec} (or it is private), and there is no such folder; check the name, or set HF_TOKEN"
        ) from None
    except Exception as error:  # offline, proxy, disk full: the hub's client raises those of its HTTP library too
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CannotStart(
            f"{where}: {at} is not in the hub's cache and could not be fetched ({reason}); "
            f"connect to the hub, or give the {kind}'s folder"
        ) from None
    return Path(folder), f"{spec}@{Path(folder).name}"


# ---------------------------------------------------------------- what the files show


def _check_weights(folder: Path, spec: str, where: str, pattern: str = "*.safetensors") -> None:
    weights = sorted(folder.glob(pattern))
    if not weights:
        pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
        if pickles:
            raise CannotStart(
                f"{where}: {spec} has only pickled weights ({pickles[0]}), which can run code when they are read; where "
                "you trust them, convert them: load with from_pretrained and write with save_pretrained, which makes "
                "safetensors"
            )
        raise CannotStart(f"{where}: {spec} has no {pattern}; write it with save_pretrained")
    for file in weights:
        try:
            header = _header(file)
            end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
            complete = file.stat().st_size >= 8 + _header_bytes(file) + end
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            complete = False
        if not complete:
            raise CannotStart(f"{where}: {file} is not a whole safetensors file; fetch or write it again")


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _header_bytes(file: Path) -> int:
    with file.open("rb") as stream:
        return int.from_bytes(stream.read(8), "little")


def _header(file: Path) -> dict[str, dict[str, Any]]:
    length = _header_bytes(file)
    if length > min(MAX_HEADER_BYTES, file.stat().st_size):
        raise ValueError("the header is longer than the file")
    with file.open("rb") as stream:
        stream.seek(8)
        header: dict[str, dict[str, Any]] = json.loads(stream.read(length))
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}


def _json(file: Path, where: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"{where}: {file} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise CannotStart(f"{where}: {file} is not a JSON object; fetch or write it again")
    return data
