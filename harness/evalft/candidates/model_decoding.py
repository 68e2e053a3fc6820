"""How a local model's answer is generated, where it ends, and what its new tokens say.

The settings are the candidate's alone: a model's own generation_config gives only its end tokens. An answer ends at an
end token, at a stop string, at the token limit, and, where there is no chat template, with its first line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalft.candidates.causal_model import CausalModel
from evalft.candidates.model_prompts import ModelPrompts
from evalft.config import CandidateConfig

if TYPE_CHECKING:
    import torch


NEAR_TIE = 1e-4
"""Two largest logits closer than this may change places with the rounding of another batch or machine."""


@dataclass(slots=True)
class Generated:
    """The new tokens of one row; an end token, where there is one, is among them."""

    tokens: list[int] = field(default_factory=list)
    near_tie: bool = False
    """A token was chosen where the two largest logits differed by less than NEAR_TIE (known of greedy decoding only)."""


class Decoding:
    """`end_tokens` may be empty; `pad_token` is never read by the model."""

    def __init__(self, config: CandidateConfig, prompts: ModelPrompts, end_tokens: list[int], pad_token: int) -> None:
        self._prompts, self._end_tokens, self._pad_token = prompts, end_tokens, pad_token
        self._stop = config.stop or []
        # the end of the text suffices: a token is a byte at least, save for special ones
        self._window = max(len(stop.encode()) for stop in [*self._stop, "\n"]) + 8
        lasts = {stop[-1] for stop in self._stop if stop} | (set() if prompts.chat else {"\n"})
        # a decoder may drop white space around a token by itself, and shows part of a character as this sign
        self._last_characters = {"" if last == " " else last for last in lasts} | ({"\ufffd"} if lasts else set())
        self._may_end: dict[int, bool] = {}
        """Of tokens seen: whether a stop string may end with it."""
        self._settings: dict[str, Any] = {
            "do_sample": config.temperature > 0,
            "num_beams": config.num_beams,
            "eos_token_id": end_tokens or None,
            "pad_token_id": pad_token,
        }
        if config.temperature > 0:
            self._settings |= {"temperature": config.temperature, "top_p": config.top_p or 1.0, "top_k": 0}

    def generate(self, model: CausalModel, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Generated]:
        """What follows each prompt. Greedy decoding is done here, where rows that are done can leave the batch."""
        if model.branches and not self._settings["do_sample"] and self._settings["num_beams"] == 1:
            return self._greedy(model, prompts, max_new_tokens)
        from transformers import GenerationConfig

        tokens, mask = model.padded(prompts)
        # generate() fills what it is not given from the model's own
        model.model.generation_config = GenerationConfig()
        output = model.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            generation_config=GenerationConfig(**self._settings, max_new_tokens=max_new_tokens),
            stopping_criteria=[self._stops_after(tokens.shape[1])],
        )
        return [Generated(self._unpadded(new)) for new in output[:, tokens.shape[1] :].tolist()]

    def _greedy(self, model: CausalModel, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Generated]:
        import torch

        made = [Generated() for _ in prompts]
        rows = list(range(len(prompts)))  # those that are not done, in the batch's order
        logits, read = model.read_prompts(prompts)
        following, on = logits[:, -1], model.go_on(read, max_new_tokens)
        for left in reversed(range(max_new_tokens)):
            best = following.float().topk(2)
            chosen = best.indices[:, 0]
            near = (best.values[:, 0] - best.values[:, 1] < NEAR_TIE).tolist()
            for row, token, is_near in zip(rows, chosen.tolist(), near, strict=True):
                made[row].tokens.append(token)
                made[row].near_tie |= is_near
            done = set(self._done({row: made[row].tokens for row in rows}))
            if len(done) == len(rows) or not left:
                break
            if done:
                stay = _without([row in done for row in rows])
                rows = [rows[place] for place in stay]
                chosen = chosen[torch.tensor(stay, device=chosen.device)]
                on.keep(stay)
            following = on.read(chosen)
        return made

    def _done(self, written: dict[int, list[int]]) -> list[int]:
        """The rows whose newest token ends them."""
        done = [row for row, tokens in written.items() if tokens[-1] in self._end_tokens]
        if self._last_characters:
            newest = {tokens[-1] for tokens in written.values()} - self._may_end.keys()
            for token, text in zip(newest, self._prompts.decode([[token] for token in newest]), strict=True):
                self._may_end[token] = any(character in text for character in self._last_characters)
            suspects = [row for row, tokens in written.items() if self._may_end[tokens[-1]]]
            tails = self._prompts.decode([written[row][-self._window :] for row in suspects])
            done += [row for row, tail in zip(suspects, tails, strict=True) if self._end(tail) is not None]
        return done

    def read(self, new: list[int]) -> tuple[str, str, int]:
        """Text, finish_reason ("stop" or "length") and the number of tokens generated."""
        ended = next((place for place, token in enumerate(new) if token in self._end_tokens), None)
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
        def stops_here(tokens: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
            tails = self._prompts.decode(tokens[:, prompt_length:][:, -self._window :].tolist())
            return tokens.new_tensor([self._end(tail) is not None for tail in tails]).bool()

        return stops_here

    def _unpadded(self, new: list[int]) -> list[int]:
        """Without what stands behind the end of a row where others went on for longer."""
        last = max((place for place, token in enumerate(new) if token != self._pad_token), default=-1)
        ended = next((place for place, token in enumerate(new) if token in self._end_tokens), last)
        return new[: ended + 1]


def _without(done: list[bool]) -> list[int]:
    """The places that are not done; those at the end stand in for the done ones before, so that few have to move."""
    count = done.count(False)
    late = [place for place in range(count, len(done)) if not done[place]]
    return [late.pop() if done[place] else place for place in range(count)]
