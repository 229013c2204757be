"""A task so small that thousands of updates take seconds: exact sampling, an exact true score, a noisy judge.

prompt features x_D --policy: softmax over V tokens at each of L places--> answers --hidden true score--> judge (coin)

Logits are linear in the features and so is the true score, so what is learned on one prompt shows on the others, and
so does noise. A share of the prompts is level: every answer is equally good, and the judge can only toss coins.

Shapes: P prompts, D features, L places, V tokens, G groups, N rollouts a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes, RankQuantile, WinRate
from rewards.aggregators import build_aggregator
from rewards.simulate import SimulatedJudge, play
from rewards.topologies import build_topology
from rewards.topology_config import RoundRobin, SingleElimination, TopologyConfig
from rewards.types import GroupScore, SlateTopology
from rl.advantages import compute_advantages
from rl.config import AdvantageKind, DynamicSamplingConfig, ObjectiveConfig, OptimizerConfig
from rl.dynamic_sampling import teaching
from rl.loss import policy_loss
from rl.objectives import Objective, resolve_objective

NUM_PROMPTS, NUM_FEATURES, NUM_PLACES, NUM_TOKENS = 48, 8, 6, 8
GROUP_SIZE = 8
CALLS_PER_STEP = 224
SPREAD = 1.5
"""Standard deviation of the first answers' true scores, in the judge's logits: two answers differ by about 2."""


@dataclass(frozen=True, slots=True)
class Method:
    """From matches to advantages. `aside`: groups under this reliability are not learned from (nor refilled)."""

    name: str
    topology: TopologyConfig
    calls_per_group: int
    aggregator: AggregatorConfig
    advantage: AdvantageKind
    aside: float | None = None

    @property
    def groups_per_step(self) -> int:
        """As many as the same number of judge calls pays for."""
        return CALLS_PER_STEP // self.calls_per_group


LEAGUE, KNOCKOUT = RoundRobin(), SingleElimination(kind="single_elimination", seeding="anchor")
QUANTILES = RankQuantile(kind="rank_quantile")
METHODS = (
    Method("round-robin, z-scored win rates (Pref-GRPO)", LEAGUE, 28, WinRate(kind="win_rate"), "mean_std"),
    Method("round-robin, empirical Bayes", LEAGUE, 28, EmpiricalBayes(), "constant"),
    Method("the same, unreliable groups aside", LEAGUE, 28, EmpiricalBayes(), "constant", aside=0.2),
    Method("seeded elimination, rank quantiles (ArenaRL)", KNOCKOUT, 14, QUANTILES, "rank_quantile"),
    Method("seeded elimination, empirical Bayes", KNOCKOUT, 14, EmpiricalBayes(), "constant"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """weights_PLV: what token v at place l adds to the true score, 0 for the prompts that are level."""

    features_PD: torch.Tensor
    weights_PLV: torch.Tensor
    is_level_P: torch.Tensor


def make_task(seed: int, *, level_share: float) -> Task:
    rng = np.random.default_rng((seed, 1))
    features_PD = rng.standard_normal((NUM_PROMPTS, NUM_FEATURES))
    features_PD /= np.linalg.norm(features_PD, axis=1, keepdims=True)
    hidden_DLV = rng.standard_normal((NUM_FEATURES, NUM_PLACES, NUM_TOKENS))
    weights_PLV = np.einsum("pd,dlv->plv", features_PD, hidden_DLV)
    weights_PLV -= weights_PLV.mean(axis=2, keepdims=True)
    # Variance of the score of a uniform answer: the sum over places of the variance over tokens.
    weights_PLV *= SPREAD / np.sqrt(weights_PLV.var(axis=2).sum(axis=1))[:, None, None]
    is_level_P = np.arange(NUM_PROMPTS) < round(level_share * NUM_PROMPTS)
    weights_PLV[is_level_P] = 0.0
    return Task(
        torch.tensor(features_PD, dtype=torch.float32),
        torch.tensor(weights_PLV, dtype=torch.float32),
        torch.from_numpy(is_level_P),
    )


class Policy:
    """Uniform at the start."""

    def __init__(self, optimizer: str, lr: float) -> None:
        self.weights_DLV = torch.zeros(NUM_FEATURES, NUM_PLACES, NUM_TOKENS, requires_grad=True)
        config = OptimizerConfig()
        self._max_norm = config.max_grad_norm
        if optimizer == "adamw":
            self._optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                [self.weights_DLV], lr=lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
            )
        else:
            self._optimizer = torch.optim.SGD([self.weights_DLV], lr=lr)

    def logprobs(self, features_PD: torch.Tensor) -> torch.Tensor:
        """[P, L, V]"""
        return torch.log_softmax(torch.einsum("pd,dlv->plv", features_PD, self.weights_DLV), dim=-1)

    def update(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([self.weights_DLV], self._max_norm)
        self._optimizer.step()


@torch.no_grad()
def true_score(policy: Policy, task: Task) -> float:
    """Expected true score over the prompts that have one, as a share of what the best answers would get. Exact.

    The policy at the start has 0, since a uniform answer's expected score is 0. NaN where every prompt is level.
    """
    decided_P = ~task.is_level_P
    expected_P = (policy.logprobs(task.features_PD).exp() * task.weights_PLV).sum(dim=(1, 2))
    best_P = task.weights_PLV.amax(dim=2).sum(dim=1)
    return float((expected_P[decided_P] / best_P[decided_P]).mean())


@torch.no_grad()
def drift(policy: Policy, task: Task) -> float:
    """KL(policy || start) of a whole answer in nats, mean over prompts. Exact: the start is uniform."""
    logprobs_PLV = policy.logprobs(task.features_PD)
    return float((logprobs_PLV.exp() * (logprobs_PLV + np.log(NUM_TOKENS))).sum(dim=(1, 2)).mean())


@cache
def _objective(advantage: AdvantageKind) -> Objective:
    config = ObjectiveConfig(kind="dapo", advantage=advantage)
    return resolve_objective(config, reward_kind="win_probability", shrunk=False, max_tokens=NUM_PLACES)


def advantages_of(method: Method, scores: Sequence[GroupScore]) -> np.ndarray:
    """advantages_GN, 0 in groups that are set aside."""
    rewards_GN = np.array([score.rewards for score in scores], dtype=np.float64)
    advantages_GN = compute_advantages(rewards_GN, kind=method.advantage)
    if method.aside is not None:
        kept = teaching(scores, DynamicSamplingConfig(min_reliability=method.aside), min_group=2)
        advantages_GN[~np.array(kept)] = 0.0
    return advantages_GN


def learn(
    method: Method, task: Task, *, lr: float, optimizer: str, num_steps: int, seed: int
) -> tuple[list[float], float]:
    """One run. Returns the true score after 0, 1, .. steps and the last policy's drift."""
    rng, generator = np.random.default_rng((seed, 2)), torch.Generator().manual_seed(seed)
    policy, judge, prior = Policy(optimizer, lr), SimulatedJudge(), None
    topology, aggregator = build_topology(method.topology), build_aggregator(method.aggregator)
    assert not isinstance(topology, SlateTopology)
    objective = _objective(method.advantage)
    scores = [true_score(policy, task)]
    for _ in range(num_steps):
        chosen_G = torch.from_numpy(rng.choice(NUM_PROMPTS, method.groups_per_step, replace=False))
        logprobs_GLV = policy.logprobs(task.features_PD[chosen_G])
        tokens_GNL = _sample(logprobs_GLV.detach(), generator)
        truth_GN = _pick(task.weights_PLV[chosen_G], tokens_GNL).sum(dim=2).double().numpy()
        logs = [play(topology, judge, truth_N, rng, symmetric=True) for truth_N in truth_GN]
        fitted, prior = aggregator.fit(logs, prior)
        judged = [GroupScore(rewards=list(group.rewards), reliability=group.reliability) for group in fitted]
        advantages_GN = torch.from_numpy(advantages_of(method, judged)).float()
        logprobs_BT = _pick(logprobs_GLV, tokens_GNL).flatten(0, 1)
        loss, _ = policy_loss(
            logprobs_BT,
            None,
            advantages_GN.reshape(-1, 1).expand_as(logprobs_BT),
            torch.full(logprobs_BT.shape, -1),
            torch.ones(logprobs_BT.shape, dtype=torch.bool),
            objective=objective,
        )
        policy.update(loss)
        scores.append(true_score(policy, task))
    return scores, drift(policy, task)


def _sample(logprobs_GLV: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """tokens_GNL"""
    probs = logprobs_GLV.exp().flatten(0, 1)
    tokens = torch.multinomial(probs, GROUP_SIZE, replacement=True, generator=generator)
    return tokens.reshape(len(logprobs_GLV), NUM_PLACES, GROUP_SIZE).transpose(1, 2)


def _pick(table_GLV: torch.Tensor, tokens_GNL: torch.Tensor) -> torch.Tensor:
    """The tokens' entries: [G, N, L]."""
    table_GNLV = table_GLV[:, None].expand(-1, GROUP_SIZE, -1, -1)
    return table_GNLV.gather(3, tokens_GNL[..., None]).squeeze(3)
