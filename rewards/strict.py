"""The pydantic base of every config: frozen, strict, no unknown keys, no NaN."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`package.module:name`."""


class StrictModel(BaseModel):
    """A frozen config section. Unknown keys, wrong types and non-finite numbers are errors."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


def config_kinds(union: Any) -> dict[str, type[StrictModel]]:
    """Every config of an annotated union by the name of its `kind`, in the union's order."""
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields["kind"].annotation)[0]: member for member in members}
