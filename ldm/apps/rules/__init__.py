"""Rules between settings, and between settings and what they are to run on.

Each file holds the rules of one subject; ``table.py`` lists them all, by command. A rule asks a
``Case`` and gives a sentence for each thing that does not fit: what was found, what is allowed,
what to type. Rules change nothing and start nothing.
"""
