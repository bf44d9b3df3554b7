"""Makes the README's picture of the page from made-up runs: ``python -m tests.picture .github/page.png``."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from embedopt.judge.history.saved_runs import read_history
from embedopt.report.page import render_page
from tests.histories import write_history


def main(picture: Path) -> None:
    """Open the page of 1,000 runs in a browser, and save a picture of it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Debian's Chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        page_file.write_text(
            render_page(read_history(write_history(Path(folder) / "history", 1000)), 0.05), encoding="utf8"
        )
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(page_file.as_uri())
        picture.parent.mkdir(parents=True, exist_ok=True)
        last = page.locator("section", has_text="Throughput").bounding_box()
        assert last is not None
        # The picture ends below a whole row of charts.
        height = last["y"] + last["height"] + 16
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": height})
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
