"""Parts of a model in and out of other programs' formats."""
