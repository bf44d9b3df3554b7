"""The errors that embedopt raises on purpose.

Each message is one line that says what was found, what was wanted, and what to do.
They are caught once, in the command line and in ``plugin.py``.
"""


class EmbedoptError(Exception):
    """Base of all errors that embedopt raises on purpose."""


class UsageError(EmbedoptError):
    """An option or argument has a value that is not allowed."""


class InputError(EmbedoptError):
    """A text, or a file of texts, can't be used as it is."""


class WeightsError(EmbedoptError):
    """A model's files are missing, damaged or out of reach."""


class ArtifactError(EmbedoptError):
    """An artifact can't be built, stored or opened, or saved settings are damaged."""


class UnsupportedModelError(ArtifactError):
    """A backend can't give the embeddings that sentence-transformers gives with a model."""


class MissingPackageError(EmbedoptError):
    """A backend needs a package of the extra ``peers`` that is not installed."""


class Overloaded(EmbedoptError):  # noqa: N818  # a state of the service, which a caller answers with "try later"
    """A request was refused: the queue is full, or it can't be answered before its deadline."""


class Refused(Overloaded):
    """An endpoint that is not ours answered that it is overloaded."""


class MeasureError(EmbedoptError):
    """A quantity can't be measured here."""


class RecordError(EmbedoptError):
    """A saved run, or another record, can't be read."""


class OutputError(EmbedoptError):
    """A file can't be written."""


class GitError(EmbedoptError):
    """Git can't check out, fetch or push a commit, or is not installed."""


class GitHubError(EmbedoptError):
    """GitHub can't be reached, refuses a request, or sent an event that can't be used."""


def first_line(error: BaseException) -> str:
    """Return the first line of the message of another library's error."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def last_line(output: str) -> str:
    """Return the last line that a process wrote to standard error, which says why it ended.

    Of git's output it is the first line marked as fatal, since git may give advice after it.
    """
    lines = output.strip().splitlines() or ["it wrote no error"]
    return next((line for line in lines if line.startswith("fatal: ")), lines[-1])


def reason_of(error: OSError) -> str:
    """Return why the system refused to read or write, as a part of a sentence."""
    return (error.strerror or str(error)).lower()
