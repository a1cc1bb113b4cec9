"""Many runs of main.py from one file: what they are, how they stand, and where they run.

Nothing here loads torch: the runs do, in processes of their own.
"""
