"""`[route.columns]`: what the columns of a mapped target table are made of, in the words of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_TYPE = re.compile(
    r"decimal\((\d+),(\d+)\)|varchar\((\d+)\)|(tinyint|smallint|mediumint|int|bigint)( unsigned)?", re.ASCII
)
_KINDS = "expected decimal(p,s), varchar(n), or an integer type like bigint unsigned"


def _type(text: str) -> str:
    tidy = re.sub(r"\s*([(),])\s*", r"\1", " ".join(text.lower().split()))
    match = _TYPE.fullmatch(tidy)
    if not match:
        raise ValueError(_KINDS)
    precision, scale, length = (int(n) if n else 0 for n in match.groups()[:3])
    if (precision and not scale <= precision <= 65) or scale > 30 or length > 16_383 or (match[3] and not length):
        raise ValueError(f"{tidy}: out of TiDB's bounds")
    return tidy


def _separator(text: str) -> str:
    if len(text) != 1 or not text.isascii() or not text.isprintable() or text.isalnum():
        raise ValueError("expected one character of ASCII that is no letter and no digit")
    return text


class ColumnSpec(BaseModel):
    """What one target column is made of: of a source column (`from`), as it is or by `scale`, `codes` or `separator`
    and `part`; or a constant `value`. `type` is the column's on the target where it isn't the obvious one; `null =
    false` makes it NOT NULL there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Annotated[str | None, Field(alias="from", min_length=1)] = None
    value: Annotated[str, Field(max_length=255)] | int | None = None
    scale: Annotated[int, Field(ge=1, le=12)] | None = None
    codes: dict[str, str | int] | None = None
    separator: Annotated[str, AfterValidator(_separator)] | None = None
    part: Annotated[int, Field(ge=1, le=16)] | None = None
    type: Annotated[str, AfterValidator(_type)] | None = None
    null: bool = True

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"from": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way(self) -> ColumnSpec:
        ways = [name for name in ("scale", "codes", "separator") if getattr(self, name) is not None]
        if (self.from_ is None) == (self.value is None):
            raise ValueError('expected either from = "column of the source" or value = a constant')
        if self.value is not None and (ways or self.part):
            raise ValueError(f"a constant has no {(*ways, 'part')[0]}")
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} exclude each other")
        if (self.separator is None) != (self.part is None):
            raise ValueError("separator and part go together")
        if self.codes is not None and not self.codes:
            raise ValueError("codes names no value")
        return self
