"""What vLLM's processes are called: by the titles that they give themselves, or by their place where they give none.

    engine's actor --spawns--> EngineCore --spawns--> Worker        (and a resource tracker each)

A title goes over the process's own arguments, which are not found where the first variable of its environment was
changed before; such a process stays `python`.
"""

from __future__ import annotations

from collections.abc import Sequence

SPAWNED = "spawn_main"
"""In the arguments of what Python's multiprocessing spawned, other than its resource tracker."""


def title_of(name: str, arguments: Sequence[str], *, is_child: bool) -> str:
    """The title of a process under the engine's actor.

    Args:
        name: the kernel's, cut after 15 letters. is_child: the actor itself spawned it.
    """
    if "VLLM" in name or not any(SPAWNED in argument for argument in arguments):
        return name
    return "EngineCore" if is_child else "Worker"
