"""How a local model's answer is generated, where it ends, and what its new tokens say.

The settings are the candidate's alone: a model's own generation_config gives only its end tokens. An answer ends at an
end token, at a stop string, at the token limit, and, where there is no chat template, with its first line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evalft.candidates.model_prompts import ModelPrompts
from evalft.config import CandidateConfig

if TYPE_CHECKING:
    import torch


class Decoding:
    """`end_tokens` may be empty; `pad_token` is never read by the model."""

    def __init__(self, config: CandidateConfig, prompts: ModelPrompts, end_tokens: list[int], pad_token: int) -> None:
        self._prompts, self._end_tokens, self._pad_token = prompts, end_tokens, pad_token
        self._stop = config.stop or []
        self._settings: dict[str, Any] = {
            "do_sample": config.temperature > 0,
            "num_beams": config.num_beams,
            "eos_token_id": end_tokens or None,
            "pad_token_id": pad_token,
        }
        if config.temperature > 0:
            self._settings |= {"temperature": config.temperature, "top_p": config.top_p or 1.0, "top_k": 0}

    def generate(self, model: Any, tokens: torch.Tensor, mask: torch.Tensor, max_new_tokens: int) -> list[list[int]]:
        """The new tokens of each left-padded row, padded on the right where others went on for longer."""
        from transformers import GenerationConfig

        # generate() fills what it is not given from the model's own
        model.generation_config = GenerationConfig()
        output = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            generation_config=GenerationConfig(**self._settings, max_new_tokens=max_new_tokens),
            stopping_criteria=[self._stops_after(tokens.shape[1])],
        )
        new: list[list[int]] = output[:, tokens.shape[1] :].tolist()
        return new

    def read(self, new: list[int]) -> tuple[str, str, int]:
        """Text, finish_reason ("stop" or "length") and the number of tokens generated."""
        ended = next((place for place, token in enumerate(new) if token in self._end_tokens), None)
        if ended is None:
            kept = new[: max((place + 1 for place, token in enumerate(new) if token != self._pad_token), default=0)]
        else:
            kept = new[:ended]
        text = self._prompts.decode([kept])[0]
        end = self._end(text)
        text = text[:end]
        if not self._prompts.chat:
            text = text.lstrip()  # the space between prompt and answer
        finish_reason = "length" if ended is None and end is None else "stop"
        return text, finish_reason, len(kept) + (ended is not None)

    def _end(self, text: str) -> int | None:
        """Where a stop string begins, or, in plain text, where the first line that is not blank ends."""
        places = [text.find(stop) for stop in self._stop]
        if not self._prompts.chat:
            places.append(text.find("\n", len(text) - len(text.lstrip())))
        return min((place for place in places if place >= 0), default=None)

    def _stops_after(self, prompt_length: int) -> Callable[..., torch.Tensor]:
        # the end of the text suffices: a token is a byte at least, save for special ones
        window = max(len(stop.encode()) for stop in [*self._stop, "\n"]) + 8

        def stops_here(tokens: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
            tails = self._prompts.decode(tokens[:, prompt_length:][:, -window:].tolist())
            return tokens.new_tensor([self._end(tail) is not None for tail in tails]).bool()

        return stops_here
