"""Fine-tune a LoRA adapter on answers: supervised, the loss on the answer's tokens alone, through trl.

    PYTHONPATH=harness python -m evalft.recipes.sft --base FOLDER --data rows.jsonl --out adapter

Rows are {"messages": [{"role", "content"} ...], "completion": text}; a prompt is written exactly as the candidate will be
asked, and no row is cut. A run that was killed goes on with the same command. The folder then holds the adapter,
progress.jsonl and training.json with what was chosen and measured.
"""

from __future__ import annotations

from typing import Any

from evalft.recipes import command


def main() -> None:
    def train(options: Any) -> None:
        from evalft.recipes import lora

        lora.train("sft", options, make_trainer)

    command.run("sft", train)


def make_trainer(ready: Any) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "input_ids": row.prompt + answer,
            "completion_mask": [0] * len(row.prompt) + [1] * len(answer),
        }
        for row in ready.rows
        for answer in row.answers
    ]
    return SFTTrainer(
        model=ready.model,
        args=SFTConfig(completion_only_loss=True, **ready.arguments),
        train_dataset=Dataset.from_list(rows),  # with token ids in it, trl adds and cuts nothing
        processing_class=ready.tokenizer,
        peft_config=ready.lora,
    )


if __name__ == "__main__":
    main()
