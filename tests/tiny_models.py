"""Tiny real models for tests: random weights, a BPE tokenizer trained here, written by save_pretrained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

TEXT = """Which label fits the text above? Labels: card, card arrival, card lost, refund, weather. Answer with the label only.
The quick brown fox jumps over the lazy dog while the bank sends a new card and a refund. Label: yes no none system user
assistant question answer money arrives late or never 0 1 2 3 4 5 6 7 8 9 plus minus times squared x y z"""
CHAT_TEMPLATE = (
    "<s>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(*, chat_template: str | None = None) -> Any:
    """Byte-level BPE of at most 400 tokens with <s>, </s> and <pad>; <s> begins every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT], trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=256
    )
    made.chat_template = chat_template
    return made


def causal(folder: Path, *, chat_template: str | None = None, family: str = "llama", seed: int = 0) -> Path:
    """A random causal model of about 30,000 parameters; `family`: llama (rotary) or gpt2 (learned positions)."""
    import torch
    import transformers

    torch.manual_seed(seed)
    made = tokenizer(chat_template=chat_template)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if family == "gpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=len(made), n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3, **ids
        )
    else:
        config = transformers.LlamaConfig(
            vocab_size=len(made),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.3,  # far from uniform, so that a mistake shows
            **ids,
        )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def classifier(folder: Path, labels: list[str], seed: int = 0) -> Path:
    """A random BERT with one output per label."""
    import torch
    import transformers

    torch.manual_seed(seed)
    made = tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(made),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.3,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def adapter(folder: Path, base: Path, seed: int = 1) -> Path:
    """A random LoRA adapter of `base` that changes its answers (peft's fresh ones change nothing)."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.5)
    adapted.save_pretrained(folder)
    return folder
