"""The second judge of a recipe in training: its ledger, its verdicts over a resume, its part of the budget."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from launch.desk import make_desk, open_cache
from launch.judging import make_sink, open_rewards
from launch.ledger_file import LedgerFile
from launch.second_judge import PURPOSE, audited, open_audit, open_second
from recipes.bounds import judged_rewards
from recipes.load import load_recipe
from recipes.schema import Recipe
from rewards.arena import Arena
from rewards.budget import Spend
from rewards.types import Candidate, GroupKey, GroupScore, Prompt
from tests.launch import reward_plugins

TINY = Path(__file__).parents[1] / "e2e" / "data" / "tiny.yaml"
LONGER, SHORTER = (
    f"{{kind: python, target: 'tests.launch.reward_plugins:{name}', verdict: hard, version: '1'}}"
    for name in ("longer", "shorter")
)
TEXTS = ("a", "three words here", "two words", "one")


def recipe(*more: str) -> Recipe:
    options = [f"rewards.judge={LONGER}", f"evaluation.audit_judge={SHORTER}", "evaluation.audit_share=0.5", *more]
    return load_recipe(TINY, options).recipe


async def one_step(of: Recipe, folder: Path, name: str, said: list[str]) -> GroupScore:
    """A step of a run in `folder`, as `launch/compose.py` puts it together; the next call is the run resumed."""
    async with AsyncExitStack() as stack:
        cache = await stack.enter_async_context(open_cache(folder / "verdicts.sqlite"))
        judge = await stack.enter_async_context(open_rewards(of.rewards, device="cpu", seed=0, cache=cache))
        second = await stack.enter_async_context(open_second(of, folder, "cpu", cache))
        books = LedgerFile(folder / "judge_ledger.json")
        stack.callback(books.save)
        desk = await make_desk(of.rewards, judge, cache=cache)
        arena = make_sink(
            judged_rewards(of),
            judge,
            seed=0,
            carry_prior=True,
            on_call=books.recorder("training"),
            groups_per_step=1,
            spent=books.spent("training"),
            desk=desk,
        )
        assert isinstance(arena, Arena)
        assert second is not None
        spent: Spend = books.spent(PURPOSE)
        sink = await audited(arena, second, of, folder, cache=cache, books=books, spent=spent, say=said.append)
        key = GroupKey(name)
        await sink.open(key, Prompt("p", "task"), len(TEXTS))
        for slot, text in enumerate(TEXTS):
            await sink.add(key, slot, Candidate(str(slot), text))
        await sink.close(key)
        return (await sink.scores())[key]


async def test_its_calls_are_in_the_ledger_and_a_resumed_run_asks_for_none_twice(tmp_path: Path) -> None:
    first = await one_step(recipe(), tmp_path, "g", [])
    assert first.audit is not None
    assert [len(match.calls) for match in first.audit.matches] == [2, 2, 2]
    ledger = LedgerFile(tmp_path / "judge_ledger.json").ledger.summary()
    assert list(ledger["training"]) == ["python:tests.launch.reward_plugins:longer"]
    assert ledger[PURPOSE]["python:tests.launch.reward_plugins:shorter"]["num_calls"] == 6
    reward_plugins.ASKED.clear()
    again = await one_step(recipe(), tmp_path, "g", [])
    assert reward_plugins.ASKED == []
    assert again.rewards == first.rewards
    assert again.audit is not None
    assert {call.verdict.attempts for match in again.audit.matches for call in match.calls} == {0}
    assert [m.result("hard") for m in again.audit.matches] == [m.result("hard") for m in first.audit.matches]


async def test_what_a_run_spent_before_is_gone_from_its_part(tmp_path: Path) -> None:
    # One call of the second judge to two of the first: 8 of 24.
    capped = recipe("rewards.budget={calls_per_run: 24}", "rewards.cache=false")
    first = await one_step(capped, tmp_path, "g", [])
    assert first.audit is not None
    assert (first.num_calls, first.audit.num_calls) == (12, 6)
    second = await one_step(capped, tmp_path, "h", [])
    assert second.audit is not None
    assert (second.num_calls, second.audit.num_calls, second.audit.num_unasked) == (4, 2, 0)


async def test_one_that_is_down_is_told_once_and_scores_are_there(tmp_path: Path) -> None:
    calls = "rewards.calls={backoff_s: 0.0, timeout_s: 0.01, max_attempts: 9}"
    said: list[str] = []
    down = recipe("evaluation.audit_judge.target='tests.launch.reward_plugins:down'", calls)
    score = await one_step(down, tmp_path, "g", said)
    assert score.num_scored == 4
    assert score.audit is not None
    assert score.audit.num_unasked > 0
    assert len(said) == 1
    assert "training goes on" in said[0]


async def test_the_last_evaluation_is_put_before_the_same_judge(tmp_path: Path) -> None:
    books = LedgerFile(tmp_path / "judge_ledger.json")
    for share in (0.0, 0.5):
        of = recipe(f"evaluation.audit_share={share}")
        async with open_second(of, tmp_path, "cpu", None) as second:
            assert (second is None) == (share == 0.0)
            opened = open_audit(of, tmp_path, "cpu", None, books, second)
            assert opened is not None
            async with opened() as sink:
                await sink.open(GroupKey("g"), Prompt("p", "task"), 2)
                for slot in range(2):
                    await sink.add(GroupKey("g"), slot, Candidate(str(slot), TEXTS[slot]))
                (score,) = (await sink.scores()).values()
            assert score.matches[0].result("hard") == 1.0
    assert books.ledger.summary()["audit"]["python:tests.launch.reward_plugins:shorter"]["num_calls"] == 4
    assert open_audit(load_recipe(TINY).recipe, tmp_path, "cpu", None, books, None) is None
