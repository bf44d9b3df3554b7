"""Files from the Hugging Face hub, or from its local cache where the hub can't be reached."""

from pathlib import Path
from typing import Any

from embedopt.errors import WeightsError, first_line


def snapshot(name: str, revision: str | None = None, **patterns: Any) -> Path:
    """Return the folder of a hub repository's files, downloading those that are new.

    Args:
        name: owner/name.
        revision: branch, tag or commit; None for the main branch.
        patterns: which files, as ``huggingface_hub.snapshot_download`` takes them.

    Raises:
        WeightsError: there is no such repository or revision, or the hub can't be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, **patterns))
    except HFValidationError:
        reason = "that is no hub name (owner/name) and no folder of that name is here"
    except LocalEntryNotFoundError:
        reason = "the hub can't be reached and the model is not in its local cache"
    except (HfHubHTTPError, OSError) as error:  # the errors of requests are OSErrors
        reason = f"the hub answered: {first_line(error)}"
    at = f" at revision {revision!r}" if revision else ""
    raise WeightsError(
        f"model {name!r}{at}: {reason}; give --model a local folder, or check the name and the network"
    )
