"""Create the tables of the replicated state.

Revision: 0001
Before: none
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RECORD_TABLES = (
    ("leases", "id", sa.Integer),
    ("timers", "key", sa.LargeBinary),
    ("requests", "client", sa.Integer),
    ("members", "id", sa.Integer),
    ("users", "name", sa.Text),
    ("roles", "name", sa.Text),
    ("alarms", "key", sa.LargeBinary),
)


def upgrade() -> None:
    op.create_table(
        "versions",
        sa.Column("mod_revision", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("sub", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("space", sa.Integer, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("create_revision", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("mod_revision", "sub", name=op.f("pk_versions")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
        sqlite_with_rowid=False,
    )
    for name, key, key_type in RECORD_TABLES:
        op.create_table(
            name,
            sa.Column(key, key_type, nullable=False, autoincrement=False),
            sa.Column("data", sa.LargeBinary, nullable=False),
            sa.PrimaryKeyConstraint(key, name=op.f(f"pk_{name}")),
            sqlite_with_rowid=False,
        )


def downgrade() -> None:
    for name, _, _ in reversed(RECORD_TABLES):
        op.drop_table(name)
    op.drop_table("meta")
    op.drop_table("versions")
