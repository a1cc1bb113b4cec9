"""What people call beside main.py: `python -m programs.embed`, `search`, `compare` and so on.

A program's own module reads its flags and imports nothing heavy, so that `--help` and wrong flags
answer at once; what it does is imported when it runs. `trained.load` is the door for own code.
"""
