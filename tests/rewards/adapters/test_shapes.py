"""Adapters with the calls that each trainer makes (`tests/peers` has the trainers themselves), on a real service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from rewards.adapters import verl
from rewards.adapters.client import RewardClient, RewardServiceError
from rewards.adapters.trl import TrlReward
from rewards.http_door import ServeLimits
from tests.rewards.serving import served, serving

LIMITS = ServeLimits(gather_deadline_s=0.5, max_group=4)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(served("fails_for_x"), limits=LIMITS) as (address, _):
        yield address


class TestTrl:
    def test_a_batch_of_whole_groups(self, url: str) -> None:
        reward = TrlReward(url, num_generations=2, fields=("label",))
        assert reward.__name__ == "podium"
        found = reward(
            prompts=["p", "p", "q", "q", "p", "p"],
            completions=["a", "bb", "cc", "c", "ddd", "d"],
            completion_ids=[[1]] * 6,
            label=["l"] * 6,
            trainer_state=None,
        )
        assert found == [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]

    def test_a_group_that_two_ranks_share(self, url: str) -> None:
        def rank(completions: list[str]) -> list[float | None]:
            return TrlReward(url, num_generations=3)(prompts=["shared"] * len(completions), completions=completions)

        with ThreadPoolExecutor(2) as ranks:
            first, second = ranks.map(rank, [["a"], ["ccc", "bb"]])
        assert (first, second) == ([0.0], [1.0, 0.5])

    def test_a_prompt_with_two_references_whose_groups_two_ranks_share(self) -> None:
        with serving(served(needed_fields=("label",)), limits=LIMITS) as (address, _):

            def rank(part: slice) -> list[float | None]:
                texts = ["a", "bb", "ccc", "dddd", "ee", "f"][part]
                labels = ["one", "one", "one", "two", "two", "two"][part]
                reward = TrlReward(address, num_generations=3, fields=("label",))
                return reward(prompts=["p"] * len(texts), completions=texts, label=labels)

            with ThreadPoolExecutor(2) as ranks:
                assert list(ranks.map(rank, [slice(0, 1), slice(1, 6)])) == [[0.0], [0.5, 1.0, 1.0, 0.5, 0.0]]

    def test_conversations_and_completions_that_are_not_scored(self, url: str) -> None:
        prompt = [{"role": "user", "content": "u"}]
        completions = [[{"role": "assistant", "content": text}] for text in ("x", "aa", "b")]
        found = TrlReward(url, num_generations=3)(prompts=[prompt] * 3, completions=completions)
        assert found == [None, 1.0, 0.0]


class TestVerl:
    def test_rollouts_one_by_one(self, url: str) -> None:
        async def all_of_them() -> list[dict[str, float]]:
            return await asyncio.gather(
                *(
                    verl.compute_score("set", text, "truth", {"index": index, "question": "q"}, url=url, group_size=3)
                    for index, texts in enumerate((("a", "ccc", "bb"), ("x", "dd", "d")))
                    for text in texts
                )
            )

        scores = asyncio.run(all_of_them())
        assert [score["score"] for score in scores] == [0.0, 1.0, 0.5, 0.5, 1.0, 0.0]
        assert [score["podium_unscored"] for score in scores] == [0, 0, 0, 1, 0, 0]

    def test_two_files_that_are_both_counted_from_0(self, url: str) -> None:
        async def all_of_them() -> list[dict[str, float]]:
            rows = [("bb", "q1"), ("c", "q2"), ("bbb", "q1"), ("dddd", "q2")]
            return await asyncio.gather(
                *(
                    verl.compute_score("set", text, "truth", {"index": 0, "question": prompt}, url=url, group_size=2)
                    for text, prompt in rows
                )
            )

        assert [score["score"] for score in asyncio.run(all_of_them())] == [0.0, 0.0, 1.0, 1.0]

    def test_a_prompt_that_is_not_there_is_named(self, url: str) -> None:
        with pytest.raises(RewardServiceError, match="extra_info has no 'question'; it has: index"):
            asyncio.run(verl.compute_score("set", "a", "", {"index": 0}, url=url, group_size=2))


class TestOpenRlhf:
    def ask(self, url: str, *queries: str, labels: list[str | None] | None = None) -> httpx.Response:
        body = {
            "query": list(queries),
            "prompts": ["User: q "] * len(queries),
            "labels": labels or [None] * len(queries),
        }
        return httpx.post(f"{url}/v1/openrlhf?group_size=3", json=body, timeout=30)

    def test_rollouts_one_by_one(self, url: str) -> None:
        with ThreadPoolExecutor(3) as rollouts:
            replies = list(rollouts.map(lambda text: self.ask(url, f"User: q {text}").json(), ("x", "aa", "b")))
        assert [reply["rewards"] for reply in replies] == [0.5, 1.0, 0.0]
        assert [reply["extra_logs"]["podium_unscored"] for reply in replies] == [1.0, 0.0, 0.0]
        assert all(reply["scores"] == reply["rewards"] for reply in replies)

    def test_several_at_once_come_back_as_lists(self, url: str) -> None:
        assert self.ask(url, "User: q a", "User: q ccc", "User: q bb").json()["rewards"] == [0.0, 1.0, 0.5]

    def test_a_prompt_with_two_labels_is_two_groups(self) -> None:
        with serving(served(needed_fields=("label",)), limits=LIMITS) as (address, _):
            texts = ["ccc", "dddd", "bb", "e", "a", "ff"]
            labels: list[str | None] = ["one", "two", "one", "two", "one", "two"]
            reply = self.ask(address, *(f"User: q {text}" for text in texts), labels=labels)
            assert reply.json()["rewards"] == [1.0, 1.0, 0.5, 0.0, 0.0, 0.5]

    def test_a_token_in_the_address(self) -> None:
        with serving(served(), token="open sesame", limits=LIMITS) as (address, _):
            inside = address.replace("http://", "http://podium:open%20sesame@")
            assert self.ask(inside, "User: q a", "User: q ccc", "User: q bb").status_code == 200
            assert self.ask(address.replace("http://", "http://podium:wrong@"), "a").status_code == 401

    def test_bad_input(self, url: str) -> None:
        reply = httpx.post(f"{url}/v1/openrlhf?group_size=3", json={"query": ["a"], "prompts": [], "labels": []})
        assert reply.status_code == 422
        assert httpx.post(f"{url}/v1/openrlhf", json={"query": ["a"], "prompts": ["a"]}).json() == {
            "error": "query.group_size: Field required"
        }


class TestClient:
    def test_a_service_that_is_not_there_is_tried_until_the_deadline(self) -> None:
        async def ask() -> None:
            await RewardClient("http://127.0.0.1:9", timeout_s=0.7).gather("p", ["a"], group_size=2)

        with pytest.raises(RewardServiceError, match=r"no rewards within 0\.7 s; last: ConnectError"):
            asyncio.run(ask())

    def test_a_service_that_is_full_is_asked_again(self) -> None:
        with serving(served(), limits=ServeLimits(max_gathering=1, retry_after_s=0)) as (address, door):

            async def ask() -> tuple[list[float | None], list[float | None]]:
                client = RewardClient(address)
                first = asyncio.create_task(client.gather("p", ["a", "bb"], group_size=2))
                second = asyncio.create_task(client.gather("q", ["aa", "b"], group_size=2))
                return (await first).rewards, (await second).rewards

            assert asyncio.run(ask()) == ([0.0, 1.0], [1.0, 0.0])
            deadline = time.monotonic() + 5.0
            while door.gathering and time.monotonic() < deadline:  # a reply is on its way before its place is free
                time.sleep(0.01)
            assert door.gathering == 0

    def test_bad_input_is_told_at_once(self, url: str) -> None:
        async def ask() -> None:
            await RewardClient(url).gather("p", ["a"] * 5, group_size=5)

        with pytest.raises(RewardServiceError, match="422: candidates: List should have at most 4 items"):
            asyncio.run(ask())

    def test_a_token_that_cannot_be_sent_is_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TOKEN", "s€same")
        with pytest.raises(RewardServiceError, match="TOKEN: a token is ASCII"):
            RewardClient("http://127.0.0.1:9", token_env="TOKEN")

    def test_a_token_that_is_not_set_is_named(self) -> None:
        with pytest.raises(RewardServiceError, match="variable NOWHERE is not set"):
            RewardClient("http://127.0.0.1:9", token_env="NOWHERE")
