"""Headless Chromium by its DevTools protocol: one page, its console, its requests, its pictures."""

import base64
import json
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from websockets.sync.client import connect

from .broker import die_with_parent, http_get, wait_for

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-port=0", "about:blank",
]


class Page:
    def __init__(self, width=1280, height=1000):
        self.profile = Path(tempfile.mkdtemp(prefix="odradek-chromium-"))
        self.process = subprocess.Popen(
            ["chromium", f"--user-data-dir={self.profile}", *FLAGS], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.complaints, self.requests, self.answers = [], [], {}
        self.count = 0
        self.arrived = threading.Condition()
        self.socket = connect(self.target(), max_size=64 << 20)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def target(self):
        """The address of the first page's own socket."""
        announced = self.profile / "DevToolsActivePort"
        wait_for("Chromium to start",
                 lambda: announced.exists() and len(announced.read_text().split()) > 1, 60)
        port = announced.read_text().split()[0]

        def pages():
            found = json.loads(http_get(f"http://127.0.0.1:{port}/json/list")[2])
            return [one["webSocketDebuggerUrl"] for one in found if one["type"] == "page"]

        return wait_for("a page", pages, 20)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def read(self):
        try:
            for text in self.socket:
                self.take(json.loads(text))
        except Exception as error:
            self.complaints.append(f"DevTools ended: {error!r}")
        with self.arrived:
            self.answers[None] = True
            self.arrived.notify_all()

    def take(self, message):
        method, said = message.get("method"), message.get("params", {})
        if method is None:
            with self.arrived:
                self.answers[message["id"]] = message
                self.arrived.notify_all()
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {json.dumps(said['exceptionDetails'])[:600]}")
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.complaints.append(f"console: {json.dumps(said['args'])[:600]}")
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(f"log: {json.dumps(said['entry'])[:600]}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def call(self, method, seconds=60, **arguments):
        self.count += 1
        number = self.count
        self.socket.send(json.dumps({"id": number, "method": method, "params": arguments}))
        with self.arrived:
            there = self.arrived.wait_for(
                lambda: number in self.answers or None in self.answers, seconds)
            assert there and number in self.answers, f"{method} was not answered"
            answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)

    def open(self, url):
        self.call("Page.navigate", url=url)
        wait_for(f"{url} to load",
                 lambda: self.evaluate("document.readyState") == "complete", 30)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path):
        """The whole page, below the fold too."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000),
                "scale": 1}
        taken = self.call("Page.captureScreenshot", format="png", clip=clip,
                          captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(taken["data"]))


def settle(page, seconds=1.0):
    """Lets a layout that follows a resize happen: two animation frames and a little more."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        page.evaluate("0")
