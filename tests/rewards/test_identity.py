"""Who a judge is: what changes a verdict changes the fingerprint, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewards.endpoint_config import EndpointConfig
from rewards.errors import UserError
from rewards.judge_config import (
    ChatJudge,
    EmbeddingJudge,
    LikelihoodJudge,
    PanelJudge,
    PanelMember,
    PythonJudge,
    VerdictTokensJudge,
)
from rewards.judges.identity import judge_identity
from rewards.rubric_config import Rubric, RubricJudge

TOKENS = VerdictTokensJudge(kind="verdict_tokens", model="m")
TEMPLATE = "# user\n{prompt} {first} {second} {criteria} {choice_first} {choice_second}\n"


def fingerprint(config, **around) -> str:
    identity = judge_identity(config, **around)
    assert identity is not None
    return identity.fingerprint


def test_keys_that_change_a_verdict_make_another_judge() -> None:
    others = [
        TOKENS.model_copy(update={"model": "n"}),
        TOKENS.model_copy(update={"criteria": "Which is longer?"}),
        TOKENS.model_copy(update={"max_model_len": 4096}),
        TOKENS.model_copy(update={"choices": ("1", "2")}),
        EmbeddingJudge(kind="embedding", model="m"),
        LikelihoodJudge(kind="likelihood", model="m"),
    ]
    assert len({fingerprint(config) for config in (TOKENS, *others)}) == 1 + len(others)


def test_what_only_changes_the_cost_does_not() -> None:
    assert fingerprint(TOKENS) == fingerprint(TOKENS.model_copy(update={"kv_cache_gib": 7.0}))
    embedding = EmbeddingJudge(kind="embedding", model="m")
    assert fingerprint(embedding) == fingerprint(embedding.model_copy(update={"batch_size": 1}))


def test_a_templates_text_counts_and_not_where_it_lies(tmp_path: Path) -> None:
    for folder, text in (("a", TEMPLATE), ("b", TEMPLATE), ("c", TEMPLATE + "Think.\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "judge.md").write_text(text)
    config = TOKENS.model_copy(update={"template": "judge.md"})
    a, b, c = (fingerprint(config, base_dir=tmp_path / folder) for folder in "abc")
    assert a == b != c
    with pytest.raises(UserError, match="no such template"):
        judge_identity(config, base_dir=tmp_path)


def test_the_template_by_which_criteria_are_written_counts(tmp_path: Path) -> None:
    endpoint = EndpointConfig(base_url="http://h/v1", model="m")
    template = str(tmp_path / "write.md")
    config = RubricJudge(
        kind="rubric", endpoint=endpoint, rubric=Rubric(), criteria_from="prompt", write_template=template
    )
    found = []
    for text in ("Write criteria.", "Write better criteria."):
        (tmp_path / "write.md").write_text(f"# user\n{text}\n")
        found.append(fingerprint(config))
    assert found[0] != found[1]


def test_other_weights_under_the_same_path_are_another_judge(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    before = fingerprint(TOKENS, directory=tmp_path)
    assert before == fingerprint(TOKENS, directory=tmp_path)
    weights.write_bytes(b"other")
    assert before != fingerprint(TOKENS, directory=tmp_path)


def test_a_python_judge_is_kept_by_its_version_only() -> None:
    config = PythonJudge(kind="python", target="my.judges:better")
    assert judge_identity(config) is None
    one, two = (judge_identity(config.model_copy(update={"version": version})) for version in "12")
    assert one is not None
    assert two is not None
    assert one.fingerprint != two.fingerprint
    assert one.draws, "nobody knows whether it draws lots"


def chat(**keys: object) -> ChatJudge:
    endpoint = {"base_url": "http://judge:8000/v1", "model": "m", **keys}
    return ChatJudge(kind="chat", endpoint=EndpointConfig.model_validate(endpoint))


def test_an_endpoint_at_temperature_0_draws_nothing_and_its_seed_is_part_of_it() -> None:
    still, warm = judge_identity(chat()), judge_identity(chat(temperature=0.7))
    assert still is not None
    assert warm is not None
    assert (still.draws, warm.draws) == (False, True)
    assert fingerprint(chat(temperature=0.7, seed=1)) != fingerprint(chat(temperature=0.7, seed=2))
    assert fingerprint(chat(price_per_million_in=3.0, timeout_s=9.0)) == fingerprint(chat())


def test_a_panel_is_its_members_and_a_member_is_not_the_judge_alone() -> None:
    members = (PanelMember(judge=TOKENS), PanelMember(judge=chat()))
    assert judge_identity(PanelJudge(kind="panel", members=members)) is None
    assert fingerprint(TOKENS, in_panel=True) != fingerprint(TOKENS), "there a score counts by its sign"
