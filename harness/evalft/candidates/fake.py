"""`fake:...`: a candidate that answers by rule, for tests and measurements of everything around a model.

fake:echo           answers with the last message
fake:constant=TEXT  answers TEXT
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalft import answers
from evalft.candidates import Attempt
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import CannotStart
from evalft.prompts import Request
from evalft.records import Failure, Outcome, Prediction, Usage

BATCH = 256


class FakeCandidate:
    remote = False

    def __init__(self, config: CandidateConfig, task: TaskConfig) -> None:
        self.name = config.name
        self._rule, _, self._text = config.model_id.partition("=")
        self._task = task

    def start(self) -> list[str]:
        if self._rule not in ("echo", "constant"):
            raise CannotStart(
                f"candidate {self.name}: fake:{self._rule} is not known; fake:echo and fake:constant=TEXT are"
            )
        return ["answers by rule: nothing is measured but evalft itself"]

    def identity(self) -> dict[str, object]:
        return {"kind": "fake", "rule": self._rule, "text": self._text, "task": [self._task.type, self._task.labels]}

    def worst_case_usd(self, request: Request) -> float:
        return 0.0

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        return (tuple(requests[i : i + BATCH]) for i in range(0, len(requests), BATCH))

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        return [Attempt(self._answer(request)) for request in batch]

    async def close(self) -> None:
        pass

    def _answer(self, request: Request) -> Outcome:
        text = self._text if self._rule == "constant" else request.messages[-1]["content"]
        reading = answers.read(text, "stop", self._task.type or "generation", self._task.labels or ())
        where = (request.id, request.index, request.repeat)
        if reading.failure:
            return Failure(*where, reading.failure, reading.message, text=text)
        usage = Usage(sum(len(message["content"].split()) for message in request.messages), len(text.split()))
        return Prediction(*where, text, reading.labels, rescued=reading.rescued, finish_reason="stop", usage=usage)
