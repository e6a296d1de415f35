"""What of a sweep's finished rounds stays in the store. It changes no result, and is in no key."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from raylottery.errors import did_you_mean
from raylottery.spec.problems import Problem, Problems, StrictModel, shown


What = Literal["all", "tickets", "last"]


class Keep(StrictModel):
    """What stays of finished rounds; written as one word, or as a section."""

    what: What
    """all; tickets: the snapshots of the dense training go; last: of the tickets of each lineage
    only its own last one stays, and of the snapshots those that its rounds rewind to."""
    densities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((), strict=False)
    """last: keeps also the tickets of the rounds whose planned densities come nearest to these on
    a log scale, such as [0.2, 0.05]."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        words = get_args(What)
        if isinstance(value, str):
            if value not in words:
                raise ValueError(f"no such value: {shown(value)}. {did_you_mean(value, words)}")
            return {"what": value}
        if not isinstance(value, dict | Keep):
            raise ValueError(
                f"expected one of {', '.join(words)}, or a section such as "
                f"{{what: last, densities: [0.2]}}, found {shown(value)}."
            )
        return value

    @field_validator("densities")
    @classmethod
    def _with_last(cls, densities: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if densities and info.data.get("what", "last") != "last":
            raise ValueError(f"keep: {info.data['what']} keeps every ticket; leave them out.")
        for i, density in enumerate(densities):
            if density in densities[:i]:
                raise Problems([Problem((i,), f"{density:g} is listed twice; take one out.")])
        return densities

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        if not self.densities:
            return self.what
        return {"what": self.what, "densities": list(self.densities)}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        form = handler(schema)
        section = handler.resolve_ref_schema(form)
        whole = dict(section)
        section.clear()
        section["anyOf"] = [{"enum": [*get_args(What)], "type": "string"}, whole]
        return form

    def __str__(self) -> str:
        """As it stands in a sweep file."""
        if not self.densities:
            return self.what
        listed = ", ".join(f"{density:g}" for density in self.densities)
        return f"{{what: {self.what}, densities: [{listed}]}}"
