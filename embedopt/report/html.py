"""The page: one file that opens from disk, without a network.

What it shows is data in it, never markup. Its policy lets no script run but its own two, told by their
digests, and nothing be fetched.
"""

import base64
import hashlib
import json
from importlib import resources
from string import Template

from embedopt.errors import RecordError
from embedopt.judge.history.saved_runs import History
from embedopt.report.page import page_data


def render_page(history: History, price_per_hour: float) -> str:
    """Return the page on a history as HTML.

    Args:
        history: at least one run.
        price_per_hour: of the machine, in dollars.

    Raises:
        RecordError: the history has no run.
    """
    if not history.runs:
        raise RecordError("the history has no run that can be shown: run pytest benchmarks/ first")
    # As a package it takes a second to import; all that is needed of it is a file.
    plotly = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf8")
    script = _asset("page.js")
    data = json.dumps(page_data(history, price_per_hour), allow_nan=False, separators=(",", ":"))
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {_digest(plotly)} {_digest(script)}"
    )
    return Template(_asset("page.html")).substitute(
        policy=policy,
        style=_asset("page.css"),
        # Nothing in a string can end the element that holds it.
        data=data.replace("<", "\\u003c"),
        plotly=plotly,
        script=script,
    )


def _asset(name: str) -> str:
    return (resources.files("embedopt.report") / "assets" / name).read_text(encoding="utf8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
