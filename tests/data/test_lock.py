"""One command at a time: until its last process ends, killed or not."""

import multiprocessing

import pytest

from ldm.data.lock import alone


def wait(lock, ready, end):
    ready.send(None)
    end.recv()


def test_another_is_refused_until_the_end(tmp_path):
    file = tmp_path / "lock"
    refused = pytest.raises(ValueError, match="is being made")
    with alone(file, ""), refused, alone(file, "is being made"):
        pass
    with alone(file, ""):
        pass


def test_a_process_that_outlives_the_command_keeps_others_out(tmp_path):
    file = tmp_path / "lock"
    context = multiprocessing.get_context("forkserver")  # as the commands do it
    (ready, told), (asked, end) = context.Pipe(duplex=False), context.Pipe(duplex=False)
    with alone(file, "") as lock:
        process = context.Process(target=wait, args=(lock, told, asked))
        process.start()
        ready.recv()
    with pytest.raises(ValueError, match="is being made"), alone(file, "is being made"):
        pass
    process.kill()
    process.join()
    end.close()
    with alone(file, ""):
        pass
