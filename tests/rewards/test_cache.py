"""The cache of verdicts: what is kept, what is another question, who asks, and that no process harms another."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.arena import Arena
from rewards.cache import Asked, JudgeCache, JudgeIdentity, JudgeMemory
from rewards.calling import Caller, Line
from rewards.config import CallLimits
from rewards.errors import JudgeFailure, RunStopped, UserError
from rewards.limiter import LocalLimiter
from rewards.topology_config import RepeatedKnockout
from rewards.types import Candidate, GroupKey, GroupScore, ParsedAnswer, Places, Prompt, Slate, Verdict
from tests.rewards.test_arena import KEY, FakeJudge, add_all, config

PROMPT = Prompt("p", "task", ({"role": "user", "content": "task"},), {"text": "x"})
ONE, OTHER = Candidate("1", "one"), Candidate("2", "other")
WHO = JudgeIdentity("judge 1")


def line_to(memory: JudgeMemory) -> dict[str, Line]:
    return {FakeJudge.name: Line(memory)}


async def score(path: Path, judge: FakeJudge, identity: JudgeIdentity = WHO, size: int = 4, **fields: object):
    """A group of `size` whose answers differ, judged with the cache at `path`."""
    cache = JudgeCache(path)
    arena = Arena(config(**fields), judge, lines=line_to(JudgeMemory(cache, identity)))
    try:
        await add_all(arena, size)
        return (await arena.scores())[KEY]
    finally:
        await arena.stop()
        await cache.close()


def verdicts(score: GroupScore) -> list[Verdict]:
    return [call.verdict for match in score.matches for call in match.calls]


async def test_a_second_run_asks_nothing_and_scores_the_same(tmp_path: Path) -> None:
    async def compare(first: int, second: int) -> Verdict:
        return Verdict(0.9 if first < second else 0.1, reason="so", tokens_in=7, tokens_out=2, cost=0.5, latency_s=1.0)

    first = await score(tmp_path / "c.sqlite", FakeJudge(compare, kind="probability"))
    judge = FakeJudge(compare, kind="probability")
    second = await score(tmp_path / "c.sqlite", judge)
    assert judge.asked == []
    assert second.rewards == first.rewards
    assert (first.num_calls, first.num_cached) == (12, 0)
    assert (second.num_calls, second.num_cached) == (12, 12)
    free = {"tokens_in": 0, "tokens_out": 0, "cost": 0.0, "latency_s": 0.0, "attempts": 0}
    assert verdicts(second) == [replace(verdict, **free) for verdict in verdicts(first)]


async def test_failures_are_never_kept(tmp_path: Path) -> None:
    async def fails(first: int, second: int) -> float:
        raise JudgeFailure("bad_reply", retryable=False)

    assert (await score(tmp_path / "c", FakeJudge(fails))).num_failed == 12
    judge = FakeJudge()
    assert (await score(tmp_path / "c", judge)).num_failed == 0
    assert len(judge.asked) == 12


async def test_a_verdict_that_its_kind_does_not_allow_is_not_kept(tmp_path: Path) -> None:
    async def compare(first: int, second: int) -> float:
        return 0.3

    with pytest.raises(UserError, match="a hard verdict is"):
        await score(tmp_path / "c", FakeJudge(compare))
    assert (await score(tmp_path / "c", FakeJudge())).num_cached == 0


def test_what_is_another_question() -> None:
    def key(identity=WHO, prompt=PROMPT, shown=(ONE, OTHER), meeting=0, asked: Asked = "pair") -> bytes:
        return JudgeMemory(None, identity).key(asked, prompt, shown, meeting)  # type: ignore[arg-type]

    same = key()
    assert same == key(prompt=replace(PROMPT, id="of another run"))
    assert same == key(shown=(replace(ONE, id="x", num_tokens=9), OTHER))
    assert same == key(meeting=1)
    parsed = ParsedAnswer(parts={"answer": "one"})
    others = [
        key(identity=JudgeIdentity("judge 2")),
        key(prompt=replace(PROMPT, text="other task")),
        key(prompt=replace(PROMPT, fields={"text": "y"})),
        key(prompt=replace(PROMPT, messages=())),
        key(shown=(OTHER, ONE)),
        key(shown=(ONE, ONE)),
        key(shown=(replace(ONE, parsed=parsed), OTHER)),
        key(shown=(Candidate("1", "on"), Candidate("2", "eother"))),
        key(identity=JudgeIdentity("judge 1", draws=True), meeting=1),
        key(asked="slate"),
    ]
    assert len({same, *others}) == 1 + len(others)
    assert key(shown=(replace(ONE, text="\ud800"), OTHER))  # half a surrogate pair is a text too


async def test_places_of_two_are_no_verdict_on_a_pair(tmp_path: Path) -> None:
    class Judge(FakeJudge):
        async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
            return Places((1, 0))

    cache = JudgeCache(tmp_path / "c")
    caller = Caller(Judge(), CallLimits(), LocalLimiter(1), line=Line(JudgeMemory(cache, WHO)))
    for _ in range(2):
        ranking = await caller.rank(PROMPT, (OTHER, ONE), Slate((0, 1)), (1, 0), 0)
        call = await caller.call(PROMPT, (OTHER, ONE), (1, 0), 0)
        assert ranking is not None
        assert call is not None
        assert (ranking.places, call.verdict.value) == ((1, 0), 0.0)
    await cache.close()
    assert (cache.num_hits, cache.num_misses) == (2, 2)


async def test_meetings_of_a_judge_that_draws_are_asked_each_time(tmp_path: Path) -> None:
    knockout = {"topology": RepeatedKnockout(kind="repeated_knockout", repeats=6), "orders": "first", "size": 2}
    fixed, draws = FakeJudge(), FakeJudge()
    await score(tmp_path / "fixed", fixed, **knockout)  # type: ignore[arg-type]
    await score(tmp_path / "draws", draws, JudgeIdentity("j", draws=True), **knockout)  # type: ignore[arg-type]
    assert (len(fixed.asked), len(draws.asked)) == (1, 6)
    again = FakeJudge()
    await score(tmp_path / "draws", again, JudgeIdentity("j", draws=True), **knockout)  # type: ignore[arg-type]
    assert again.asked == []


async def test_equal_questions_in_flight_are_asked_once(tmp_path: Path) -> None:
    judge, cache = FakeJudge(), JudgeCache(tmp_path / "c")
    arenas = [Arena(config(), judge, lines=line_to(JudgeMemory(cache, WHO))) for _ in range(3)]
    for number, arena in enumerate(arenas):
        await add_all(arena, 4, GroupKey(str(number)))
    found = await asyncio.gather(*(arena.scores() for arena in arenas))
    await cache.close()
    assert len(judge.asked) == 12
    assert sum(score.num_cached for scores in found for score in scores.values()) == 24
    assert (cache.num_hits, cache.num_misses) == (24, 12)


async def test_the_next_in_line_asks_where_the_first_was_cancelled_or_failed(tmp_path: Path) -> None:
    cache = JudgeCache(tmp_path / "c")

    async def ask(answer: Verdict | None) -> bool:
        async with cache.asking(b"key") as found:
            if found is None:
                await asyncio.sleep(0 if answer is not None else 60)
                if answer is not None and answer.value is not None:
                    cache.keep(b"key", answer, "j")
            return found is not None

    stuck = asyncio.create_task(ask(None))
    rest = [asyncio.create_task(ask(answer)) for answer in (Verdict(None, "empty"), Verdict(1.0), Verdict(0.0))]
    await asyncio.sleep(0)
    stuck.cancel()
    assert [await task for task in rest] == [False, False, True]
    assert cache.find(b"key") == Verdict(1.0)
    await cache.close()


async def test_rankings_are_kept_too(tmp_path: Path) -> None:
    cache = JudgeCache(tmp_path / "c")
    cache.keep(b"key", Places((0, 2, 1), reason="so", tokens_in=3), "j")
    await cache.close()
    again = JudgeCache(tmp_path / "c")
    assert again.find(b"key") == Places((0, 2, 1), reason="so", tokens_in=3)
    await again.close()


async def test_what_is_on_its_way_to_the_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.cache.FLUSH_EVERY", 10)
    cache = JudgeCache(tmp_path / "c")
    for number in range(95):
        cache.keep(str(number).encode(), Verdict(1.0), "j")
        assert cache.find(str(number).encode()) is not None
    await cache.close()
    with sqlite3.connect(tmp_path / "c") as connection:
        assert connection.execute("SELECT count(*), min(judge) FROM verdicts").fetchone() == (95, "j")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("this is no database, and long enough to be taken for one" * 20)
    with pytest.raises(UserError, match=r"^rewards\.cache: .*c cannot be used .*; delete it, or name another$"):
        JudgeCache(path)
    with pytest.raises(UserError, match=r"cannot be used .*; name another file$"):
        JudgeCache(tmp_path)  # of which nobody should be told to delete it


async def test_a_disk_that_fails_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = JudgeCache(tmp_path / "c")

    def full() -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(cache, "_connect", full)
    cache.keep(b"key", Verdict(1.0), "j")
    with pytest.raises(RunStopped, match="disk is full"):
        await cache.close()


async def test_calls_that_wait_for_a_twin_hold_no_place(tmp_path: Path) -> None:
    async def compare(first: int, second: int) -> float:
        await asyncio.sleep(0)
        return 1.0

    judge, cache = FakeJudge(compare), JudgeCache(tmp_path / "c")
    arena = Arena(config(calls=CallLimits(max_concurrency=1)), judge, lines=line_to(JudgeMemory(cache, WHO)))
    await arena.open(KEY, PROMPT, 5)
    for index in range(5):
        await arena.add(KEY, index, Candidate(str(index), "all say the same"))
    assert (await arena.scores())[KEY].num_cached == 19
    await cache.close()
    assert len(judge.asked) == 1


WRITER = """
import asyncio, sys
from pathlib import Path
from rewards.cache import JudgeCache
from rewards.types import Verdict

async def main(path, own):
    cache = JudgeCache(Path(path))
    for number in range(600):
        cache.keep(f"shared {number}".encode(), Verdict(1.0), own)
        cache.keep(f"{own} {number}".encode(), Verdict(0.5), own)
        await asyncio.sleep(0)
    await cache.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_many_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)]) for number in range(4)]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM verdicts").fetchone() == (5 * 600,)
    connection.close()
