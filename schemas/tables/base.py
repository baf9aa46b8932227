"""What all tables share: the names of their constraints, and the columns that recur."""

from sqlalchemy import Column, ForeignKey, MetaData

from schemas.types import Id

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_column() -> Column[int]:
    return Column("id", Id, primary_key=True, autoincrement=True)


def run_key_column() -> Column[int]:
    return Column("stage_run_id", Id, ForeignKey("stage_run.id"), primary_key=True)


def asset_ref_column() -> Column[int]:
    return Column("asset_id", Id, ForeignKey("asset.id"), nullable=False, index=True)
