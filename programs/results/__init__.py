"""Finished runs beside each other: their folders read, grouped, compared, drawn.

Nothing here loads torch, so that hundreds of folders are read in a second.
"""
