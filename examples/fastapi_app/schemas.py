"""What travels as JSON."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=80)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]


class TenantIn(BaseModel):
    """A tenant to be."""

    id: Slug
    name: Name
    currency_code: Annotated[str, Field(min_length=3, max_length=3)]
    plan: Annotated[str, Field(max_length=20)] = "free"


class TenantOut(BaseModel):
    """A tenant."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    currency_code: str


class Line(BaseModel):
    """A line of an order."""

    model_config = ConfigDict(from_attributes=True)

    product: Name
    quantity: Annotated[int, Field(gt=0)]
    cents: Annotated[int, Field(ge=0)]


class OrderIn(BaseModel):
    """An order to be; the client numbers its orders, so that sending one twice does no harm."""

    model_config = ConfigDict(from_attributes=True)

    number: Annotated[int, Field(gt=0, lt=2**31)]
    customer: Name
    lines: Annotated[list[Line], Field(min_length=1)]


class OrderOut(OrderIn):
    """An order."""


class Revenue(BaseModel):
    """What all tenants of a currency have sold."""

    currency_code: str
    orders: int
    cents: int
