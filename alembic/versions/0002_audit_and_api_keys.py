"""Create the tables of API keys and of the audit trail.

Revision: 0002
Before: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RECORD_TABLES = (("api_keys", "id"), ("audit", "revision"))


def upgrade() -> None:
    for name, key in RECORD_TABLES:
        op.create_table(
            name,
            sa.Column(key, sa.Integer, nullable=False, autoincrement=False),
            sa.Column("data", sa.LargeBinary, nullable=False),
            sa.PrimaryKeyConstraint(key, name=op.f(f"pk_{name}")),
            sqlite_with_rowid=False,
        )


def downgrade() -> None:
    for name, _ in reversed(RECORD_TABLES):
        op.drop_table(name)
