"""One LoRA training from options to an adapter folder: what sft.py and dpo.py share.

The adapter is saved whole at the end, and training.json last: with it the folder is finished. Until then checkpoints/ holds
the newest two states. One counts only with a mark that was set once all of it was on disk, so a kill while it is written
leaves the one before; the same command goes on from there, and ends in the same weights, bit for bit on a CPU. (Resuming
reads optimizer and random states with torch.load(weights_only=True), which runs no code of the file's.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig, PrinterCallback, TrainerCallback
from transformers.utils import logging

from evalft.candidates.model_files import (
    ModelFiles,
    available_memory_bytes,
    check_architecture,
    find_adapter,
    find_model,
)
from evalft.candidates.model_loading import first_line, is_out_of_memory, load_model, load_tokenizer
from evalft.candidates.model_prompts import ModelPrompts
from evalft.errors import UserError
from evalft.recipes import command, tokens
from evalft.store import write_atomically

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MEMORY_SHARE = 0.3
"""Of the free memory, what the activations of one pass may take: the estimate knows no architecture."""
MOST_STEPS_LOST = 200
WHOLE = "whole"


@dataclass(frozen=True)
class Ready:
    """What a recipe makes its trainer from. `model` is the base, or the adapter to go on from on it (`lora` is None)."""

    model: Any
    tokenizer: Any
    lora: LoraConfig | None
    rows: list[tokens.TokenRow]
    arguments: dict[str, Any]
    """For trl's SFTConfig or DPOConfig."""


@dataclass(frozen=True)
class _Job:
    """A training with all that is settled before the model is loaded."""

    method: str
    options: argparse.Namespace
    digest: str
    base: ModelFiles
    adapter: ModelFiles | None
    tokenizer: Any
    data: tokens.Checked
    precision: str
    device: str
    said: list[str]


def train(
    method: str,
    options: argparse.Namespace,
    make_trainer: Callable[[Ready], Any],
    check: Callable[[Any], dict[str, float]] = lambda trainer: {},
) -> None:
    """Train an adapter into options.out, or go on with it. `check` sees the trainer before its first step, and what it
    measures goes into training.json. Raises UserError."""
    started = time.perf_counter()
    digest = command.digest(options)
    if command.finished(options.out, digest):
        print(f"{options.out} is finished")
        return
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of names by which the libraries call each other
    job = _settle(method, options, digest)
    share = _rows_per_process(options.batch_size)
    at_a_time = _rows_that_fit(job, share)
    while True:
        try:
            trainer = _make(job, at_a_time, make_trainer)
            measured = check(trainer)
            seconds, said = _run(trainer, job, started)
            break
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if at_a_time == 1 or _processes() > 1:
                raise UserError(
                    f"out of memory on {job.device} with {at_a_time} rows of up to {job.data.longest:,} tokens at a time; "
                    "lower tune.batch_size or tune.max_length, or choose a smaller base"
                ) from None
        # out here, where the exception no longer holds the tensors
        trainer = None
        at_a_time = max(divisor for divisor in _divisors(share) if divisor < at_a_time)
        torch.cuda.empty_cache()
    said = [*said, f"{at_a_time} rows at a time, {_times(share // at_a_time)} per step and process"]
    if _is_first():
        _finish(trainer, job, {"seconds": round(seconds, 3), "choices": [*job.said, *said], **measured})
    if torch.distributed.is_initialized():  # else a rank that is still at work dies with the first that ends
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _settle(method: str, options: argparse.Namespace, digest: str) -> _Job:
    base = find_model(options.base, options.revision, "tune.base")
    adapter = find_adapter(options.adapter, "--adapter") if getattr(options, "adapter", None) else None
    check_architecture(base.config, options.base, "tune.base")
    precision, device, said = _precision_and_device(options.precision)
    tokenizer = load_tokenizer(base, adapter, "tune.base")
    data, more = _prepare_rows(method, options, base, tokenizer)
    said = [*said, *more, *([f"goes on with the LoRA of {options.adapter}, which is the reference"] if adapter else [])]
    return _Job(method, options, digest, base, adapter, tokenizer, data, precision, device, said)


def _finish(trainer: Any, job: _Job, measured: Mapping[str, Any]) -> None:
    options = job.options
    lora = _save(trainer.accelerator.unwrap_model(trainer.model), options)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    done = {
        "method": job.method,
        "base": options.base,
        "rows": len(job.data.rows),
        "left_out": job.data.left_out,
        "epochs": options.epochs,
        "steps": trainer.state.global_step,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "lora": {
            "r": lora.r,
            "alpha": lora.lora_alpha,
            "dropout": lora.lora_dropout if job.method == "sft" else 0.0,
            "targets": sorted({name.rpartition(".")[2] for name in lora.target_modules}),
        },
        "max_length": job.data.longest,
        "precision": job.precision,
        "device": "cpu" if job.device == "cpu" else torch.cuda.get_device_name(),
        "processes": _processes(),
        "seed": options.seed,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "completion_tokens": sum(len(answer) for row in job.data.rows for answer in row.answers),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
        "digest": job.digest,
        **measured,
    }
    write_atomically(options.out / command.REPORT, json.dumps(done, indent=1, allow_nan=False) + "\n")
    shutil.rmtree(options.out / "checkpoints", ignore_errors=True)
    print(f"{options.out}: {done['steps']} steps, loss {losses[0]:.4f} -> {losses[-1]:.4f}, {done['seconds']:.0f} s")


# ---------------------------------------------------------------- the machine


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _precision_and_device(asked: str) -> tuple[str, str, list[str]]:
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    native = device != "cpu" and torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "float16" and device == "cpu":
        raise UserError("tune.precision: float16 cannot be trained on a CPU; set it to float32")
    if asked == "bfloat16" and device != "cpu" and not native:
        raise UserError("tune.precision: this GPU has no bfloat16; set it to float16 or float32")
    if asked != "auto":
        return asked, device, []
    # 16-bit arithmetic is several times slower on most CPUs
    precision = "float32" if device == "cpu" else "bfloat16" if native else "float16"
    return (
        precision,
        device,
        [f"precision {precision}, on {'a CPU' if device == 'cpu' else torch.cuda.get_device_name()}"],
    )


def _rows_per_process(batch_size: int) -> int:
    processes = _processes()
    if batch_size % processes:
        fewer = max(divisor for divisor in _divisors(batch_size) if divisor < processes)
        raise UserError(
            f"tune.processes: a batch of {batch_size} rows cannot be shared by {processes} processes; set "
            f"tune.processes to {fewer}, or tune.batch_size to a multiple of {processes}"
        )
    return batch_size // processes


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _rows_that_fit(job: _Job, share: int) -> int:
    """Of one process's share of a batch, how many rows go through the model at a time.

    A layer keeps about 17 values per token and hidden unit for the backward pass (Korthikanti et al. 2022, section 4, in
    bytes of 16-bit values). With activation checkpointing only one layer does, the others keep their inputs.
    """
    config = _text_config(job.base)
    layers, width = getattr(config, "num_hidden_layers", 32), getattr(config, "hidden_size", 4096)
    on_cpu, value_bytes = job.device == "cpu", VALUE_BYTES[job.precision]
    free = available_memory_bytes() if on_cpu else torch.cuda.mem_get_info(torch.device(job.device))[0]
    if free is None:
        return share
    free -= job.base.parameters * value_bytes  # not loaded yet
    values = (17 * layers if on_cpu else 17 + layers) * width
    row_bytes = job.data.longest * len(tokens.ANSWERS[job.method]) * values * value_bytes
    return max([divisor for divisor in _divisors(share) if divisor * row_bytes <= MEMORY_SHARE * free], default=1)


def _text_config(base: ModelFiles) -> Any:
    return AutoConfig.from_pretrained(base.folder, trust_remote_code=False).get_text_config()


# ---------------------------------------------------------------- rows


def _prepare_rows(
    method: str, options: argparse.Namespace, base: ModelFiles, tokenizer: Any
) -> tuple[tokens.Checked, list[str]]:
    text_rows = tokens.read(options.data, method)
    prompts = ModelPrompts(tokenizer, (), options.template_options)
    ends = _ends(base, tokenizer)
    end = tokens.end_token(tokenizer, ends, options.template_options)
    context = getattr(_text_config(base), "max_position_embeddings", None) or math.inf
    if options.max_length > context:
        raise UserError(
            f"tune.max_length: {options.max_length:,} is more than the base's context of {context:,} tokens"
        )
    most = options.max_length or context
    data = tokens.check(
        text_rows, tokens.encode(text_rows, prompts, end), ends, most, limit_is_context=not options.max_length
    )
    said = [f"an answer ends with {tokenizer.convert_ids_to_tokens(end)!r}", *data.said]
    if not options.max_length:
        said.append(f"max_length {data.longest:,}: the longest row")
    if not prompts.chat:
        said.append("no chat template: plain text prompts")
        several = sum("\n" in answer.strip() for row in text_rows for answer in row.answers)
        if several:
            said.append(
                f"{several:,} answers have several lines, but a model without a chat template stops at a newline"
            )
    return data, said


def _ends(base: ModelFiles, tokenizer: Any) -> list[int]:
    """The tokens that generation will stop at, as `candidates.local` finds them."""
    try:
        generation = GenerationConfig.from_pretrained(base.folder)
    except OSError:
        generation = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
        )
    ends = generation.eos_token_id
    own = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return [token for token in dict.fromkeys([tokenizer.eos_token_id, *own]) if token is not None]


# ---------------------------------------------------------------- model and trainer


def _make(job: _Job, at_a_time: int, make_trainer: Callable[[Ready], Any]) -> Any:
    options, on_gpu = job.options, job.device != "cpu"
    model = load_model(job.base, options.base, job.device, job.precision, "tune.base")
    lora = None
    if job.adapter:
        model = _with_adapter(model, job.adapter, options.adapter)
    else:
        lora = LoraConfig(
            r=options.lora_r,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=_targets(model, options.lora_targets),
            task_type="CAUSAL_LM",
        )
    steps = math.ceil(options.epochs * math.ceil(len(job.data.rows) / options.batch_size))
    arguments = {
        "output_dir": str(options.out / "checkpoints"),
        "num_train_epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "per_device_train_batch_size": at_a_time,
        "gradient_accumulation_steps": options.batch_size // _processes() // at_a_time,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,  # a share of all steps
        "weight_decay": 0.0,
        "max_length": None,  # rows are whole: trl cuts without a word
        "bf16": job.precision == "bfloat16",
        "fp16": job.precision == "float16",
        "use_cpu": not on_gpu,
        "activation_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,
        "save_steps": min(MOST_STEPS_LOST, max(1, steps // 10)),
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would log a finite number in the place of a nan
        "report_to": "none",
        "disable_tqdm": True,
        "seed": options.seed,
        "data_seed": options.seed,
    }
    trainer = make_trainer(Ready(model, job.tokenizer, lora, job.data.rows, arguments))
    trainer.remove_callback(PrinterCallback)
    if trainer.accelerator.mixed_precision != MIXED[job.precision]:
        raise UserError(
            f"tune.precision: {job.precision} was asked for, {trainer.accelerator.mixed_precision} is in force; is "
            "ACCELERATE_MIXED_PRECISION set?"
        )
    return trainer


def _targets(model: Any, names: Sequence[str]) -> str | list[str]:
    if list(names) == ["all-linear"]:
        return "all-linear"
    output = model.get_output_embeddings()
    linear = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and module is not output
    }
    unknown = sorted(set(names) - linear)
    if unknown:
        raise UserError(
            f"tune.lora.targets: the base has no linear layers named {', '.join(unknown)}; it has "
            f"{', '.join(sorted(linear))} (leave it out for all)"
        )
    return list(names)


def _with_adapter(model: Any, adapter: ModelFiles, spec: str) -> Any:
    """The base with a LoRA to train on; every tensor of its file must find its place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that do not match: compared below
            made = PeftModel.from_pretrained(model, str(adapter.folder), is_trainable=True)
    except Exception as error:
        raise UserError(f"--adapter: {spec} does not fit the base: {first_line(error)}") from None
    with safe_open(adapter.folder / "adapter_model.safetensors", framework="pt") as file:
        different = sorted(set(file.keys()) ^ set(get_peft_model_state_dict(made)))
    if different or not isinstance(made.peft_config["default"], LoraConfig):
        raise UserError(f"--adapter: {spec} is no LoRA of the base; name the one that sft.py wrote for it")
    return made


def _save(model: Any, options: argparse.Namespace) -> Any:
    """One plain adapter that names its base as it was given; its config is returned."""
    trained = get_peft_model_state_dict(model, adapter_name="default")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in trained.values()):
        raise UserError(_not_finite("weights are not finite", options.learning_rate))
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = options.base, options.revision
    model.save_pretrained(options.out, selected_adapters=["default"], save_embedding_layers=False)
    (options.out / "README.md").unlink(missing_ok=True)  # a form without a word about this adapter
    return config


def _not_finite(what: str, learning_rate: float) -> str:
    return f"{what}: the learning rate {learning_rate:g} is too high; lower tune.learning_rate"


# ---------------------------------------------------------------- running, checkpoints, progress


def _run(trainer: Any, job: _Job, started: float) -> tuple[float, list[str]]:
    """Train to the end from the newest whole checkpoint: (seconds, lost ones not counted, what is to be said)."""
    out, mark, said = job.options.out, f"{job.digest} {_processes()}", []
    checkpoints = out / "checkpoints"
    if _is_first():
        stale = {folder: found for folder in checkpoints.glob("checkpoint-*") if (found := _mark(folder)) != mark}
        for folder in stale:
            (folder / WHOLE).unlink(missing_ok=True)  # first: a kill here leaves nothing that passes for whole
            shutil.rmtree(folder)
        if any(stale.values()):
            said.append("checkpoints of other settings or data were thrown away")
        (out / command.REPORT).unlink(missing_ok=True)
    _wait_for_all()
    whole = sorted(checkpoints.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    newest = whole[-1] if whole else None
    if newest:
        said.append(f"went on from step {newest.name.rpartition('-')[2]}")
    progress = _Progress(out / command.PROGRESS, mark, started)
    trainer.add_callback(progress)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    return progress.seconds(), said


def _mark(checkpoint: Path) -> str:
    with suppress(OSError):
        return (checkpoint / WHOLE).read_text(encoding="utf-8")
    return ""


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


class _Progress(TrainerCallback):  # type: ignore[misc]
    """A line per step in progress.jsonl; a mark in every checkpoint that is whole; the end of a training that diverged."""

    def __init__(self, path: Path, mark: str, started: float) -> None:
        self._path, self._mark, self._started = path, mark, started

    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        lines = [_line(entry, state) for entry in state.log_history if "loss" in entry]
        if lines:
            self._started -= lines[-1]["seconds"]
        if _is_first():
            write_atomically(self._path, (json.dumps(line) + "\n" for line in lines))

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        entry = state.log_history[-1]
        if "loss" not in entry:
            return
        if not math.isfinite(entry["loss"]):
            raise UserError(_not_finite(f"the loss is {entry['loss']} at step {state.global_step}", args.learning_rate))
        entry["seconds"] = round(self.seconds(), 3)
        if _is_first():
            line = _line(entry, state)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"step {line['step']}/{line['steps']}  loss {line['loss']:.4f}", flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _wait_for_all()
        if _is_first():
            write_atomically(Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE, self._mark)


def _line(entry: Mapping[str, Any], state: Any) -> dict[str, Any]:
    shown = {"step": entry["step"], "steps": state.max_steps}
    names = ("epoch", "loss", "learning_rate", "seconds", "rewards/margins", "rewards/accuracies")
    return shown | {name: entry[name] for name in names if name in entry}
