"""The comment on a pull request: the verdict on the run that its job saved, or why there is none."""

from embedopt.errors import EmbedoptError
from embedopt.judge.gate.verdict import exit_code
from embedopt.report.escape import markdown
from embedopt.report.judged_run import JudgedRun
from embedopt.report.markdown import render_markdown

NOTHING_TO_MEASURE = "### embedopt: nothing to measure: this pull request changes nothing that is measured\n"


def render_comment(
    judged: JudgedRun | EmbedoptError | None,
    price_per_hour: float,
    *,
    commit: str,
    conclusion: str,
    log_url: str,
) -> str:
    """Return the comment as Markdown: the verdict on the run of a job that measured ``commit``.

    ``judged`` is the reason where the run can't be judged, and None where the job saved no run;
    ``conclusion`` is GitHub's word for how the job ended.
    """
    ended, log = markdown(conclusion), f"[the log]({log_url})"
    measured = f"\nMeasured at {markdown(commit[:12])}: {log}.\n"
    if judged is None:
        return f"### embedopt: no verdict: the job ended ({ended}) before it saved a run\n{measured}"
    if isinstance(judged, EmbedoptError):
        head = "### embedopt: no verdict: what the job saved can't be read"
        return f"{head}\n\n{markdown(judged)}\n{measured}"
    # The required check covers more than the gate: all shards, and the suite's own floors.
    only_job_failed = conclusion != "success" and not exit_code(judged.verdicts)
    besides = f", but the job failed ({ended}): {log}" if only_job_failed else ""
    return render_markdown(judged, price_per_hour, besides=besides) + measured
