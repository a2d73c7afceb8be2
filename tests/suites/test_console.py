"""The console of `serve --demo` in headless Chromium: every chart draws and moves, wide and narrow.

Pictures are kept in the cache folder, under `screenshots/`, for a person to look at.
"""

import os
import signal
import subprocess

import pytest
from harness.broker import die_with_parent, free_port, http_get, wait_for
from harness.chromium import Page, settle
from harness.provision import CACHE

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.odradek_only]
CHARTS_MIN = 4  # candles with Bollinger bands, Aroon, flights a day, predicted against actual

# Charts are the canvases below one element with an id; each gets a digest of its pixels, and the
# number of colours in it (1: nothing is drawn).
CHARTS = """
(() => {
  const charts = {};
  for (const canvas of document.querySelectorAll('canvas')) {
    if (!canvas.width || !canvas.height) continue;
    const up = canvas.parentElement;
    const box = up.closest('[data-chart]') || up.closest('[id]') || document.body;
    const name = box.dataset.chart || box.id || 'page';
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const words = new Uint32Array(pixels.buffer);
    const colours = new Set();
    let digest = 2166136261;
    for (let at = 0; at < words.length; at++) {
      digest = Math.imul(digest ^ words[at], 16777619);
      if (colours.size < 50) colours.add(words[at]);
    }
    const chart = charts[name] ||= {digest: '', colours: 0};
    chart.digest += digest + ' ';
    chart.colours = Math.max(chart.colours, colours.size);
  }
  return charts;
})()
"""


@pytest.fixture(scope="module")
def demo(folders):
    """`odradek serve --demo`, as a new user starts it, on free ports."""
    folder = folders()
    kafka, http = free_port(), free_port()
    log = open(folder / "demo.log", "wb")
    process = subprocess.Popen(
        [os.environ["ODRADEK_BIN"], "serve", "--demo", "--kafka-port", str(kafka), "--http-port",
         str(http), "--data", str(folder / "data")],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
        preexec_fn=die_with_parent)
    url = f"http://127.0.0.1:{http}"

    def ready():
        assert process.poll() is None, (folder / "demo.log").read_text()
        try:
            return http_get(url + "/readyz")[0] == 200
        except OSError:
            return False

    wait_for("the demo to be ready", ready, 60)
    yield {"url": url, "kafka": kafka, "http": http, "log": folder / "demo.log",
           "data": folder / "data"}
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=40)
    finally:
        process.kill()
    log.close()


@pytest.fixture(scope="module")
def page(demo):
    with Page() as page:
        page.open(demo["url"] + "/")
        yield page


def test_the_demo_prints_where_to_go(demo):
    wait_for("four lines", lambda: len(demo["log"].read_text().splitlines()) >= 4, 20)
    said = demo["log"].read_text()
    assert str(demo["kafka"]) in said and str(demo["http"]) in said
    assert str(demo["data"]) in said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 4, said


def test_every_chart_draws(page):
    def drawn():
        charts = page.evaluate(CHARTS)
        return len(charts) >= CHARTS_MIN and all(one["colours"] > 1 for one in charts.values())

    wait_for("every chart to draw", drawn, 150, 1)


def test_every_chart_moves(page):
    first = page.evaluate(CHARTS)
    still = set(first)

    def moved():
        for name, chart in page.evaluate(CHARTS).items():
            if chart["digest"] != first.get(name, chart)["digest"]:
                still.discard(name)
        return not still

    try:
        wait_for("every chart to move", moved, 180, 1)
    except AssertionError as error:
        raise AssertionError(f"these charts stand still: {sorted(still)}") from error


@pytest.mark.parametrize("name, width, height", [("wide", 1280, 1000), ("narrow", 360, 740)])
def test_the_page_fits_and_is_pictured(page, name, width, height):
    page.resize(width, height)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    charts = page.evaluate(CHARTS)
    assert len(charts) >= CHARTS_MIN
    assert all(one["colours"] > 1 for one in charts.values()), charts
    pictures = CACHE / "screenshots"
    pictures.mkdir(parents=True, exist_ok=True)
    page.screenshot(pictures / f"console-{name}.png")


def test_nothing_was_asked_of_another_host_and_nothing_went_wrong(demo, page):
    others = [url for url in page.requests
              if not url.startswith((demo["url"] + "/", "data:", "blob:", "about:"))]
    assert others == []
    assert page.complaints == []


def test_the_charts_go_on_after_the_broker_was_away(demo, page):
    """Nothing to see here but the page's own recovery: the stream is cut and comes back."""
    page.resize(1280, 1000)
    page.call("Network.emulateNetworkConditions", offline=True, latency=0,
              downloadThroughput=-1, uploadThroughput=-1)
    settle(page, 2)
    page.call("Network.emulateNetworkConditions", offline=False, latency=0,
              downloadThroughput=-1, uploadThroughput=-1)
    first = page.evaluate(CHARTS)
    wait_for("a chart to move again", lambda: any(
        chart["digest"] != first[name]["digest"]
        for name, chart in page.evaluate(CHARTS).items() if name in first), 90, 1)
