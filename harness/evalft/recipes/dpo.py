"""Fine-tune a LoRA adapter on preferences: direct preference optimisation (Rafailov et al. 2023) through trl.

    PYTHONPATH=harness python -m evalft.recipes.dpo --base FOLDER --adapter SFT --data pairs.jsonl --out adapter

Rows are {"messages": [{"role", "content"} ...], "chosen": text, "rejected": text}. Training goes on from the adapter, of
which a frozen copy is the reference; without one a fresh LoRA is trained, and the base is the reference. The chosen
answer's likelihood is held up by a fifth of the SFT loss (Llama 3, arXiv 2407.21783, section 4.1.4). The rest is as in
sft.py.
"""

from __future__ import annotations

from typing import Any

from evalft.errors import UserError
from evalft.recipes import command

PAIRS_CHECKED = 16
MOST_GAP = 1e-3


def main() -> None:
    def train(options: Any) -> None:
        from evalft.recipes import lora

        lora.train("dpo", options, lambda ready: make_trainer(ready, options.beta), check_reference)

    command.run("dpo", train)


def make_trainer(ready: Any, beta: float) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class TokenDPOTrainer(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            # The rows are tokens as the candidate is asked. trl's own way would encode each side with the prompt, add
            # the tokens that begin a text once more, and leave out, without a word, rows that are too long.
            return dataset

    rows = [
        {"prompt_ids": row.prompt, "chosen_ids": row.answers[0], "rejected_ids": row.answers[1]} for row in ready.rows
    ]
    return TokenDPOTrainer(
        model=ready.model,
        args=DPOConfig(beta=beta, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.2], **ready.arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=ready.tokenizer,
        peft_config=ready.lora,
    )


def check_reference(trainer: Any) -> dict[str, float]:
    """The largest difference between policy and reference, over the summed log-probabilities of chosen and rejected.

    Before the first step they are one model. trl can silently take another one (a base without the adapter, say), and DPO
    would then train towards the difference. Raises UserError.
    """
    import torch

    rows = [trainer.train_dataset[i] for i in range(min(PAIRS_CHECKED, len(trainer.train_dataset)))]
    model = trainer.model.eval()
    gap = 0.0
    for row in rows:
        inputs = {name: value.to(trainer.args.device) for name, value in trainer.data_collator([row]).items()}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        seen = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad(), trainer.accelerator.autocast():
            policy = model(**seen, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(dim=1)
        reference = torch.cat(trainer.compute_ref_log_probs(model, inputs))
        gap = max(gap, float((policy - reference).abs().max()))
    model.train()
    if not gap < MOST_GAP:
        raise UserError(
            f"the reference is not the model that training starts from: their log-probabilities differ by {gap:.3g} on "
            f"{len(rows)} pairs; this is no fault of the data: report it with the versions in training.json"
        )
    return {"reference_gap": gap}


if __name__ == "__main__":
    main()
