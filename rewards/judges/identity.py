"""Who judges and how, as the cache of verdicts needs to know it: equal fingerprints, equal verdicts.

config (all keys that change a verdict) + text of its templates + state of its model's files --> JudgeIdentity
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rewards.cache import JudgeIdentity
from rewards.judge_config import JudgeConfig
from rewards.template import template_texts

CODE = 2
"""Raise it when a judge of ours comes to say something else of the same texts, by the same config and templates."""

SAME_VERDICT = frozenset(
    {"kv_cache_gib", "batch_size", "timeout_s", "api_key_env", "price_per_million_in", "price_per_million_out"}
)
"""Keys that change what a verdict costs, not what it is."""

NOT_KEPT = ("program", "panel")
"""A program is cheaper to run than to look up; a panel is its members."""


def judge_identity(
    config: JudgeConfig, *, directory: Path | None = None, base_dir: Path | None = None, in_panel: bool = False
) -> JudgeIdentity | None:
    """The identity of a recipe's judge; None where its verdicts are not to be kept.

    A panel has none, its members have. A python judge has one by its `version`: its code may change any time.

    Args:
        directory: of its model, if it has one in files. They are told apart by name, size and time.
        base_dir: where a template's relative path starts.
        in_panel: its scores are read as wins there, so its verdicts are others.

    Raises:
        UserError: a template cannot be read.
    """
    keys = config.model_dump(mode="json", by_alias=True)
    if config.kind in NOT_KEPT or (config.kind == "python" and keys["version"] is None):
        return None
    facts = {
        "code": CODE,
        "in_panel": in_panel,
        "config": _without(keys),
        "templates": {
            key: [hashlib.sha256(text.encode()).hexdigest() for text in template_texts(name, config.kind, base_dir)]
            for key, name in sorted(keys.items())
            if key in ("template", "list_template", "write_template")
        },
        "files": _files(directory),
    }
    return JudgeIdentity(json.dumps(facts, sort_keys=True), draws=_draws(keys))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in SAME_VERDICT}
    return [_without(item) for item in value] if isinstance(value, list) else value


def _files(directory: Path | None) -> list[tuple[str, int, int]]:
    if directory is None or not directory.is_dir():
        return []
    files = ((path, path.stat()) for path in sorted(directory.iterdir()) if path.is_file())
    return [(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in files]


def _draws(keys: dict[str, Any]) -> bool:
    """A python judge may draw lots; a model behind an endpoint does unless its temperature is 0."""
    endpoint = keys.get("endpoint")
    return keys["kind"] == "python" or (isinstance(endpoint, dict) and endpoint.get("temperature") != 0.0)
