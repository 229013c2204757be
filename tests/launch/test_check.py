"""`podium check`: the plan in figures, every name that leads nowhere, and nothing started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch.check import check_recipe
from launch.check_sft import check_sft
from launch.machine import Machine
from launch.plan import Plan
from launch.show_plan import plan_json, plan_text
from recipes.load import load_recipe
from recipes.messages import RecipeError
from rewards.errors import UserError
from tests.launch.fakes import GPU_BOX, LAPTOP, PYTHON_JUDGE, write_model, write_recipe_folder

HEAVY = ("torch", "ray", "vllm", "deepspeed", "transformers", "datasets", "pyarrow", "openai", "aiohttp", "jsonschema")
CHAT = "{kind: chat, endpoint: {base_url: 'http://judge/v1', model: m, temperature: 1}, votes: 3}"
LENGTH = "{kind: program, by: {kind: length, target: 9}}"


@pytest.fixture(autouse=True)
def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    write_recipe_folder(tmp_path)
    (tmp_path / "bad.md").write_text("# user\n{prompt} {frist} {second}\n", encoding="utf-8")
    return tmp_path


def plan(*overrides: str, machine: Machine = LAPTOP) -> Plan:
    return check_recipe(load_recipe("full.yaml", overrides), machine)


def faults(*overrides: str, machine: Machine = LAPTOP) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        plan(*overrides, machine=machine)
    return str(caught.value).splitlines()


# --- the plan ---------------------------------------------------------------------------------------------------


def test_batch_shapes_by_hand() -> None:
    batch = plan().batch
    assert (batch.num_prompts, batch.group_size, batch.num_rollouts) == (6, 8, 48)
    assert batch.max_sampled_tokens == 48 * 48
    assert batch.max_learned_tokens == 48 * 48 + 6 * 300
    assert plan("rl.learner.share_prompt=false").batch.max_learned_tokens == 48 * (48 + 300)
    assert plan("rl.updates_per_step=3").batch.optimizer_steps == 60


def test_the_plan_names_its_parts() -> None:
    made = plan()
    assert made.device == "cpu"
    assert made.num_gpus == 0
    assert made.policy.num_params == 24_000
    assert set(made.judges) == {"judge", "audit judge"}
    assert (made.num_train, made.num_heldout) == (136, 64)
    assert (made.engines.num_engines, made.engines.threads, made.engines.sync) == (2, 1, "shm")
    assert made.objective.advantage == "mean"
    assert made.calls.per_step == 168
    assert made.runs_in == str(Path.cwd() / "runs")
    assert made.warnings == ()


def test_slates_are_counted_by_their_calls() -> None:
    # 8 rollouts: 4 rounds of 2 slates, each in both orders; 6 groups. Evaluation stays pairwise: 64 games, both orders.
    calls = plan("rewards.topology={kind: k_wise}", "rewards.judge.max_model_len=492").calls
    assert (calls.per_group, calls.per_step, calls.per_evaluation) == (16, 96, 128)


def test_gpus_are_counted_with_their_judge() -> None:
    separate = plan("rl.learner.ranks=4", "rollouts.engine.tensor_parallel_size=1", machine=GPU_BOX)
    assert (separate.device, separate.num_gpus, separate.engines.sync) == ("cuda", 2 + 4 + 1, "nccl")
    colocated = plan("rollouts.placement=colocated", PYTHON_JUDGE, machine=GPU_BOX)
    assert (colocated.num_gpus, colocated.engines.sync) == (2, "ipc")


def test_the_plan_as_text_and_json_tells_the_same() -> None:
    made = plan()
    text = plan_text(made)
    for words in ("6 prompts x 8 = 48 rollouts", "168 a step", "2 ranks, ZeRO 2", "136 to train on, 64 held out"):
        assert words in text
    values = json.loads(json.dumps(plan_json(made)))
    assert values["batch"]["num_rollouts"] == 48
    assert values["calls"]["per_run"] == made.calls.per_run
    assert values["policy"]["directory"].endswith("/model")


def test_one_of_a_thing_is_singular() -> None:
    text = plan_text(plan("rl.num_steps=1", "rl.optimizer.warmup_steps=0", "rl.learner.ranks=1"))
    for words in ("1 step x 1 = 1 optimizer step, 1 evaluation\n", "1 rank, ZeRO 2", "2 cores,", ", 1 thread each"):
        assert words in text


def test_numbers_and_truth_values_of_a_row_are_fields_too(recipe_folder: Path) -> None:
    rows = [{"text": f"a text, number {n}", "year": 1900 + n, "true_story": n % 2 == 0} for n in range(100)]
    (recipe_folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert plan("task.template='{year} {true_story}: {text}'").num_train == 36
    (fault,) = faults("rewards.gates.1.field=yaer")
    assert "they have: text, true_story, year" in fault


def test_a_likelihood_judge_is_looked_up_like_the_others() -> None:
    audit = "evaluation.audit_judge={kind: likelihood, model: ./embedder, max_tokens: %d}"
    assert plan(audit % 256).judges["audit judge"].num_params == 24_000
    (fault,) = faults(audit % 257)
    assert "evaluation.audit_judge.max_tokens = 257: the model's own context is 256" in fault


def test_members_of_a_panel_are_looked_up_one_by_one(recipe_folder: Path) -> None:
    (recipe_folder / "pairs.jsonl").write_text('{"prompt": "p", "better": "b", "worse": "w"}')
    member = "{kind: likelihood, model: ./embedder, max_tokens: %d}"
    known = "rewards.calibration={file: %s, per_group: 1.5}"

    def panel(max_tokens: int, more: str = "") -> str:
        members = f"[{{judge: {CHAT}}}, {{judge: {member % max_tokens}}}]"
        return f"rewards.judge={{kind: panel, members: {members}{more}}}"

    made = plan(panel(256, ", reputation: {}"), known % "pairs.jsonl", "rewards.max_calls_per_step=null")
    assert set(made.judges) == {"judge, member 2", "audit judge"}
    # 14 matches of a group, chat in both orders and likelihood once; for each group 2 known pairs to both of them.
    assert (made.calls.per_group, made.calls.per_step) == (14 * 3, 6 * (14 * 3 + 2 * 2))
    assert made.calls.votes == 3
    assert "a call is up to 3 requests" in plan_text(made)
    first, second = faults(panel(257), known % "nowhere.jsonl", "rewards.max_calls_per_step=null")
    assert "rewards.judge.members.1.judge.max_tokens = 257: the model's own context is 256" in first
    assert "rewards.calibration.file" in second
    reads = "rewards.judge={kind: program, by: {kind: number, reference_field: text}}"
    (lacking,) = faults(reads, known % "pairs.jsonl", "rewards.max_calls_per_step=null")
    assert "the judge reads field 'text', and pair calibration-1 has none; add fields.text" in lacking


def test_templates_of_a_chat_judge_are_read(recipe_folder: Path) -> None:
    (fault,) = faults(f"rewards.judge={CHAT}", "rewards.judge.template=./bad.md")
    assert "bad.md:2: unknown placeholder {frist}" in fault
    assert plan(f"rewards.judge={CHAT}").judges.keys() == {"audit judge"}


def test_a_run_that_will_hardly_fit_gets_a_warning() -> None:
    small = Machine(cores=1, memory_gib=4.0, memory_free_gib=2.0, shm_gib=1.0, shm_free_gib=1.0)
    memory, cores = plan(machine=small).warnings
    assert memory.startswith("memory: about ")
    assert cores.startswith("cores: 2 engines bind 2")


def test_a_cluster_elsewhere_is_not_held_against_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults("launch.device=cuda")
    assert plan("launch.device=cuda", "launch.ray_address=ray:1234").ray_address == "ray:1234"
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    assert plan("launch.device=cuda").ray_address == "elsewhere:1"


def test_a_source_that_only_the_run_can_count() -> None:
    made = plan("task.source={kind: datasets, name: some/name}")
    assert (made.num_train, made.num_heldout) == (None, 64)
    assert "counted at the start" in plan_text(made)


def test_a_hub_model_is_planned_without_its_sizes() -> None:
    made = plan("model.path=owner/name")
    assert made.policy.num_params is None
    assert made.warnings == ("model owner/name: taken from the hub at the start of the run, or from its local cache",)
    assert "?" in plan_text(made)


def test_a_placeholder_that_was_not_closed_is_a_warning() -> None:
    (warning,) = plan("task.template='Write {text} like {text, {{text}} or {\"a\": {b'").warnings
    assert warning == "task.template: '{text' has no closing brace and stays as it is; write {text}"
    pools = "task={kind: slate_rank, source: {kind: synthetic}, template: '{items {query} {items}', heldout: 64}"
    warnings = plan(pools, "rewards.gates=[]", "evaluation.audit_judge=null").warnings
    assert warnings == ("task.template: '{items' has no closing brace and stays as it is; write {items}",)


def test_what_only_the_runs_own_machine_needs_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = f"rewards.judge={CHAT}".replace("model: m", "model: m, api_key_env: NOPE_KEY")
    gates = "rewards.gates=[{kind: command, command: [nosuchprog]}, {kind: command, name: b, command: ['true']}]"
    key, program = plan(keyed, gates).warnings
    assert key.startswith("rewards.judge.endpoint.api_key_env: environment variable NOPE_KEY is not set; it is to hold")
    assert program.startswith("rewards.gates.0.command: no program 'nosuchprog' on PATH; install it, or give its path")
    monkeypatch.setenv("NOPE_KEY", "k")
    assert plan(keyed).warnings == ()


# --- names that lead nowhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.path=./missing", "no such directory"),
        ("model.path=package:smollm2-135m-instruc", "did you mean package:smollm2-135m-instruct?"),
        ("rewards.judge.model=./missing", "no such directory"),
        ("evaluation.audit_judge.model=./missing", "no such directory"),
        ("rewards.judge.template=verdict_token", "did you mean 'verdict_tokens'?"),
        ("rewards.judge.template=./mine.md", "no such template or file"),
        ("rewards.judge.template=./bad.md", "bad.md:2: unknown placeholder {frist}; did you mean 'first'?"),
        ("task.source.path=missing.jsonl", "missing.jsonl: cannot be read (No such file or directory)"),
        ("task.source={kind: package_lines, package: no_such_package_here, files: [a]}", "is not installed"),
        ("task.template='{txt}'", "unknown placeholder {txt}; did you mean 'text'?"),
        ("task.heldout=200", "none is left to train on"),
        ("task.heldout=195", "rollouts.prompts_per_step = 6: only 5 prompts are there to train on; lower it"),
        ("rewards.gates.1.field=txt", "no prompt has a field 'txt'; they have: text; did you mean 'text'?"),
        ("evaluation.audit_judge.reference_field=title", "no prompt has a field 'title'"),
        ("rewards.judge={kind: python, target: no_such_module:f}", "no module named 'no_such_module'"),
        ("rewards.judge={kind: python, target: my_rewards:compara}", "did you mean 'compare'?"),
        ("rewards={kind: scorer, target: my_rewards:score}", "module my_rewards has no 'score'"),
        ("task={kind: python, target: my_rewards:Task}", "module my_rewards has no 'Task'"),
        ("model.max_context=9000", "the model's own context is 8192"),
        ("rewards.judge.max_model_len=9000", "the model's own context is 8192"),
        ("evaluation.audit_judge.max_tokens=512", "the model's own context is 256"),
        ("rl.objective.advantage=mean_std", "undoes the shrinkage"),
        ("rl.objective.advantage=constant", "use `mean` or `batch_std`"),
        ("rl.objective.constant_tokens=9", "has no effect with aggregation token"),
        ("rollouts.engine.kv_cache_gib=0.00002", "holds 223 tokens, fewer than the 512 of one full text"),
        ("rewards.judge.kv_cache_gib=0.00002", "holds 223 tokens, fewer than the 1024 of"),
        ("launch.device=cuda", "no GPU can be seen here"),
        ("rollouts.engine.tensor_parallel_size=2", "tensor parallelism needs device cuda"),
        ("launch.storage=full.yaml", "is not a folder that can be written"),
        ("sft.data=missing.jsonl", "missing.jsonl: cannot be read"),
        ("rl.init_from=missing", "/missing: no such directory; give a run, a checkpoint or a model directory"),
        ("rl.init_from=.", "is no run, no checkpoint and no model directory"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line_at_its_key(override: str, message: str) -> None:
    (line,) = faults(override, "rl.min_batch_reliability=0")  # a scorer has no reliability
    assert line.startswith((f"--set {override}: ", "full.yaml:"))
    assert message in line
    assert override.split("=")[0].split(".")[0] in line


def test_a_cache_for_one_answer_is_enough_and_gpus_size_their_own() -> None:
    # 2 x 3 layers x 2 heads x 4 x 2 bytes = 96 bytes a token
    enough, little = (f"rollouts.engine.kv_cache_gib={tokens * 96 / 2**30!r}" for tokens in (512, 511))
    assert plan(enough).engines.kv_tokens == 512
    assert "holds 511 tokens" in faults(little)[0]
    assert plan(little, machine=GPU_BOX).engines.kv_tokens is None
    assert plan(little, "launch.ray_address=ray:1234").engines.kv_tokens == 511
    assert "holds 511 tokens" in faults(little, "launch.ray_address=ray:1234", "launch.device=cpu")[0]


def test_too_few_gpus_are_named() -> None:
    (line,) = faults("rl.learner.ranks=6", machine=GPU_BOX)
    assert "needs 9 GPUs and 8 can be seen" in line


def test_heads_must_divide(recipe_folder: Path) -> None:
    (line,) = faults("rollouts.engine.tensor_parallel_size=3", "rollouts.engines=1", "rollouts.engines_per_node=1",
                     machine=GPU_BOX)  # fmt: skip
    assert "must divide the model's 4 attention heads" in line


def test_a_value_that_was_not_given_is_told(recipe_folder: Path) -> None:
    text = (recipe_folder / "full.yaml").read_text(encoding="utf-8")
    text = text.replace("  heldout: 64\n", "").replace("  num_prompts: 64\n", "")
    (recipe_folder / "full.yaml").write_text(text, encoding="utf-8")
    rows = (json.dumps({"text": f"a text, number {n}"}) for n in range(40))
    (recipe_folder / "prompts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (line,) = faults()
    assert line.startswith("full.yaml:7: task.heldout = 64 by default: the source has 40 different prompts, so none")
    (line,) = faults("task.heldout=63")  # found with the recipe, before anything is looked up
    assert "evaluation.num_prompts = 64 by default: only task.heldout = 63" in line


def test_every_broken_row_is_named(recipe_folder: Path) -> None:
    (recipe_folder / "prompts.jsonl").write_text('{"text": "a"}\n{"text"\n[]\n', encoding="utf-8")
    first, second = faults()
    assert "prompts.jsonl:2: not valid JSON" in first
    assert "prompts.jsonl:3: not a JSON object" in second
    assert first.startswith("full.yaml:9: task.source = ")


def test_all_faults_come_at_once() -> None:
    lines = faults("model.path=./missing", "task.source.path=gone.jsonl", "rl.objective.advantage=mean_std",
                   "rewards.judge={kind: python, target: no_such_module:f}")  # fmt: skip
    assert len(lines) == 4


# --- warm start -------------------------------------------------------------------------------------------------


def test_the_plan_shows_the_warm_start() -> None:
    made = plan()
    assert made.sft is not None
    assert (made.sft.num_rows, made.sft.num_heldout, made.sft.num_steps) == (36, 4, 5)  # 2 x 36 rows / 16
    text = plan_text(made)
    assert "36 rows to learn from, 4 held out" in text
    assert "5 steps of 16 rows each, up to 300 tokens a row" in text
    assert plan("sft=null").sft is None


def test_sft_looks_at_its_own_part_only() -> None:
    loaded = load_recipe("full.yaml", ["rl.init_from=./later", "task.source.path=gone.jsonl"])
    assert check_sft(loaded, LAPTOP).num_steps == 5
    long = ["model.max_context=null", "sft.max_tokens=9000", "sft.learner.micro_batch_tokens=9000"]
    wrong = load_recipe("full.yaml", [*long, "sft.data=gone.jsonl", "launch.storage=full.yaml"])
    with pytest.raises(RecipeError, match="model's own context is 8192") as caught:
        check_sft(wrong, LAPTOP)
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(RecipeError, match="needs 9 GPUs and 8 can be seen"):
        check_sft(load_recipe("full.yaml", ["sft.learner.ranks=9"]), GPU_BOX)
    with pytest.raises(UserError, match="the recipe has no such section"):
        check_sft(load_recipe("full.yaml", ["sft=null"]), LAPTOP)


def test_a_start_of_another_architecture_is_refused(recipe_folder: Path) -> None:
    write_model(recipe_folder / "other", max_context=8192)
    assert plan("rl.init_from=./other").policy.name == str(recipe_folder / "other")
    config = recipe_folder / "other" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 32'))
    (fault,) = faults("rl.init_from=./other")
    assert "rl.init_from" in fault
    assert "its hidden_size is 32 and that of model.path 16" in fault


# --- nothing is started -----------------------------------------------------------------------------------------


def test_a_check_imports_neither_engines_nor_plug_ins(recipe_folder: Path) -> None:
    program = f"""
import sys
from launch.check import check_recipe
from recipes.load import load_recipe
for judge in ({PYTHON_JUDGE!r}, "rewards.judge=" + {CHAT!r}, "rewards.judge=" + {LENGTH!r}):
    check_recipe(load_recipe("full.yaml", [judge]))
print(sorted({{*{HEAVY!r}, "my_rewards"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=recipe_folder
    )
    assert done.stdout == "[]\n"
