"""What this member keeps on its disk: the log, the state database, and copies of it.

May import `config`, `metrics` and everything below them. Only this room imports SQLAlchemy.
"""
