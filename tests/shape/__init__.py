"""The structure of the project, tested: rules that are not a test are not rules."""
