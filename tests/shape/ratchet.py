"""What breaks a size rule today, with its size. Both lists may only shrink.

A test fails when an entry grows, when it could be lowered, and when it is no longer needed.
"""

LONG_MODULES: dict[str, int] = {}
"""Path → lines; the rule is 500."""

LONG_FUNCTIONS: dict[str, int] = {}
"""`path:function` → lines without the docstring; the rule is 70."""
