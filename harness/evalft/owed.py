"""What is left to ask: the plans of a run without the answers that its folder or the response cache already holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from evalft import cache, candidates, planning, preparing, usage_seen
from evalft.cache import Cache
from evalft.candidates.api import ApiCandidate
from evalft.config import CandidateConfig
from evalft.preparing import Prepared
from evalft.prompts import Request
from evalft.reporting.examples import lines


def plans(prepared: Prepared) -> tuple[list[planning.CandidatePlan], list[str]]:
    """(the plans, a line for each candidate some of whose answers are there already). Asks nothing, writes nothing."""
    config, folder = prepared.config, prepared.folder
    left: dict[str, Sequence[Request]] = {}
    schemas = preparing.schema_bytes(config)
    ours = folder.manifest().get("digest") == prepared.digest
    for candidate, plan in zip(config.candidates, prepared.plans, strict=True):
        requests = prepared.requests[candidate.name]
        known = (
            lines(folder.predictions_file(candidate.name)) if ours else ()
        )  # read only: another process may be writing
        answered = {(one["index"], one["repeat"]) for one in known if one.get("tries") or one.get("cached")}
        missing = [request for request in requests if (request.index, request.repeat) not in answered]
        if candidate.provider not in ("hf", "fake", "file", "plugin"):
            missing, takes_json = _not_in_cache(candidate, prepared, plan, missing)
            if not takes_json:
                schemas.pop(candidate.name, None)
        left[candidate.name] = missing
    if schemas == preparing.schema_bytes(config) and all(
        len(left[name]) == len(prepared.requests[name]) for name in left
    ):
        return list(prepared.plans), []
    found = planning.plan(config, config.task, prepared.data.test, left, usage_seen.read(config), schemas)
    said = [
        f"{plan.name}: {before.requests - plan.requests:,} of {before.requests:,} answers are there already (run folder or "
        f"cache): ${plan.usd:.4f} instead of ${before.usd:.4f}"
        for plan, before in zip(found, prepared.plans, strict=True)
        if plan.requests < before.requests
    ]
    return found, said


def _not_in_cache(
    candidate: CandidateConfig, prepared: Prepared, plan: planning.CandidatePlan, requests: Sequence[Request]
) -> tuple[list[Request], bool]:
    """(the requests whose answers are not in the cache, whether the endpoint is asked for JSON, as far as is known)."""
    config = prepared.config
    one = candidates.build(candidate, config, price=plan.price, max_tokens=plan.max_tokens)
    assert isinstance(one, ApiCandidate)
    settled = prepared.folder.manifest().get("settled", {}).get(candidate.name)
    if not cache.exists():
        one.settle(settled or {})
        return list(requests), _takes_json(one)
    with closing(Cache(cache.folder(), one.identity())) as answers:
        one.settle(settled or answers.settled() or {})
        answers.identify(one.identity())
        return [request for request in requests if not answers.holds(request)], _takes_json(one)


def _takes_json(one: ApiCandidate) -> bool:
    fields = one.identity()["fields"]
    return isinstance(fields, dict) and "response_format" in fields
