"""The comment on a pull request: the verdict on the run that its job saved, or why there is none."""

from dataclasses import dataclass

from embedopt.errors import EmbedoptError
from embedopt.judge.gate.verdict import exit_code
from embedopt.report.escape import markdown
from embedopt.report.judged_run import JudgedRun
from embedopt.report.markdown import render_markdown

NOTHING_TO_MEASURE = "### embedopt: nothing to measure: this pull request changes nothing that is measured\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The job that measured a pull request.

    Attributes:
        commit: sha of the commit that was measured.
        conclusion: how the job ended, in GitHub's words.
        log_url: address of its log.
    """

    commit: str
    conclusion: str
    log_url: str


def render_comment(job: Job, judged: JudgedRun | EmbedoptError | None, price_per_hour: float) -> str:
    """Return the comment as Markdown.

    Args:
        job: the job that measured.
        judged: the judged run that it saved, why that can't be judged, or None where it saved no run.
        price_per_hour: dollars for an hour of the machine.
    """
    conclusion, log = markdown(job.conclusion), f"[the log]({job.log_url})"
    measured = f"\nMeasured at {markdown(job.commit[:12])}: {log}.\n"
    if judged is None:
        return f"### embedopt: no verdict: the job ended ({conclusion}) before it saved a run\n{measured}"
    if isinstance(judged, EmbedoptError):
        head = "### embedopt: no verdict: what the job saved can't be read"
        return f"{head}\n\n{markdown(judged)}\n{measured}"
    # The required check holds more than the gate: all shards, and the floors of the suite itself.
    only_job_failed = job.conclusion != "success" and not exit_code(judged.verdicts)
    besides = f", but the job failed ({conclusion}): {log}" if only_job_failed else ""
    return render_markdown(judged, price_per_hour, besides=besides) + measured
