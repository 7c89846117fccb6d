"""A run's record: who ran what, from which code and data, where; an entry for each sitting."""
