"""Plain SQLAlchemy: nothing in it knows of shards."""

from __future__ import annotations

from sqlalchemy import ForeignKey, ForeignKeyConstraint, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Base of the shop's models."""


class Account(Base):
    """Who pays how much: not sharded, in a database of its own."""

    __tablename__ = "accounts"

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    plan: Mapped[str] = mapped_column(String(20))


class Currency(Base):
    """A reference table: every shard has all rows."""

    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(String(3), primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class Tenant(Base):
    """Sharded by its primary key."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    currency_code: Mapped[str] = mapped_column(ForeignKey("currencies.code"))
    currency: Mapped[Currency] = relationship()
    orders: Mapped[list[Order]] = relationship(order_by="Order.number")


class Order(Base):
    """Sharded by the tenant, whose order numbers are its own."""

    __tablename__ = "orders"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer: Mapped[str] = mapped_column(String(80))
    lines: Mapped[list[OrderLine]] = relationship(
        cascade="all, delete-orphan", order_by="OrderLine.position"
    )


class OrderLine(Base):
    """Sharded by the tenant, too: with its order."""

    __tablename__ = "order_lines"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "order_number"], ["orders.tenant_id", "orders.number"]),
    )

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    order_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    product: Mapped[str] = mapped_column(String(80))
    quantity: Mapped[int]
    cents: Mapped[int]
    """Price of one."""
