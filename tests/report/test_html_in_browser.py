"""The page in a browser: nothing is outside the window, and the console stays empty."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from warmfront.report.html import render_html

from tests.report.samples import full_result

PROBE = """<script>
const out = [];
for (const node of document.querySelectorAll("main *")) {
  const box = node.getBoundingClientRect();
  if (box.width && (box.right > innerWidth + 1 || box.left < -1)) out.push(node.tagName + ":" + node.textContent.slice(0, 40));
  if (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === "hidden") out.push("cut " + node.tagName);
}
document.documentElement.dataset.outside = out.join(" | ");
document.documentElement.dataset.width = innerWidth;
document.documentElement.dataset.page = getComputedStyle(document.body).backgroundColor;
</script>"""
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
]


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(full_result())


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 500, 390])
def test_nothing_is_cut_off_and_the_console_is_empty(page: str, tmp_path: Path, width: int, dark: bool) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.fail("needs chromium: apt-get install chromium")
    # The window of a headless chromium has a minimum width; a frame has none.
    probed = re.sub(r"<meta http-equiv=\"Content-Security-Policy\".*?>", "", page).replace("</main>", f"</main>{PROBE}")
    (tmp_path / "page.html").write_text(probed, encoding="utf-8")
    frame = f'<iframe id="f" src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
    report = "onload = () => document.body.textContent = JSON.stringify({...f.contentDocument.documentElement.dataset})"
    (tmp_path / "frame.html").write_text(f"<!doctype html>{frame}<script>{report}</script>", encoding="utf-8")
    arguments = [browser, *QUIET, "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    arguments += ["--blink-settings=preferredColorScheme=0"] if dark else []
    arguments += [
        "--window-size=1400,1000",
        "--virtual-time-budget=5000",
        "--dump-dom",
        f"file://{tmp_path / 'frame.html'}",
    ]
    seen = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    assert f'"width":"{width}"' in seen.stdout
    assert '"outside":""' in seen.stdout, seen.stdout
    assert ("rgb(13, 17, 23)" in seen.stdout) is dark
    assert "CONSOLE" not in seen.stderr
