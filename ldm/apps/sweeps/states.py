"""How a job of a sweep stands, as sweep.json and the table say it."""

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
FAILED, PRUNED, STOPPED = "failed", "pruned", "stopped"
ALL = (WAITING, RUNNING, FINISHED, FAILED, PRUNED, STOPPED)
