"""OpenRLHF's own remote reward client, a rollout a request as its engine makes them. In an environment with openrlhf:

PYTHONPATH=. python tests/peers/openrlhf_peer.py
"""

from __future__ import annotations

import asyncio

from openrlhf.utils.agent import SingleTurnAgentExecutor  # pyright: ignore[reportMissingImports]

from tests.rewards.serving import served, serving

ANSWERS = ("a", "dddd", "ccc", "bb")


async def ask(executor: SingleTurnAgentExecutor, prompt: str, answer: str) -> float:
    (reply,) = await executor._fetch_rewards_via_http([prompt + answer], [prompt], ["label"])
    return reply["rewards"]


async def main() -> None:
    with serving(served(), token="sesame") as (url, _):
        inside = url.replace("http://", "http://podium:sesame@")
        executor = SingleTurnAgentExecutor(f"{inside}/v1/openrlhf?group_size=4")
        prompts = ("User: one\nAssistant:", "User: two\nAssistant:")
        asked = [ask(executor, prompt, answer) for answer in ANSWERS for prompt in prompts]
        rewards = await asyncio.gather(*asked)
    assert rewards[::2] == rewards[1::2] == [0.0, 1.0, 2 / 3, 1 / 3], rewards
    print(f"openrlhf: rewards {rewards}")


if __name__ == "__main__":
    asyncio.run(main())
