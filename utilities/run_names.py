"""How a run is named when nobody names it."""

NAMED_BY_GROUP = "group_plus_seed"


def run_name(savename: str, group: str, seed: int) -> str:
    """The name of the run folder: `<group>_s<seed>`, unless there is another."""
    return f"{group}_s{seed}" if savename == NAMED_BY_GROUP else savename
