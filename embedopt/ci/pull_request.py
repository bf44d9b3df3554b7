"""The one comment that embedopt puts on a pull request: created once, then updated in place.

The job that comments has a token with write access, so nothing from the pull request is trusted: its number
comes from GitHub's own event, and the text is made here, from a saved run that is read as data.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from embedopt.errors import GitHubError

# Invisible in a comment; distinguishes our comment from others by the same bot.
_MARKER = "<!-- embedopt -->"
_BOT = "github-actions[bot]"
_TIMEOUT_S = 30
# Conclusions of a workflow run that has measured nothing: it gets no comment.
_UNMEASURED = ("action_required", "cancelled", "skipped")
# What to do about an HTTP error, by its status. Keys 4 and 5: any other 4xx or 5xx.
_ADVICE: Mapping[int, str] = {
    401: "the token is not valid, or has expired: run the job again",
    403: "the token may not comment: give the job the permission pull-requests: write",
    404: "it does not exist, or the token may not see it: check GITHUB_REPOSITORY",
    429: "there were too many requests: run the job again in an hour",
    4: "GitHub does not accept this request: check GITHUB_API_URL",
    5: "GitHub has a problem of its own: run the job again later",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """The workflow run that an event reports.

    GitHub sets all values, but the names in ``head_owner`` and ``head_branch`` are chosen by a fork's owner.

    Attributes:
        numbers: numbers of the pull requests from the branch; empty for a fork's branch.
        head_owner: owner of the repository that was measured; None where that repository is deleted.
        conclusion: how the run ended, in GitHub's words, such as ``success``.
    """

    numbers: tuple[int, ...]
    head_sha: str
    head_owner: str | None
    head_branch: str
    conclusion: str
    url: str

    @property
    def why_no_comment(self) -> str | None:
        """The reason why the run gets no comment; None where it gets one."""
        if self.conclusion in _UNMEASURED:
            return f"the run measured nothing ({self.conclusion})"
        if not self.numbers and self.head_owner is None:
            return "the fork that was measured is deleted"
        return None


def read_event(file: Path) -> WorkflowRun:
    """Read the event ``workflow_run`` from the file that GitHub's runner wrote it to.

    Raises:
        GitHubError: the file is missing, or holds another event.
    """
    try:
        run = json.loads(file.read_text(encoding="utf8"))["workflow_run"]
        head = run["head_repository"]  # None where the fork is deleted
        return WorkflowRun(
            numbers=tuple(int(pull["number"]) for pull in run["pull_requests"] or ()),
            head_sha=str(run["head_sha"]),
            head_owner=None if head is None else str(head["owner"]["login"]),
            head_branch=str(run["head_branch"]),
            conclusion=str(run["conclusion"]),
            url=str(run["html_url"]),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise GitHubError(
            f"{file} can't be read ({error}); wanted the event workflow_run: call this from comment.yml"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """A repository on GitHub, over its REST API.

    Attributes:
        repository: owner and name, with a slash between them.
        token: access token with the permission to write comments.
    """

    api_url: str
    repository: str
    token: str = field(repr=False)

    def pull_request_of(self, run: WorkflowRun) -> int | None:
        """Return the number of the open pull request that a run measured.

        None where the pull request is closed or has a newer commit. The event of a fork's pull request holds
        no number: there, the pull request is looked up by its branch and commit.

        Raises:
            GitHubError: GitHub can't be reached, or refuses.
        """
        if run.numbers:
            pulls = [self._request("GET", f"/pulls/{number}").json() for number in run.numbers]
        else:
            query = {"head": f"{run.head_owner}:{run.head_branch}", "state": "open"}
            pulls = list(self._pages("/pulls", query))
        measured = [pull for pull in pulls if pull["state"] == "open" and pull["head"]["sha"] == run.head_sha]
        return int(measured[0]["number"]) if measured else None

    def comment(self, pull_request: int, text: str, *, only_update: bool = False) -> str:
        """Create or update our comment on a pull request: ``text`` in Markdown.

        With ``only_update``, a pull request without a comment stays as it is.

        Returns:
            What was done, in words.

        Raises:
            GitHubError: GitHub can't be reached, or refuses.
        """
        body = {"body": f"{_MARKER}\n{text}"}
        for comment in self._pages(f"/issues/{pull_request}/comments", {}):
            author = (comment["user"] or {}).get("login")  # None where the account is deleted
            if author == _BOT and str(comment["body"]).startswith(_MARKER):
                self._request("PATCH", f"/issues/comments/{int(comment['id'])}", json=body)
                return "updated"
        if only_update:
            return "nothing to update"
        self._request("POST", f"/issues/{pull_request}/comments", json=body)
        return "created"

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[Any]:
        """Yield the items of a list, of which GitHub returns at most 100 at a time."""
        page = 1
        while items := self._request("GET", path, params={**query, "per_page": 100, "page": page}).json():
            yield from items
            page += 1

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        url = f"{self.api_url}/repos/{self.repository}{path}"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json"}
        try:
            answer = requests.request(method, url, headers=headers, timeout=_TIMEOUT_S, **options)
        except requests.RequestException as error:
            raise GitHubError(
                f"{method} {url}: no answer ({type(error).__name__}): run the job again"
            ) from None
        if not answer.ok:
            status = answer.status_code
            advice = _ADVICE.get(status) or _ADVICE[status // 100]
            raise GitHubError(f"{method} {url}: {status} {answer.reason}; {advice}")
        return answer
