"""A loopback OpenAI-compatible endpoint that answers every chat with the last message after a fixed time.

python benchmarks/speed/endpoint.py --latency 0.02      prints its port, serves until it is stopped
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from aiohttp import web


def app(latency_s: float) -> web.Application:
    async def chat(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        await asyncio.sleep(latency_s)
        text = body["messages"][-1]["content"]
        return web.json_response(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": "stop",
                        "logprobs": None,
                    }
                ],
                "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
            }
        )

    application = web.Application()
    application.router.add_post("/v1/chat/completions", chat)
    return application


async def serve(latency_s: float) -> None:
    runner: Any = web.AppRunner(app(latency_s), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds")
    asyncio.run(serve(parser.parse_args().latency))
