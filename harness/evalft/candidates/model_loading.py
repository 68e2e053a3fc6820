"""A model, its adapter and its tokenizer into memory, through transformers and peft; nothing of it is a guess.

What transformers would only warn about ends here with CannotStart: weights that are missing would be random numbers, an
adapter whose tensors have no counterpart would change nothing, and either would be scored without a word.
"""

from __future__ import annotations

import warnings
from typing import Any

from evalft.candidates.model_files import ModelFiles
from evalft.errors import CannotStart

_MEMORY_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def load_model(files: ModelFiles, spec: str, device: str, dtype: str, where: str) -> Any:
    """A causal language model or a sequence classifier in `dtype` on `device`."""
    import transformers

    family = "AutoModelForSequenceClassification" if files.is_classifier else "AutoModelForCausalLM"
    try:
        model, info = getattr(transformers, family).from_pretrained(
            files.folder,
            dtype=dtype,
            device_map=None if device == "cpu" else {"": device},
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise CannotStart(
                f"{where}: no memory to load {spec} in {dtype} on {device}; choose a smaller model or dtype: bfloat16"
            ) from None
        raise CannotStart(
            f"{where}: {spec} cannot be loaded with {family}: {first_line(error)}; check that it is a causal language "
            "model or a sequence classifier, whole, as save_pretrained wrote it"
        ) from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise CannotStart(
            f"{where}: the weights of {spec} lack {len(missing)} tensors of its architecture (first: {missing[0]}), "
            "which would be random numbers; fetch or train the whole model"
        )
    return model.eval()


def merge_adapter(model: Any, files: ModelFiles, spec: str, where: str) -> Any:
    """The model with a peft adapter merged into its weights, as it would be deployed."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    what = f"{where}: adapter {spec} does not fit the model"
    remedy = f"it was made for {files.config.get('base_model_name_or_path')!r}; name that at `model:`"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that do not match: compared below
            adapted = PeftModel.from_pretrained(model, str(files.folder))
    except Exception as error:
        raise CannotStart(f"{what}: {first_line(error)}; {remedy}") from None
    with safe_open(files.folder / "adapter_model.safetensors", framework="pt") as file:
        different = sorted(set(file.keys()) ^ set(get_peft_model_state_dict(adapted)))
    if different:
        raise CannotStart(f"{what}: {len(different)} tensors have no counterpart (first: {different[0]}); {remedy}")
    if not hasattr(adapted.base_model, "merge_and_unload"):
        kind = files.config.get("peft_type")
        raise CannotStart(f"{what}: adapters of type {kind} cannot be merged into weights; train a LoRA adapter")
    return adapted.merge_and_unload().eval()


def load_tokenizer(model: ModelFiles, adapter: ModelFiles | None, where: str) -> Any:
    """The adapter's own tokenizer where it has one (with the chat template it was trained with), else the model's."""
    from transformers import AutoTokenizer

    folder = adapter.folder if adapter and (adapter.folder / "tokenizer.json").is_file() else model.folder
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise CannotStart(
            f"{where}: {folder} has no tokenizer that can be loaded: {first_line(error)}; "
            "save it beside the model with tokenizer.save_pretrained"
        ) from None


def is_out_of_memory(error: Exception) -> bool:
    """torch has one type for it on a GPU (a RuntimeError) and only texts on a CPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MEMORY_TEXTS)


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(" ;:.")
