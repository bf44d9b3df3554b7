"""Calls of the ``git`` program, none of which depends on the repository that embedopt itself runs in."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from embedopt.errors import GitError, reason_of

# The only GIT_* variables that are passed on say how a remote is reached: programs, certificates, proxies and
# the place of the user's configuration, which holds the credentials. All others name the repository, command
# or commit of an outer git process, such as a hook that runs the suite, and must not apply here.
_PASSED_ON = re.compile(r"GIT_(SSH|SSL|HTTP|PROXY|ASKPASS|ALLOW_PROTOCOL|CONFIG_(?!PARAMETERS))")

Finished = subprocess.CompletedProcess[str]


def git(
    folder: Path, *arguments: str, settings: Mapping[str, str] | None = None, new_session: bool = False
) -> Finished:
    """Run git in a folder and return what it printed and its exit code.

    The settings are configuration for this call only, by key. In a new session, Ctrl-C in the terminal leaves
    git running to its end.

    Raises:
        GitError: there is no git on the PATH, or it can't be run.
    """
    options = [option for key, value in (settings or {}).items() for option in ("-c", f"{key}={value}")]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or _PASSED_ON.match(name)
    }
    try:
        return subprocess.run(
            ["git", *options, "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf8",
            errors="replace",  # a hook of a remote prints in any encoding
            env=kept | {"GIT_TERMINAL_PROMPT": "0"},  # nobody is there to answer a prompt
            start_new_session=new_session,
        )
    except FileNotFoundError:
        raise GitError(
            "git is not on the PATH; wanted it to check out or push a commit: install it"
        ) from None
    except OSError as error:
        raise GitError(f"git can't be run ({reason_of(error)}); wanted the git program on the PATH") from None
