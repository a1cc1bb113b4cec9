"""One HTML file that shows a run, or several beside each other: what it holds, how it is written.

`run_part`, `comparison_part` and `pictures` read, `chart` and `heat_map` lay out what is drawn,
`writing` puts it into the templates. Only `pictures` loads torch.
"""
