"""The one comment that a pull request gets: made once, then updated in place.

It runs with a token that may write, so it trusts nothing of the pull request: the number comes from GitHub's
own event, and the text is made here, of a saved run that is read as data.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from embedopt.errors import GitHubError

# Not shown; it tells our comment from others of the same bot.
_MARKER = "<!-- embedopt -->"
_BOT = "github-actions[bot]"
_TIMEOUT_S = 30
# What ends so has measured nothing, and nobody has to hear of it.
_UNMEASURED = ("action_required", "cancelled", "skipped")
# What to do about a refusal, by its status; 4 and 5 are the rest of their hundreds.
_ADVICE: Mapping[int, str] = {
    401: "the token is not valid any more: run the job again",
    403: "the job needs pull-requests: write",
    404: "there is no such thing, or the token may not see it: check GITHUB_REPOSITORY",
    429: "too many requests came before it: run the job again in an hour",
    4: "GitHub takes no such request: check GITHUB_API_URL",
    5: "GitHub is in trouble: run the job again later",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """The run that an event is about: of GitHub's own making, but for the names of a fork and its branch.

    Attributes:
        numbers: of the pull requests from the branch; none of a fork's.
        head_sha: the commit that was measured.
        head_owner: who has the fork; None where it is gone.
        head_branch: the branch that was measured.
        conclusion: how the run ended.
        url: of its log.
    """

    numbers: tuple[int, ...]
    head_sha: str
    head_owner: str | None
    head_branch: str
    conclusion: str
    url: str

    @property
    def why_no_comment(self) -> str | None:
        """Say why nobody is to be told of the run; None where someone is."""
        if self.conclusion in _UNMEASURED:
            return f"the run measured nothing ({self.conclusion})"
        if not self.numbers and self.head_owner is None:
            return "the fork that was measured is gone"
        return None


def read_event(file: Path) -> WorkflowRun:
    """Read the event ``workflow_run`` from the file in which GitHub's runner leaves it.

    Raises:
        GitHubError: there is none, or it is another one.
    """
    try:
        run = json.loads(file.read_text(encoding="utf8"))["workflow_run"]
        head = run["head_repository"]  # none, where the fork is gone
        return WorkflowRun(
            numbers=tuple(int(pull["number"]) for pull in run["pull_requests"] or ()),
            head_sha=str(run["head_sha"]),
            head_owner=None if head is None else str(head["owner"]["login"]),
            head_branch=str(run["head_branch"]),
            conclusion=str(run["conclusion"]),
            url=str(run["html_url"]),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise GitHubError(f"{file} can't be used ({error}); wanted the event workflow_run") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """A repository on GitHub, over its REST API.

    Attributes:
        api_url: of the API.
        repository: owner and name.
        token: that may write comments.
    """

    api_url: str
    repository: str
    token: str = field(repr=False)

    def pull_request_of(self, run: WorkflowRun) -> int | None:
        """Return the open pull request that a run measured; None where it has moved on, or is closed.

        Of a fork's, the event has no number: there it is the one of that branch, at that commit.
        """
        if run.numbers:
            pulls = [self._ask("GET", f"/pulls/{number}").json() for number in run.numbers]
        else:
            head = {"head": f"{run.head_owner}:{run.head_branch}", "state": "open"}
            pulls = list(self._pages("/pulls", head))
        found = [pull for pull in pulls if pull["state"] == "open" and pull["head"]["sha"] == run.head_sha]
        return int(found[0]["number"]) if found else None

    def comment(self, pull_request: int, text: str, *, only_update: bool = False) -> str:
        """Put a text into our comment on a pull request, and say what was done.

        Args:
            pull_request: its number.
            text: Markdown.
            only_update: make none where there is none.

        Raises:
            GitHubError: GitHub can't be reached, or refuses.
        """
        body = {"body": f"{_MARKER}\n{text}"}
        for comment in self._pages(f"/issues/{pull_request}/comments", {}):
            author = (comment["user"] or {}).get("login")  # none, where the account is gone
            if author == _BOT and str(comment["body"]).startswith(_MARKER):
                self._ask("PATCH", f"/issues/comments/{int(comment['id'])}", json=body)
                return "updated"
        if only_update:
            return "nothing to update"
        self._ask("POST", f"/issues/{pull_request}/comments", json=body)
        return "created"

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[Any]:
        page = 1
        while found := self._ask("GET", path, params={**query, "per_page": "100", "page": str(page)}).json():
            yield from found
            page += 1

    def _ask(self, method: str, path: str, **request: Any) -> requests.Response:
        url = f"{self.api_url}/repos/{self.repository}{path}"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json"}
        try:
            answer = requests.request(method, url, headers=headers, timeout=_TIMEOUT_S, **request)
        except requests.RequestException as error:
            raise GitHubError(
                f"{method} {url}: no answer ({type(error).__name__}); run the job again"
            ) from None
        if not answer.ok:
            status = answer.status_code
            advice = _ADVICE.get(status) or _ADVICE[status // 100]
            raise GitHubError(f"{method} {url}: {status} {answer.reason}; {advice}")
        return answer
