"""A stand-in for the wandb module that writes down what it is asked for."""

import os
from types import SimpleNamespace


class FakeWandb:
    """``runs`` are those that were opened; functions named in ``fails`` raise."""

    __spec__ = "as an installed module has one"

    def __init__(self, *, logged_in=False):
        self.logged_in, self.runs, self.fails = logged_in, [], set()

    def Settings(self, **settings):
        return settings

    def login(self, *, prompt, verify):
        assert not prompt and not verify  # nothing is asked, neither here nor over the network
        return self.logged_in and os.environ.get("WANDB_MODE") not in ("offline", "disabled")

    def Image(self, path, caption=None):
        return ("image", path, caption)

    def init(self, **given):
        self.act("init")
        self.runs.append(FakeRun(self, given))
        return self.runs[-1]

    def act(self, what):
        if what in self.fails:
            raise ConnectionError(f"no network for {what}")


class FakeRun:
    """One opened run: ``history`` as wandb keeps it, which drops a step of its own that is past."""

    url = "https://wandb.example/run"

    def __init__(self, module, given):
        self.module, self.given = module, given
        self.history, self.metrics, self.exit_code = [], {}, None
        self.settings = SimpleNamespace(sync_dir=f"{given['dir']}/wandb/offline-run-1")

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def log(self, row):
        self.module.act("log")
        self.history.append(dict(row))

    def finish(self, exit_code):
        self.module.act("finish")
        self.exit_code = exit_code
