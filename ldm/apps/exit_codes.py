"""What the exit code of a command says to the shell, the scheduler and the launcher above it."""

FINISHED = 0
FAILED = 1  # anything that is not told apart below; Python's own code after a traceback
MISTAKE = 2  # in settings or inputs, or too little disk or memory: said in a sentence, to be mended
STOPPED = 75  # by a configured signal or max_time: saved, the same command goes on (EX_TEMPFAIL)
INTERRUPTED = 130  # by Ctrl-C: saved, the same command goes on (128 + SIGINT)
