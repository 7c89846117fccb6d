"""Whether this machine is offline, and by whose word; a connection is opened only when asked."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from ldm.apps.machine import Check

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_LIMIT_SECONDS = 5
_FALSE = ("", "0", "false", "no", "off")


def settings(environment: Mapping[str, str] | None = None) -> Check:
    """What the environment says of the network; passwords of proxies are not shown."""
    given = os.environ if environment is None else environment
    offline = [name for name in OFFLINE if given.get(name, "").lower() not in _FALSE]
    found = [f"offline by {', '.join(offline)}"] if offline else []
    for name in PROXIES:
        for variable in (name, name.lower()):
            if given.get(variable):
                found.append(f"{variable}={_without_password(given[variable])}")
    for name in FILES:
        if given.get(name) and not os.path.exists(given[name]):
            return Check(
                "network",
                "warn",
                f"{name}={given[name]} does not exist, so no https connection will be trusted",
                f"Correct it, or `unset {name}`.",
            )
    said = "; ".join(found) or "nothing is said of it; not tried"
    remedy = (
        "Training needs none. To try the servers of pretrained files: `ldm doctor network=true`."
    )
    return Check("network", "ok", said, remedy)


def tried(urls: Mapping[str, str]) -> list[Check]:
    """Whether each server answers; ``urls`` are one for each, by its name."""
    return [_tried(name, url) for name, url in urls.items()]


def hosts() -> dict[str, str]:
    """An address on each server of pretrained files."""
    from ldm.weights import TABLE

    urls = [file.url for network in TABLE.values() for file in network.files]
    return {str(urlsplit(url).hostname): url for url in urls}


def _tried(name: str, url: str) -> Check:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=_LIMIT_SECONDS):
            pass
    except HTTPError as error:  # it answers, whatever it thinks of the question
        if error.code in (407, 511):
            return _refused(name, f"the proxy refuses: {error}")
    except (OSError, ValueError) as error:
        return _refused(name, str(getattr(error, "reason", error)))
    return Check(name, "ok", "answers")


def _refused(name: str, why: str) -> Check:
    remedy = (
        "Behind a proxy: export HTTPS_PROXY=http://HOST:PORT. Without a network: `ldm weights "
        "list` shows addresses and where each file belongs, to be copied by hand."
    )
    return Check(name, "warn", f"does not answer: {why}", remedy)


def _without_password(url: str) -> str:
    before, at, host = url.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme}{separator}...@{host}" if at else url
