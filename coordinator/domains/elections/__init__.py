"""Elections: one leader of many candidates, with a token that fences its term."""
