"""Runs lm-eval's Hugging Face model on request; started by `pairing.Peer` with the peer's Python, knows nothing of evalft.

One JSON object per line in, one out. First {model, threads, add_bos}; then {kind, requests, batch_size, ...} any number of
times. The time is that of the call alone: tokenizing, batching, the model; no loading, no task's documents.
"""

import json
import logging
import sys
import time
import warnings


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # progress bars and notices
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    start = time.perf_counter()
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    given = json.loads(sys.stdin.readline())
    torch.set_num_threads(given["threads"])
    lm = HFLM(pretrained=given["model"], dtype="float32", device="cpu", batch_size=1, add_bos_token=given["add_bos"])
    answers.write(json.dumps({"ready_s": time.perf_counter() - start}) + "\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        lm.batch_size_per_gpu = asked["batch_size"]
        instances = [
            Instance(request_type=asked["kind"], doc={}, arguments=tuple(arguments), idx=0)
            for arguments in asked["requests"]
        ]
        start, start_cpu = time.perf_counter(), time.process_time()
        results = getattr(lm, asked["kind"])(instances, disable_tqdm=True)
        taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
        answers.write(json.dumps(taken | {"results": results}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
