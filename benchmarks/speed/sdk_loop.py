"""The least that can be done with the openai SDK: a bare loop over rows on its aiohttp client, exact match counted.

python benchmarks/speed/sdk_loop.py rows.jsonl BASE_URL CONCURRENCY
"""

from __future__ import annotations

import asyncio
import json
import sys

from openai import AsyncOpenAI, DefaultAioHttpClient


async def main(path: str, base_url: str, concurrency: int) -> None:
    with open(path, encoding="utf-8") as file:
        rows = iter([json.loads(line) for line in file])
    right = 0
    client = AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0, http_client=DefaultAioHttpClient())

    async def worker() -> None:
        nonlocal right
        for row in rows:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": row["input"]}], max_tokens=64, temperature=0
            )
            right += answer.choices[0].message.content == row["target"]

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    await client.close()
    print(f"exact match {right}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
