"""
The site in a browser, at the width of a screen and of a phone: `make test-browser`.

Chromium opens one page, which loads every page of the site in a frame of each width, measures it, and sends what it
found to the server that it came from.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import trl_mtgrpo


ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (1400, 400)
HARNESS = (Path(__file__).with_name("data") / "measure_site.html").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install it and run `make test-browser`"),
]

Measured = dict[str, dict[str, Any]]  # by page and width, as "api.html 400"


class Server(ThreadingHTTPServer):
    """Serves the site and the page that measures it, and keeps what that page sends."""

    def __init__(self, folder: Path) -> None:
        self.found: Measured = {}
        self.finished = threading.Event()
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))


class Handler(SimpleHTTPRequestHandler):
    """Files of the site; `/measure` is the page that measures, and where it reports."""

    server: Server

    def do_GET(self) -> None:
        if self.path != "/measure":
            return super().do_GET()
        pages = sorted(path.name for path in Path(self.directory).glob("*.html") if path.name != "404.html")
        pages += sorted(f"research/{path.name}" for path in Path(self.directory, "research").glob("*.html"))
        body = HARNESS.replace("PAGES", json.dumps(pages)).replace("WIDTHS", json.dumps(WIDTHS)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def do_POST(self) -> None:
        self.server.found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.finished.set()

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def measured(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    server = Server(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    address = f"http://127.0.0.1:{server.server_port}/measure"
    log = (tmp_path_factory.mktemp("log") / "chromium.txt").open("w", encoding="utf-8")
    command = [str(CHROMIUM), *flags, profile, "--window-size=1500,1000", "--remote-debugging-port=0", address]
    browser = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        assert server.finished.wait(timeout=300), Path(log.name).read_text(encoding="utf-8")[-2000:]
        yield server.found
    finally:
        browser.terminate()
        browser.wait(timeout=30)
        server.shutdown()
        log.close()


def of(measured: Measured, key: str, width: int | None = None) -> dict[str, Any]:
    """What is not empty under a key, by page and width."""
    pages = {name: page[key] for name, page in measured.items() if page[key]}
    return {name: value for name, value in pages.items() if width is None or name.endswith(f" {width}")}


def test_every_page_was_measured_at_both_widths(measured: Measured, site: Path) -> None:
    pages = ("index.html", "api.html", "research/benchmarks.html")
    assert {f"{page} {width}" for page in pages for width in WIDTHS} <= set(measured)
    assert len(measured) > 60


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window(measured: Measured, width: int) -> None:
    assert not of(measured, "overflow", width)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_without_a_way_to_scroll(measured: Measured, width: int) -> None:
    assert not of(measured, "cut", width)


def test_on_a_screen_no_code_and_no_table_has_to_be_scrolled(measured: Measured) -> None:
    assert not of(measured, "scrolled", 1400)


def test_links_lead_to_anchors_that_exist(measured: Measured) -> None:
    assert not of(measured, "broken")


def test_formulas_are_drawn(measured: Measured) -> None:
    assert not of(measured, "undrawn")
    assert measured["method.html 1400"]["formulas"] > 20


def test_pictures_load(measured: Measured) -> None:
    assert not of(measured, "unloaded")


def test_every_public_name_has_an_anchor_and_something_to_read(measured: Measured) -> None:
    entries = measured["api.html 1400"]["entries"]
    assert set(entries) == {f"trl_mtgrpo.{name}" for name in trl_mtgrpo.__all__ if name != "__version__"}
    assert not [name for name, count in entries.items() if not count]


def test_the_config_lists_every_field_of_its_own(measured: Measured) -> None:
    from trl_mtgrpo.host.config import OWN_FIELDS

    assert set(OWN_FIELDS) - {"_VALID_DICT_FIELDS"} <= set(measured["api.html 1400"]["config"])
